"""Which actors may be started from outside, with which arguments, and the sending of a message exactly once.

Needs none of the actors' code: workers announce name, queue, title and a JSON Schema. Blocking: async code calls it in a thread.
What a request looks like, and where an upload's bytes go, is left to the caller.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from . import events, tracing
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
from .settings import Settings
from .store.commands import Created
from .store.connect import sync_client
from .store.sync import SyncStore

#: The longest that a message's sending may take; a client of the web server waits for it.
BROKER_SECONDS: Final = 3.0
#: For so long one sender of a job is waited for by others who bring the same: longer than a broker may take, with its one retry.
CLAIM_SECONDS: Final = 10.0
#: Between two looks at whether that sender is through.
_LOOK_SECONDS: Final = 0.1
#: How an announced schema names a file.
_FILE: Final = "binary"


@dataclass(frozen=True, slots=True)
class Announced:
    """An actor that a worker offers now."""

    name: str
    queue: str
    title: str | None
    schema: Mapping[str, Any]
    broker: str | None = None  #: what begins its broker's keys, where that is a Redis

    @classmethod
    def parse(cls, text: bytes) -> Announced:
        """Raises ValueError for what is no announcement of an actor that may be started from outside."""
        known = json.loads(text)
        try:
            if known["schema"] is None:
                raise ValueError("not to be started from outside")
            return cls(
                known["name"], known["queue"], known.get("title"), known["schema"], known.get("broker")
            )
        except (TypeError, KeyError) as error:
            raise ValueError("not an announcement") from error

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        return dict(self.schema.get("properties", {}))

    @property
    def files(self) -> tuple[str, ...]:
        """The arguments that are files."""
        return tuple(name for name, schema in self.properties.items() if schema.get("format") == _FILE)


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


def arguments(
    actor: Announced, args: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The actor's keyword arguments. Raises InvalidInput that names the first wrong one.

    A file comes as a stored one or not at all: a reference in `args` could name another job's.
    """
    stored = dict(files or {})
    for name in actor.files:
        if name in args and args[name] is not None:
            raise InvalidInput(name, "is not a file", "a file, sent as multipart/form-data")
    for name in stored:
        if name not in actor.files:
            raise InvalidInput(name, "is not an argument that takes a file", _listed(actor.files))
    # To the schema a file is text; what stands for it here is never sent on.
    plain = {name: value for name, value in args.items() if value is not None or name not in actor.files}
    _check(actor, {**plain, **dict.fromkeys(stored, "")})
    return {**plain, **{name: dict(ref) for name, ref in stored.items()}}


def replace_files(
    actor: Announced,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    replace: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments with another reference in place of each file's."""
    files = actor.files
    # A schema keeps its properties in the order of the function's parameters.
    places = {place for place, name in enumerate(actor.properties) if name in files}
    return (
        [
            replace(arg) if place in places and isinstance(arg, dict) else arg
            for place, arg in enumerate(args)
        ],
        {
            name: replace(arg) if name in files and isinstance(arg, dict) else arg
            for name, arg in kwargs.items()
        },
    )


def from_form(actor: Announced, fields: Mapping[str, str]) -> dict[str, Any]:
    """A form's text as the types that the schema asks for. Raises InvalidInput that names the field."""
    return {name: _from_text(name, text, actor.properties.get(name, {})) for name, text in fields.items()}


def file_argument(actor: Announced) -> str:
    """The argument that a form's one file is for. Raises InvalidInput where there is none."""
    if not actor.files:
        raise InvalidInput("file", f"is not taken by {actor.name}", _listed(tuple(actor.properties)))
    return "file" if "file" in actor.files else actor.files[0]


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
        self._made: dict[str, RedisBroker] = {}
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
            max_attempts=old["max_attempts"], created_at=int(time.time() * 1000), retry_of=old["id"],
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
            self._made[name] = redis_broker(self._settings, name)
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


def redis_broker(settings: Settings, namespace: str) -> RedisBroker:
    """A broker that only sends: its own client, for Dramatiq's has no retries; and no middleware, for jobs are made here."""
    url = settings.effective_broker_url
    if url is None:
        raise InvalidInput(
            "PROGRESS_STREAM_BROKER_URL", "is not set", "the URL of the Redis that Dramatiq uses"
        )
    client = sync_client(url, setting="BROKER_URL", timeout_seconds=BROKER_SECONDS, retries=1)
    return RedisBroker(client=client, namespace=namespace, middleware=[])  # type: ignore[no-untyped-call]


def _parsed(text: bytes) -> Announced | None:
    """None for what a program of another version announced."""
    try:
        return Announced.parse(text)
    except ValueError:
        return None


def _check(actor: Announced, args: Mapping[str, Any]) -> None:
    error = best_match(Draft202012Validator(dict(actor.schema)).iter_errors(dict(args)))
    if error is not None:
        raise _named(actor, error, args)


def _named(actor: Announced, error: ValidationError, args: Mapping[str, Any]) -> InvalidInput:
    """The error with the argument's name in front, in words of ours: a validator's own repeat the value."""
    if error.validator == "required" and not error.path:
        missing = next(name for name in actor.schema.get("required", ()) if name not in args)
        kind = (
            "a file, sent as multipart/form-data"
            if missing in actor.files
            else _kind(actor.properties[missing])
        )
        return InvalidInput(missing, "is missing", kind)
    if error.validator == "additionalProperties" and not error.path:
        unknown = next(name for name in args if name not in actor.properties)
        return InvalidInput(
            unknown[:100], f"is no argument of {actor.name}", _listed(tuple(actor.properties))
        )
    field = ".".join(str(part) for part in error.absolute_path)
    schema = actor.properties.get(str(error.absolute_path[0]), {}) if error.absolute_path else {}
    return InvalidInput(field or "args", "is not usable", _kind(schema))


def _kind(schema: Mapping[str, Any]) -> str:
    """What a schema allows, for a person."""
    if "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    words = {
        "integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text", "null": "null",
        "array": "a list", "object": "an object",
    }  # fmt: skip
    kind = words.get(str(schema.get("type")), "a value that the actor's schema allows")
    limits = [f"{name} {schema[name]}" for name in _LIMITS if name in schema]
    return f"{kind} ({', '.join(limits)})" if limits else kind


_LIMITS: Final = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern",
)  # fmt: skip


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) if names else "none"


def _from_text(name: str, text: str, schema: Mapping[str, Any]) -> Any:
    """One form field. A form knows only text: what cannot be read as the schema's type is refused, never guessed."""
    kinds = schema.get("anyOf", [schema])
    if text == "" and any(kind.get("type") == "null" for kind in kinds):
        return None
    for kind in kinds:
        convert = _FROM_TEXT.get(str(kind.get("type")))
        if convert is None:
            continue
        try:
            return convert(text)
        except ValueError:
            continue
    if any(kind.get("type") in {"string", None} for kind in kinds):
        return text
    raise InvalidInput(name, "cannot be read", _kind(schema))


def _boolean(text: str) -> bool:
    # "on" is what a browser sends for a ticked box.
    match text.lower():
        case "true" | "on" | "1" | "yes":
            return True
        case "false" | "off" | "0" | "no" | "":
            return False
    raise ValueError("not a boolean")


def _whole(text: str) -> int:
    if not text.strip().lstrip("+-").isascii() or "_" in text or len(text) > 40:
        raise ValueError("not a whole number")
    return int(text)


def _decimal(text: str) -> float:
    value = float(text)
    if "_" in text or value != value or value in {float("inf"), float("-inf")}:
        raise ValueError("not a finite number")
    return value


_FROM_TEXT: Final[dict[str, Callable[[str], Any]]] = {
    "integer": _whole, "number": _decimal, "boolean": _boolean, "array": json.loads, "object": json.loads,
}  # fmt: skip
