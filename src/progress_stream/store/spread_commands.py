"""What Redis is asked about a job that is spread over many messages: its parts, their messages, and what follows them. Values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .. import events, jobs
from ..jobs import Header
from ..settings import Settings
from .calls import Call, Command, script
from .keys import Keys
from .refusals import refusal

#: Parts that one call of a script sees to: longer ones would hold up other clients of the server.
AT_ONCE: Final = 200
#: Stands for a part's number in the text of an event: no job's id or word holds it.
_NUMBER_MARK: Final = "\x01"


@dataclass(frozen=True, slots=True)
class Part:
    """One message of a job that is spread: number 0 is what follows all others."""

    number: int
    header: Header
    message: bytes
    weight: float | None = None
    following: int | None = None  #: the step of a pipeline that waits for it
    waits: bool = False  #: the step before sends it


@dataclass(frozen=True, slots=True)
class Closing:
    """How one call of `spread` ends: what it says of all its parts."""

    call: int  #: from 1
    parts: int
    weights: float = 0
    weighted: int = 0
    on_failure: str = "fail"
    has_follow_up: bool = False
    seal: bool = True
    unit: str | None = None
    done: float | None = None  #: of the job, before it was spread


@dataclass(frozen=True, slots=True)
class Released:
    """The actor has returned. `plain`: it never spread its job."""

    plain: bool = False
    follow_up_due: bool = False
    ended: bool = False


class SpreadCommands:
    """Makes the calls for one installation."""

    def __init__(self, keys: Keys, settings: Settings) -> None:
        self.keys = keys
        self._settings = settings

    def put_by(self, job: str, attempt: int, nonce: str, call: int, parts: Sequence[Part]) -> Call[bool]:
        """Store parts with numbers in a row; False where this call of `spread` was closed before: its stored parts hold.

        Raises StaleAttempt, AlreadyEnded, NoSuchJob, Tombstoned.
        """
        keys: tuple[str, ...] = (*self.keys.of(job)[:2], self.keys.parts(job), self.keys.outbox(job))
        args: list[str | bytes | int] = [attempt, nonce, call, parts[0].number, self._settings.history_events]
        for part in parts:
            event = events.make(part.header.id, "queued", at=events.text_of(part.header.created_at))
            state = jobs.fold(jobs.new(part.header), event)
            keys += self.keys.of(part.header.id)[:2]
            weight = "" if part.weight is None else repr(part.weight)
            following = "" if part.following is None else part.following
            args += (part.message, events.encode(event), jobs.pack(state), weight, following, int(part.waits))

        def read(reply: Any) -> bool:
            match reply:
                case [b"stored"]:
                    return True
                case [b"known"]:
                    return False
            raise refusal(reply, job, attempt)

        return Call(script("part"), keys, tuple(args), read)

    def close(self, job: str, attempt: int, nonce: str, closing: Closing) -> Call[int]:
        """The parts of one call begin to count; how many there are in all. Raises as `put_by`."""
        args = (
            self.keys.channel(job), job, attempt, nonce, closing.call, closing.parts, repr(closing.weights), closing.weighted,
            closing.on_failure, int(closing.has_follow_up), int(closing.seal), closing.unit or "",
            "" if closing.done is None else repr(closing.done), self._settings.history_events,
        )  # fmt: skip

        def read(reply: Any) -> int:
            match reply:
                case [b"spread" | b"known", total]:
                    return int(total)
            raise refusal(reply, job, attempt)

        return Call(script("spread"), (*self.keys.of(job), self.keys.parts(job)), args, read)

    def release(self, job: str, attempt: int, nonce: str, outcome: Mapping[str, Any]) -> Call[Released]:
        """The actor has returned; `outcome` is what `succeeded` says of it. Raises as `put_by`."""
        args = (
            self.keys.channel(job), job, attempt, nonce, events.encode(outcome)[1:-1], self._settings.history_events,
            self._settings.replay_seconds, self._settings.state_seconds,
        )  # fmt: skip

        def read(reply: Any) -> Released:
            match reply:
                case [b"released", due, ended]:
                    return Released(False, bool(due), bool(ended))
                case [b"plain"]:
                    return Released(plain=True)
            raise refusal(reply, job, attempt)

        return Call(script("release"), (*self.keys.of(job), self.keys.parts(job)), args, read)

    def sent(self, job: str, numbers: Sequence[int]) -> Call[int]:
        """The broker has the messages of these parts; how many of them are known."""
        return Call(script("sent"), (self.keys.state(job), self.keys.parts(job)), tuple(numbers), int)

    def unsent(self, job: str, first: int, last: int) -> Call[list[tuple[int, bytes]]]:
        """Number and message of each part in that range that is still to be sent."""

        def read(reply: Any) -> list[tuple[int, bytes]]:
            return [(int(number), message) for number, message in zip(reply[::2], reply[1::2], strict=True)]

        return Call(script("unsent"), (self.keys.parts(job), self.keys.outbox(job)), (first, last), read)

    def follow_up(self, job: str) -> Command[bytes | None]:
        """The message of what follows the parts."""
        return Command((("HGET", self.keys.outbox(job), "0"),), lambda replies: replies[0])

    def ranges(self, record: jobs.Record) -> Iterator[tuple[int, int]]:
        """The parts of a job in ranges for `tidy`, the follow-up last: its end is the job's."""
        total = 0 if record.spread is None else record.spread.parts["total"]
        for first in range(1, total + 1, AT_ONCE):
            yield first, min(total, first + AT_ONCE - 1)
        yield 0, 0

    def forget(self, job: str) -> Command[None]:
        """What is kept of all parts together."""
        return Command((("DEL", self.keys.parts(job), self.keys.outbox(job)),), lambda _: None)

    def tidy(self, job: str, first: int, last: int) -> Call[Released]:
        """Cancel what is open of some parts; where the job has ended, let them live as long as it does."""
        keys: tuple[str, ...] = (*self.keys.of(job), self.keys.parts(job), self.keys.outbox(job))
        for number in range(first, last + 1):
            keys += self.keys.of(f"{job}~{number}")[:2]
        part = f"{job}~{_NUMBER_MARK}"
        at = events.now_text()
        before, after, _ = events.split_at_attempt(events.make(part, "cancelling", at=at))
        ending = events.make(part, "cancelled", at=at, reason="its job was cancelled or has ended")
        settings = self._settings
        args = (
            self.keys.channel(job), job, settings.history_events, settings.replay_seconds, settings.state_seconds,
            settings.state_seconds * 1000, first, _marked(before), _marked(after), _marked(events.encode(ending)),
        )  # fmt: skip
        return Call(script("tidy"), keys, args, lambda reply: Released(False, bool(reply[1]), bool(reply[2])))


def _marked(text: bytes) -> bytes:
    """JSON escapes the mark; the script looks for the character itself."""
    return text.replace(b"\\u0001", _NUMBER_MARK.encode())
