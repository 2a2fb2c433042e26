"""What Redis is asked, as values: keys, arguments, and how the answer is read, by `answers`. Knows no connection and no loop.

A worker's thread and the server's loop send the same values by `sync.SyncStore` and `aio.AsyncStore`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .. import events, jobs
from ..addresses import database_of
from ..errors import AlreadyEnded, SequenceHole
from ..events import TERMINAL, Event, EventId
from ..jobs import Header, State
from ..settings import Settings
from . import messages
from .answers import Appended, Busy, Created, Look, Started, Worn, id_of, look_of, rolled_of
from .calls import Call, Command, script
from .keys import PARTITIONS, Keys, parent_of
from .list_commands import ListCommands
from .refusals import refusal
from .spread_commands import SpreadCommands

#: When the sweep looks after the files of a deleted job: whoever deletes it removes them at once, if he can.
_FILES_MS: Final = 60_000


def commands_for(settings: Settings) -> Commands:
    """Those of the installation that these settings name."""
    database = 0 if settings.redis_url is None else database_of(settings.redis_url)
    return Commands(Keys(settings.namespace, database), settings)


class Commands:
    """Makes the calls for one installation."""

    def __init__(self, keys: Keys, settings: Settings) -> None:
        self.keys = keys
        self._settings = settings
        self.lists = ListCommands(keys, settings)
        self.spreads = SpreadCommands(keys, settings)

    def create(
        self,
        header: Header,
        event: Event,
        *,
        confirmed: bool = False,
        fingerprint: str = "",
        unconfirmed_ms: int = 60_000,
        arguments: bytes = b"",
        claim_ms: int = 0,
    ) -> Call[Created]:
        """The job with its `queued` event, if nothing of that id exists; `arguments` are kept for a retry. Raises Tombstoned.

        With `claim_ms` at most one caller is told for so long that it made or claimed the job, until the job is confirmed.
        """
        state = jobs.fold(jobs.new(header), event)
        args = (
            self.keys.channel(header.id), header.id, int(confirmed), fingerprint, events.encode(event), jobs.pack(state),
            self._settings.history_events, unconfirmed_ms, arguments, claim_ms,
        )  # fmt: skip

        def read(reply: Any) -> Created:
            match reply:
                case [b"created", id]:
                    return Created(id_of(id))
                case [b"exists", status, found, known, claimed]:
                    return Created(None, status.decode(), found.decode(), bool(known), bool(claimed))
            raise refusal(reply, header.id)

        return Call(script("create"), self.keys.of(header.id), args, read)

    def start(
        self,
        header: Header,
        event: Event,
        nonce: str,
        *,
        may_create: bool,
        last: EventId | None = None,
        least_attempt: int = 1,
    ) -> Call[Started | Worn | Busy]:
        """Take the job over. `event` is `started` without its attempt; `last` the newest id this reporter was given for the job.

        Raises AlreadyEnded, StaleAttempt, NoSuchJob, Tombstoned.
        """
        before, after, _ = events.split_at_attempt(event)
        state = jobs.fold(jobs.new(header), event)
        given = last or events.BEGINNING
        args = (
            self.keys.channel(header.id), header.id, nonce, before, after, jobs.pack(state), self._settings.history_events,
            self._settings.stalled_seconds * 1000, int(may_create), self._settings.max_starts, given.epoch, given.n, least_attempt,
        )  # fmt: skip

        def read(reply: Any) -> Started | Worn | Busy:
            match reply:
                case [b"started", attempt, id, cancel]:
                    return Started(attempt, id_of(id), bool(cancel))
                case [b"worn", attempt]:
                    return Worn(attempt)
                case [b"busy", left]:
                    return Busy(left)
            raise refusal(reply, header.id)

        return Call(script("start"), self.keys.with_parent(header.id), args, read)

    def append(
        self,
        job: str,
        attempt: int,
        nonce: str,
        sequence: int,
        batch: Sequence[tuple[str, bytes]],
        state: State | None,
        *,
        jump: bool = False,
        file: Mapping[str, Any] | None = None,
    ) -> Call[Appended]:
        """`batch` of (type, encoded data), numbered `sequence`, `sequence + 1`, …; an empty one is a sign of life.

        `state` is the fold up to and with the batch. Raises StaleAttempt, AlreadyEnded, SequenceHole, NoSuchJob, Tombstoned.
        """
        status = next((after for type, _ in reversed(batch) if (after := _STATUS_AFTER.get(type))), "")
        args: list[str | bytes | int] = [
            self.keys.channel(job), job, attempt, nonce, sequence, int(jump), self._settings.history_events,
            b"" if state is None else jobs.pack(state), status, self._due_ms(status), self._settings.replay_seconds,
            self._settings.state_seconds, b"" if file is None else events.encode(file),
            b"" if parent_of(job) is None else _counted(state, file),
        ]  # fmt: skip
        for type, data in batch:
            args += (type, data)

        def read(reply: Any) -> Appended:
            match reply:
                case [b"ok", id, cancel, stalled, replid, *rolled]:
                    newest = id_of(id) if id else None
                    return Appended(newest, bool(cancel), bool(stalled), replid.decode(), rolled_of(rolled))
                case [b"hole", last]:
                    raise SequenceHole(job, last)
            raise refusal(reply, job, attempt)

        name = "append" if parent_of(job) is None else "append_of_a_part"
        return Call(script(name), self.keys.with_parent(job), tuple(args), read)

    def intervene(
        self,
        job: str,
        event: Event,
        *,
        statuses: Sequence[str],
        attempt: int | None = None,
        seen_at: int | None = None,
        field: str = "",
        due_ms: int | None = None,
        extra_seconds: int = 0,
    ) -> Call[EventId | None]:
        """One event by somebody who does not hold the attempt; a terminal one ends the job, which is kept `extra_seconds` longer.

        None when the job is no longer as it was when that was decided. `field`: stalled_at or cancel_at, set to now, refused when
        set already. Raises AlreadyEnded, NoSuchJob, Tombstoned.
        """
        type = str(event["type"])
        status = type if type in TERMINAL else ""
        before, after, plain = events.split_at_attempt(event)
        wait = due_ms if due_ms is not None else self._due_ms(status) + extra_seconds * 1000
        args = (
            self.keys.channel(job), job, ",".join(statuses), "" if attempt is None else attempt,
            "" if seen_at is None else seen_at, type, before, after, plain, status, "end" if status else field, "",
            self._settings.history_events, wait, self._settings.replay_seconds, self._settings.state_seconds + extra_seconds,
            events.encode(event["error"]) if "error" in event else b"",
        )  # fmt: skip

        def read(reply: Any) -> EventId | None:
            match reply:
                case [b"done", id, *_]:
                    return id_of(id)
                case [b"changed"]:
                    return None
            raise refusal(reply, job)

        return Call(script("intervene"), self.keys.with_parent(job), args, read)

    def look(
        self, job: str, position: EventId | None = None, count: int = 0, *, enough_bytes: int = 0
    ) -> Call[Look]:
        """The job, and up to `count` entries from `position` on (inclusively); None: no entries.

        Of large entries fewer, about `enough_bytes` of them and at least a few; 0: whatever their size.
        """
        args = ("" if position is None else str(position), max(count, 1), enough_bytes)
        return Call(script("read"), self.keys.of(job)[:2], args, look_of)

    def remove(
        self,
        job: str,
        *,
        statuses: Sequence[str],
        tombstone: bool,
        only_unconfirmed: bool = False,
        extra_seconds: int = 0,
    ) -> Call[bool]:
        """True when the job is gone now; its tombstone stays `extra_seconds` longer than any state would.

        Raises AlreadyEnded when it is in another status, NoSuchJob.
        """
        longest = max(self._settings.state_seconds, self._settings.abandoned_seconds)
        life = longest + extra_seconds if tombstone else 0
        args = (
            job,
            ",".join(statuses),
            life,
            int(only_unconfirmed),
            self.keys.channel(job),
            messages.REMOVED,
            _FILES_MS,
        )

        def read(reply: Any) -> bool:
            match reply:
                case [b"removed"]:
                    return True
                case [b"status", status]:
                    raise AlreadyEnded(job, status.decode())
            raise refusal(reply, job)

        return Call(script("remove"), self.keys.of(job), args, read)

    def arguments(self, job: str) -> Command[bytes | None]:
        """What the job was called with, as `jobs.pack_arguments` made it; None where that is not kept."""
        return Command((("HGET", self.keys.state(job), "args"),), lambda replies: replies[0])

    def _due_ms(self, status: str) -> int:
        """When the sweep should look at a job that takes this status; 0 leaves what was set. Ended ones: their files."""
        if status in TERMINAL:
            return (self._settings.state_seconds - last_look_seconds(self._settings)) * 1000
        if status == "retrying":
            return self._settings.abandoned_seconds * 1000
        return self._settings.stalled_seconds * 1000

    def tail(self, job: str) -> tuple[str, ...]:
        """The newest entry alone: what a tail check reads."""
        return ("XREVRANGE", self.keys.events(job), "+", "-", "COUNT", "1")

    def put_record(self, kind: str, key: str, value: bytes, seconds: int) -> Command[None]:
        return Command((("SET", self.keys.record(kind, key), value, "EX", seconds),), lambda _: None)

    def put_ended_session(self, kind: str, key: str, value: bytes, seconds: int) -> Command[None]:
        """As `put_record`, and the streams of the session hear of it."""
        told = ("PUBLISH", self.keys.session_channel(key), b"")
        return Command((*self.put_record(kind, key, value, seconds).lines, told), lambda _: None)

    def get_record(self, kind: str, key: str) -> Command[bytes | None]:
        return Command((("GET", self.keys.record(kind, key)),), lambda replies: replies[0])

    def drop_record(self, kind: str, key: str) -> Command[None]:
        return Command((("DEL", self.keys.record(kind, key)),), lambda _: None)

    def announce(self, actors: Mapping[str, bytes], seconds: int) -> Command[None]:
        """Say that these actors (name → JSON) can be started, for so many seconds; renewed by their worker."""
        key = self.keys.actors()
        lines: list[tuple[str | bytes | int | float, ...]] = [("TIME",)]
        for name, description in actors.items():
            lines.append(("SET", f"{key}:{name}", description, "EX", seconds))
            lines.append(("SADD", key, name))
        return Command(tuple(lines), lambda _: None)

    def announced_names(self) -> Command[list[str]]:
        return Command(
            (("SMEMBERS", self.keys.actors()),),
            lambda replies: sorted(name.decode(errors="replace") for name in replies[0]),
        )

    def announced(self, names: Sequence[str]) -> Command[dict[str, bytes]]:
        """The descriptions of those of these actors that a worker still announces."""
        key = self.keys.actors()

        def read(replies: list[Any]) -> dict[str, bytes]:
            return {name: text for name, text in zip(names, replies, strict=True) if text is not None}

        return Command(tuple(("GET", f"{key}:{name}") for name in names), read)

    def due(self, until_ms: int, limit: int) -> Command[list[str]]:
        """The jobs to be looked at by then, so many of each partition."""
        lines = tuple(
            ("ZRANGE", self.keys.due(partition), "-inf", until_ms, "BYSCORE", "LIMIT", 0, limit)
            for partition in range(PARTITIONS)
        )

        def read(replies: list[Any]) -> list[str]:
            # A key that is of another kind is somebody else's, and no reason to look at none of the others.
            return [id.decode(errors="replace") for ids in replies if isinstance(ids, list) for id in ids]

        return Command(lines, read, lenient=True)

    def postpone(self, partition: int, job: str, until_ms: int) -> Command[None]:
        return Command((("ZADD", self.keys.due(partition), "XX", until_ms, job),), lambda _: None)

    def settle(self, partition: int, job: str) -> Command[None]:
        return Command((("ZREM", self.keys.due(partition), job),), lambda _: None)

    def lease(self, holder: str, milliseconds: int) -> Command[bool]:
        """True for the one who may sweep for so long."""
        return Command(
            (("SET", self.keys.sweeper(), holder, "NX", "PX", milliseconds),),
            lambda replies: bool(replies[0]),
        )

    def switch_streaming(self, on: bool) -> Command[None]:
        """For every web process of the installation, until it is switched again."""
        key = self.keys.streaming()
        line: tuple[str, ...] = ("DEL", key) if on else ("SET", key, "off")
        return Command((line,), lambda _: None)

    def streaming_is_on(self) -> Command[bool]:
        """False once it was switched off."""
        return Command((("GET", self.keys.streaming()),), lambda replies: replies[0] != b"off")

    def marker(self, proposal: str, tag: str | None = None) -> Command[str]:
        """The marker of this Redis' contents (in a Cluster of a tag's node): another one than before means that it was emptied."""
        key = self.keys.marker(tag)
        lines = (("SET", key, proposal, "NX"), ("GET", key))
        return Command(lines, lambda replies: replies[1].decode(errors="replace"))

    def clock(self) -> Command[int]:
        """Redis' time in milliseconds."""
        return Command((("TIME",),), lambda replies: int(replies[0][0]) * 1000 + int(replies[0][1]) // 1000)


_STATUS_AFTER: Final = {
    "started": "running", "retrying": "retrying", "succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled",
}  # fmt: skip


def last_look_seconds(settings: Settings) -> int:
    """How long before its state expires an ended job is looked at once more, while its owner is still known."""
    return min(10, settings.state_seconds // 2)


def _counted(state: State | None, file: Mapping[str, Any] | None) -> bytes:
    """What a part tells its parent: how far it is; at its end, why it failed or what it gave, as JSON within JSON."""
    if state is None:
        return b"{}"
    told: dict[str, Any] = {
        name: state[name] for name in ("done", "total", "unit") if state[name] is not None
    }
    if state["state"] in ("failed", "retrying") and state["error"] is not None:
        told["error"] = events.encode(state["error"]).decode()
    # Only a follow-up's result and file are the parent's.
    if state["state"] == "succeeded" and state["id"].endswith("~0"):
        told["result"] = events.encode_any(state["result"]).decode()
        if file is not None:
            told["file"] = events.encode(file).decode()
    return events.encode(told)
