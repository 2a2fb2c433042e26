"""`POST /jobs/{id}/retry`: an ended job's actor and arguments once more, as a new job with files of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from .. import accepting, jobs, submitting
from ..accepting import Announced
from ..auth.who import WRITE, Who
from ..errors import FileGone, InvalidUpload, NotEnded, NotRepeatable, StoreUnavailable
from ..jobs import Record
from ..store.files import FileRef
from ..submitting import Submitted
from . import access, lookup, submit
from .parts import Parts, parts_of

log = logging.getLogger(__name__)


async def retry(request: Request) -> Response:
    """201 with the new job's state; 200 where the same Idempotency-Key has made it before.

    Raises NotEnded, NotRepeatable, FileGone, UnknownActor, IdempotencyConflict, BrokerRefused.
    """
    who = await access.caller(request, WRITE)
    old = lookup.job_id(request)
    key = request.headers.get("idempotency-key")
    job = submitting.job_id_for(who.subject, key)

    async def attempt() -> Submitted:
        return await _retry(request, who, old, job, key)

    async with submit.alone(parts_of(request), job):
        return await submit.answer(request, who, attempt)


async def _retry(request: Request, who: Who, id: str, job: str, key: str | None) -> Submitted:
    parts = parts_of(request)
    fingerprint = "" if key is None else submitting.fingerprint_of_retry(id)
    # First: what the key has made stands, also when the old job has been deleted since.
    if (before := await submit.done_before(parts, who, job, key, fingerprint)) is not None:
        return before
    old = await lookup.record_for(request, who, id)
    if not old.terminal:
        raise NotEnded(old.packed["id"], old.control.status)
    args, kwargs = await _arguments(parts, old)
    submitted = await to_thread.run_sync(_again, parts, old, job, args, kwargs, fingerprint)
    parts.announced.saw(old.packed["actor"])
    return submitted


async def _arguments(parts: Parts, old: Record) -> tuple[list[Any], dict[str, Any]]:
    packed = await parts.store.send(parts.store.commands.arguments(old.packed["id"]))
    if packed is None:
        raise NotRepeatable(
            "what the job was called with is not kept: it came from no queue, is no JSON, or is larger than EVENT_BYTES "
            f"({parts.settings.event_bytes} bytes)"
        )
    try:
        return jobs.unpack_arguments(packed)
    except ValueError:
        raise NotRepeatable("what is kept of its call is none that this version can make") from None


def _again(
    parts: Parts, old: Record, job: str, args: list[Any], kwargs: dict[str, Any], fingerprint: str
) -> Submitted:
    """In a thread. Files that are not the sent message's are taken away again."""
    actor = parts.submitter.actor(old.packed["actor"])
    copies: list[FileRef] = []
    submitted = None
    try:
        own_args, own_kwargs = _with_own_files(parts, actor, job, args, kwargs, copies)
        submitted = parts.submitter.repeat(actor, old.packed, job, own_args, own_kwargs, fingerprint)
        return submitted
    finally:
        if submitted is None or not submitted.sent:
            _take_away(parts, copies)


def _take_away(parts: Parts, copies: list[FileRef]) -> None:
    for ref in copies:
        try:
            parts.files.delete(ref)
        except StoreUnavailable as error:
            log.warning("file %s, which nobody needs, is left over: %s", ref["key"], error)


def _with_own_files(
    parts: Parts, actor: Announced, job: str, args: list[Any], kwargs: dict[str, Any], copies: list[FileRef]
) -> tuple[list[Any], dict[str, Any]]:
    """Copies: the old job's files go when it is deleted or expires, while this one may still read them."""

    def copy(ref: Mapping[str, Any]) -> FileRef:
        try:
            copies.append(parts.files.copy(ref, job))
        except FileNotFoundError:
            raise FileGone("the file that the job was given is no longer kept") from None
        except InvalidUpload as error:
            raise NotRepeatable(f"a file that the job was given cannot be read: {error}") from None
        return copies[-1]

    return accepting.replace_files(actor, args, kwargs, copy)
