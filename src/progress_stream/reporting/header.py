"""What a Dramatiq message says of its job before anything has happened to it: whether it is one's at all, and the job's header.

Reads the message, its actor and the broker's list alone; what is written of the job is the middleware's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dramatiq.broker import Broker, MessageProxy
from dramatiq.common import q_name
from dramatiq.message import Message
from dramatiq.middleware import Retries

from .. import events
from ..errors import InvalidInput
from ..jobs import Header
from .interrupts import Refused


def is_tracked(broker: Broker, message: Message[Any] | MessageProxy) -> bool:
    """Asked for by its actor, or by the message, which may come from where the actor's code is not."""
    if "progress" in message.options:
        return bool(message.options["progress"])
    actor = broker.actors.get(message.actor_name)
    return actor is not None and bool(actor.options.get("progress") or actor.options.get("submit"))


def header_of(broker: Broker, message: MessageProxy) -> Header:
    """The header that travels with the message; made anew for one that was sent where this middleware is not."""
    if "created_at" not in message.options:
        return new_header(broker, message, inherited=None)
    header = Header.from_options(
        message.message_id, message.actor_name, q_name(message.queue_name), message.options
    )
    if header.max_attempts is not None:
        return header
    # A web server has none of the actors' code, and a job does not know its parts'.
    actor = broker.actors.get(message.actor_name)
    most = _most_attempts(broker, message, {} if actor is None else actor.options)
    return replace(header, max_attempts=most)


def new_header(broker: Broker, message: Message[Any] | MessageProxy, *, inherited: str | None) -> Header:
    """Raises Refused for what cannot be a job: to a sender it is the error of its `send()`."""
    actor = broker.actors.get(message.actor_name)
    known = {} if actor is None else actor.options
    eta = message.options.get("eta")
    owner = message.options.get("owner") or known.get("owner") or inherited
    title = message.options.get("title") or known.get("title")
    try:
        return Header(
            id=events.check_job_id(message.message_id),
            actor=message.actor_name,
            queue=q_name(message.queue_name),
            title=None if title is None else events.check_words("title", title),
            owner=None if owner is None else events.check_words("owner", owner),
            max_attempts=_most_attempts(broker, message, known),
            created_at=message.message_timestamp,
            run_at=None if eta is None else int(eta),
        )
    except InvalidInput as error:
        raise Refused(error.field, error.fault, error.allowed) from None


def _most_attempts(broker: Broker, message: Message[Any] | MessageProxy, known: dict[str, Any]) -> int | None:
    """None where no number is known: without a limit, or where a function decides."""
    retries = next((one for one in broker.middleware if isinstance(one, Retries)), None)
    if retries is None:
        return 1
    if known.get("retry_when", retries.retry_when) is not None:
        return None
    most = message.options.get("max_retries", known.get("max_retries", retries.max_retries))
    return None if most is None else int(most) + 1
