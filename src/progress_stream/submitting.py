"""Which actors may be started from outside, and the sending of a message exactly once.

Needs none of the actors' code: workers announce name, queue, title and a JSON Schema. Blocking: async code calls it in a thread.
What an actor accepts is told by `accepting`; what a request looks like, and where an upload's bytes go, is left to the caller.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from . import events, tracing
from .accepting import Announced, arguments
from .errors import (
    BrokerRefused,
    IdempotencyConflict,
    InvalidInput,
    NoSuchJob,
    StoreError,
    Tombstoned,
    UnknownActor,
)
from .jobs import Header, State, pack_arguments
from .settings import Settings, is_rabbitmq
from .store.answers import Created
from .store.connect import sync_client
from .store.sync import SyncStore

#: The longest that a message's sending may take; a client of the web server waits for it.
BROKER_SECONDS: Final = 3.0
#: For so long one sender of a job is waited for by others who bring the same: longer than a broker may take, with its one retry.
CLAIM_SECONDS: Final = 10.0
#: Between two looks at whether that sender is through.
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody wants to be run. `files`: argument → reference of a stored file; `digests`: argument → its content's hash."""

    actor: str
    args: Mapping[str, Any]
    owner: str | None = None
    title: str | None = None
    files: Mapping[str, Mapping[str, Any]] | None = None
    digests: Mapping[str, str] | None = None
    idempotency_key: str | None = None
    job: str | None = None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job, whether this submission is the one that made it, and whether its message is what the broker was given."""

    job: str
    created: bool
    sent: bool


def job_id_for(owner: str | None, idempotency_key: str | None) -> str:
    """The same for the same owner and key, so that the job itself is the record; else a new one."""
    if idempotency_key is None:
        return str(uuid.uuid4())
    if not 0 < len(idempotency_key) <= 255 or not idempotency_key.isprintable():
        raise InvalidInput("Idempotency-Key", "is not usable", "1 to 255 printable characters")
    # The length keeps two pairs of owner and key from reading as one.
    name = owner or ""
    return hashlib.sha256(f"{len(name)}:{name}:{idempotency_key}".encode()).hexdigest()


def fingerprint_of(submission: Submission) -> str:
    """Equal for equal content; of a file its bytes and its name count, not where it lies. Empty without a key to compare under."""
    if submission.idempotency_key is None:
        return ""
    digests = submission.digests or {}
    files = {name: [ref.get("name"), digests.get(name)] for name, ref in (submission.files or {}).items()}
    content = {"actor": submission.actor, "args": submission.args, "title": submission.title, "files": files}
    return _hash_of(content)


def fingerprint_of_retry(job: str) -> str:
    """Of a request to run this job once more."""
    return _hash_of({"retry_of": job})


def _hash_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_same(found: str, fingerprint: str) -> None:
    """Raises IdempotencyConflict where a key's job was made of something else."""
    if found != fingerprint:
        raise IdempotencyConflict("this Idempotency-Key was used for other content")


class Submitter:
    """Looks actors up, makes jobs and sends their messages. One for a process: each broker client is known to Redis for a while."""

    def __init__(
        self,
        settings: Settings,
        store: SyncStore,
        broker: dramatiq.Broker | None = None,
        *,
        claim_seconds: float = CLAIM_SECONDS,
    ) -> None:
        self._settings = settings
        self._store = store
        self._given = broker
        self._claim_ms = int(claim_seconds * 1000)
        self._made: dict[str, dramatiq.Broker] = {}
        if broker is None:
            self._broker_of(None)

    def actors(self) -> list[Announced]:
        """All that a worker announces now, by name. Raises StoreUnavailable."""
        commands = self._store.commands
        names = self._store.send(commands.announced_names())
        found = self._store.send(commands.announced(names)) if names else {}
        return [actor for _, text in sorted(found.items()) if (actor := _parsed(text)) is not None]

    def actor(self, name: str) -> Announced:
        """Raises UnknownActor, which names those that are announced; StoreUnavailable."""
        found = self._store.send(self._store.commands.announced([name])).get(name)
        actor = None if found is None else _parsed(found)
        if actor is None:
            raise UnknownActor(name, tuple(actor.name for actor in self.actors()))
        return actor

    def submit(self, submission: Submission) -> Submitted:
        """Make the job, and send its message unless the broker has it already.

        Raises UnknownActor, InvalidInput, IdempotencyConflict, BrokerRefused (then no job is left), StoreUnavailable.
        """
        actor = self.actor(submission.actor)
        kwargs = arguments(actor, submission.args, submission.files)
        header = self._header(actor, submission)
        return self._send_once(actor, header, (), kwargs, fingerprint_of(submission))

    def repeat(
        self,
        actor: Announced,
        old: State,
        job: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        fingerprint: str = "",
    ) -> Submitted:
        """A new job of an old one's actor, title and owner. Its arguments were taken before: they are not checked again.

        Raises IdempotencyConflict, BrokerRefused (then no job is left), StoreUnavailable.
        """
        header = Header(
            id=events.check_job_id(job), actor=actor.name, queue=actor.queue, title=old["title"], owner=old["owner"],
            created_at=int(time.time() * 1000), retry_of=old["id"],
        )  # fmt: skip
        return self._send_once(actor, header, args, kwargs, fingerprint)

    def _send_once(
        self,
        actor: Announced,
        header: Header,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        fingerprint: str,
    ) -> Submitted:
        found = self._claim(header, fingerprint, self._kept(args, kwargs))
        sent = found.id is not None or found.claimed
        if sent:
            self._enqueue(self._broker_of(actor.broker), header, args, kwargs)
            self._confirm(header, fingerprint)
        return Submitted(header.id, created=found.id is not None, sent=sent)

    def _claim(self, header: Header, fingerprint: str, kept: bytes) -> Created:
        """The job, made or found. One that another process is sending now is waited for: its broker may refuse it yet, and then
        it is this one's to make; its process may die, and then it is this one's to send."""
        try:
            while True:
                found = self._create(header, confirmed=False, fingerprint=fingerprint, arguments=kept)
                if found.id is not None or found.claimed:
                    return found
                check_same(found.fingerprint, fingerprint)
                if found.confirmed or found.status != "queued":
                    return found
                time.sleep(_LOOK_SECONDS)
        except Tombstoned:
            # An id that is drawn anew has never been deleted: only a key leads back to a job that was.
            raise IdempotencyConflict("the job that this Idempotency-Key made was deleted") from None

    def _kept(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        return pack_arguments(args, kwargs, self._settings.event_bytes)

    def queue_sizes(self, queues: Collection[tuple[str | None, str]]) -> dict[str, int]:
        """Messages that wait or are worked on, by queue, each given with what begins its broker's keys. Delayed ones do not count,
        nor, at RabbitMQ, those that a worker has fetched.

        Nothing of a broker that is neither. Raises BrokerRefused where it does not answer.
        """
        sizes: dict[str, int] = {}
        for namespace, queue in queues:
            size = _size(self._broker_of(namespace), queue)
            if size is not None:
                sizes[queue] = sizes.get(queue, 0) + size
        return sizes

    def close(self) -> None:
        """Ends the broker's connections."""
        for broker in (self._given, *self._made.values()):
            if broker is not None:
                broker.close()

    def _broker_of(self, namespace: str | None) -> dramatiq.Broker:
        """Where a worker looks for its messages is for the worker to say: an application's broker need not be set up as ours."""
        if self._given is not None:
            return self._given
        name = namespace or self._settings.broker_namespace
        if name not in self._made:
            self._made[name] = _sending_broker(self._settings, name)
        return self._made[name]

    def _header(self, actor: Announced, submission: Submission) -> Header:
        return Header(
            id=events.check_job_id(
                submission.job or job_id_for(submission.owner, submission.idempotency_key)
            ),
            actor=actor.name,
            queue=actor.queue,
            title=submission.title if submission.title is not None else actor.title,
            owner=submission.owner,
            created_at=int(time.time() * 1000),
            retry_of=submission.retry_of,
        )

    def _create(
        self, header: Header, *, confirmed: bool, fingerprint: str, arguments: bytes = b""
    ) -> Created:
        commands = self._store.commands
        place = (header.owner, header.id, header.created_at, header.actor)
        if not confirmed:
            self._store.send(commands.lists.hint(*place, "queued"))
        event = events.make(header.id, "queued", at=events.text_of(header.created_at))
        created = self._store.send(
            commands.create(
                header, event, confirmed=confirmed, fingerprint=fingerprint, arguments=arguments,
                claim_ms=0 if confirmed else self._claim_ms,
            )
        )  # fmt: skip
        self._store.send(commands.lists.hint(*place, created.status, done=True))
        if not confirmed and (created.id is not None or created.claimed) and (trace := tracing.carried()):
            kept = tracing.pack(trace)
            self._store.send(commands.put_record(tracing.KEY, header.id, kept, self._settings.state_seconds))
        return created

    def _enqueue(
        self, broker: dramatiq.Broker, header: Header, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        trace = tracing.carried()
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=header.queue or "default",
            actor_name=header.actor,
            args=tuple(args),
            kwargs=dict(kwargs),
            options={**header.to_options(), "progress": True, **({tracing.KEY: trace} if trace else {})},
            message_id=header.id,
            message_timestamp=header.created_at,
        )
        try:
            broker.enqueue(message)
        except Exception as error:
            self._take_back(header)
            raise BrokerRefused("the broker does not take the message; try again later") from error

    def _take_back(self, header: Header) -> None:
        """No ghost; and no tombstone, for the same key may come again. Where Redis is away too, the sweep ends it."""
        commands = self._store.commands
        call = commands.remove(header.id, statuses=("queued",), tombstone=False, only_unconfirmed=True)
        try:
            self._store.send(call)
            self._store.send(commands.lists.unlist(header.owner, header.id, header.actor))
            self._store.send(commands.drop_record(tracing.KEY, header.id))
        except StoreError:
            return

    def _confirm(self, header: Header, fingerprint: str) -> None:
        try:
            self._create(header, confirmed=True, fingerprint=fingerprint)
        except NoSuchJob:
            return
        except StoreError:
            # The message is with the broker: its start confirms the job.
            return


def _sending_broker(settings: Settings, namespace: str) -> dramatiq.Broker:
    """A broker that only sends: with no middleware, for jobs are made here. RabbitMQ's has no namespace."""
    url = settings.effective_broker_url
    if url is None:
        raise InvalidInput("PROGRESS_STREAM_BROKER_URL", "is not set", "the URL of Dramatiq's broker")
    return _rabbitmq_broker(url) if is_rabbitmq(url) else _redis_broker(url, namespace)


def _redis_broker(url: str, namespace: str) -> RedisBroker:
    """With a client of our own, for Dramatiq's has no retries."""
    client = sync_client(url, setting="BROKER_URL", timeout_seconds=BROKER_SECONDS, retries=1)
    return RedisBroker(client=client, namespace=namespace, middleware=[])  # type: ignore[no-untyped-call]


def _rabbitmq_broker(url: str) -> dramatiq.Broker:
    """One that waits until RabbitMQ has the message: else a job would be confirmed whose message never came."""
    try:
        from dramatiq.brokers.rabbitmq import RabbitmqBroker
    except ImportError:
        raise InvalidInput(
            "PROGRESS_STREAM_BROKER_URL", "needs a client that is not installed", "progress-stream[rabbitmq]"
        ) from None
    broker = RabbitmqBroker(url=url, confirm_delivery=True, middleware=[])
    # Several servers may be named, separated by semicolons.
    several = broker.parameters if isinstance(broker.parameters, list) else [broker.parameters]
    for parameters in several:
        parameters.socket_timeout = parameters.stack_timeout = BROKER_SECONDS
        parameters.blocked_connection_timeout = BROKER_SECONDS
    return broker


def _size(broker: dramatiq.Broker, queue: str) -> int | None:
    """None where a broker has no way to tell."""
    try:
        if isinstance(broker, RedisBroker):
            # A message's body stays in this hash until it is acknowledged. Dramatiq's own count adds the delayed ones.
            return int(broker.client.hlen(f"{broker.namespace}:{queue}.msgs"))
        if hasattr(broker, "channel"):
            return _ready_at_rabbitmq(broker, queue)
    except Exception as error:
        raise BrokerRefused("the broker does not tell how long its queues are") from error
    return None


def _ready_at_rabbitmq(broker: Any, queue: str) -> int:
    """Asked of the queue as it is. A connection that was idle for long is dead without anybody's knowing: one more is tried."""
    try:
        found = broker.channel.queue_declare(queue=queue, passive=True)
    except Exception:
        del broker.connection
        found = broker.channel.queue_declare(queue=queue, passive=True)
    return int(found.method.message_count)


def _parsed(text: bytes) -> Announced | None:
    """None for what a program of another version announced."""
    try:
        return Announced.parse(text)
    except ValueError:
        return None
