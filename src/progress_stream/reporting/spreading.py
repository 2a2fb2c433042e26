"""`job.spread()`: one job over many messages. Stores all parts with their messages, then sends what no broker has yet.

What is stored first is sent by whichever attempt gets to it: a later one stores nothing anew. Counting is the store's work.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from dramatiq.broker import Broker
from dramatiq.composition import group, pipeline
from dramatiq.message import Message

from .. import jobs, tracing
from ..errors import InvalidInput, StoreUnavailable
from ..jobs import Header, State
from ..store.calls import Call
from ..store.files import Files
from ..store.spread_commands import AT_ONCE, Closing, Part
from .flusher import Flusher
from .run import Run
from .upload import Upload

log = logging.getLogger(__name__)

T = TypeVar("T")

OnFailure = Literal["fail", "continue"]
#: What may be spread: messages, a group's, or a pipeline's, which follow one another.
Spreadable = Iterable[Message[Any]] | group | pipeline
#: An end that counts them all, and lets them all expire with it, is one step of Redis: some 20 ms for so many.
MAX_PARTS: Final = 10_000
#: For how long a spread waits for Redis before its actor fails, and tries again as Dramatiq has it.
ANSWER_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """How one part of a job ended, or where it is. `file` is what it saved."""

    number: int
    state: str
    result: Any
    error: Mapping[str, str] | None
    file: Upload | None


class Spreader:
    """What one attempt needs to spread its job."""

    def __init__(self, flusher: Flusher, broker: Broker, run: Run) -> None:
        self._flusher = flusher
        self._broker = broker
        self._run = run
        self._calls = 0

    def spread(
        self,
        messages: Spreadable,
        then: Message[Any] | None,
        weights: Iterable[float] | None,
        on_failure: OnFailure,
        unit: str | None,
        seal: bool,
    ) -> int:
        """The number of parts that the job has with these. Raises InvalidInput, StoreUnavailable; see `Job.spread`."""
        if on_failure not in ("fail", "continue"):
            raise InvalidInput("on_failure", f"{on_failure!r:.40} is not usable", "fail, continue")
        run = self._run
        run.answered.wait(ANSWER_SECONDS)
        if run.silent:
            # Its job has ended: it runs once more for what follows it, and its parts have run.
            return 0
        if run.attempt is None:
            raise StoreUnavailable("the job's attempt is not known to Redis: it cannot be spread")
        known = self._parts_so_far()
        total = self._store(run.attempt, known, messages, then, weights, on_failure, unit, seal)
        self._calls += 1
        self._send_unsent(total)
        return total

    def outcomes(self, files: Files) -> Iterator[PartOutcome]:
        """Of the job that was spread, of which this may be the follow-up. Raises StoreUnavailable."""
        parent = self._run.header.parent or self._run.header.id
        commands = self._flusher.store.commands
        record = self._ask(commands.look(parent)).record
        total = 0 if record is None or record.spread is None else record.spread.parts["total"]
        for number in range(1, total + 1):
            part = self._ask(commands.look(f"{parent}~{number}")).record
            if part is not None:
                yield _outcome(number, jobs.view(part), part.file, files)

    def _parts_so_far(self) -> int:
        look = self._ask(self._flusher.store.commands.look(self._run.header.id))
        spread = None if look.record is None else look.record.spread
        return 0 if spread is None else spread.parts["total"]

    def _store(
        self,
        attempt: int,
        known: int,
        messages: Spreadable,
        then: Message[Any] | None,
        weights: Iterable[float] | None,
        on_failure: OnFailure,
        unit: str | None,
        seal: bool,
    ) -> int:
        run, commands = self._run, self._flusher.store.commands.spreads
        job, call = run.header.id, self._calls + 1
        closing = Closing(
            call, 0, on_failure=on_failure, has_follow_up=then is not None, seal=seal, unit=unit
        )
        new = True
        if then is not None:
            new = self._ask(commands.put_by(job, attempt, run.nonce, call, [self._part(0, then, None)]))
        parts = self._parts(known, messages, weights)
        while new and (some := list(itertools.islice(parts, AT_ONCE))):
            if some[-1].number > MAX_PARTS:
                raise InvalidInput(
                    "messages", f"are more than {MAX_PARTS:,}", f"up to {MAX_PARTS:,} parts of one job"
                )
            new = self._ask(commands.put_by(job, attempt, run.nonce, call, some))
            told = [part.weight for part in some if part.weight is not None]
            closing = replace(
                closing, parts=closing.parts + len(some), weights=closing.weights + sum(told),
                weighted=closing.weighted + len(told),
            )  # fmt: skip
        # What the actor has said of a bar of its own comes first: from here on the bar is its parts'.
        run.wait_until_said(ANSWER_SECONDS)
        done = run.hand_bar_over()
        return self._ask(commands.close(job, attempt, run.nonce, replace(closing, done=done)))

    def _part(self, number: int, message: Message[Any], weight: float | None) -> Part:
        """A message as the part of that number: with its fixed id, and all that its job is before it begins."""
        if not isinstance(message, Message):
            raise InvalidInput(
                "messages", f"hold a {type(message).__name__}", "messages, as actor.message(…) makes them"
            )
        actor = self._broker.actors.get(message.actor_name)
        title = message.options.get("title") or (actor.options.get("title") if actor is not None else None)
        header = Header(
            id=f"{self._run.header.id}~{number}", actor=message.actor_name, queue=message.queue_name, title=title,
            owner=self._run.header.owner, created_at=int(time.time() * 1000), parent=self._run.header.id,
        )  # fmt: skip
        trace = tracing.carried()
        options = {
            **message.options,
            **header.to_options(),
            "progress": True,
            **({tracing.KEY: trace} if trace else {}),
        }
        return Part(number, header, message.copy(message_id=header.id, options=options).encode(), weight)

    def _parts(self, known: int, messages: Spreadable, weights: Iterable[float] | None) -> Iterator[Part]:
        """Numbered from after those that are known."""
        if isinstance(messages, pipeline):
            return iter(self._steps(known, messages, weights))
        return (
            self._part(known + place, message, weight)
            for place, (message, weight) in enumerate(_weighted(messages, weights), 1)
        )

    def _steps(self, known: int, steps: pipeline, weights: Iterable[float] | None) -> list[Part]:
        """From the last one on: each message holds the next, which Dramatiq sends with the result of the one before."""
        weighted = list(_weighted(steps.messages, weights))
        parts: list[Part] = []
        target: dict[str, Any] = {}
        for place in range(len(weighted), 0, -1):
            message, weight = weighted[place - 1]
            plain = {name: value for name, value in message.options.items() if name != "pipe_target"}
            part = self._part(known + place, message.copy(options=plain | target), weight)
            last = place == len(weighted)
            parts.append(replace(part, following=None if last else known + place + 1, waits=place > 1))
            target = {"pipe_target": Message.decode(part.message).asdict()}
        return parts[::-1]

    def _send_unsent(self, total: int) -> None:
        """In the order of their numbers. A part that was cancelled meanwhile is not sent."""
        job, commands = self._run.header.id, self._flusher.store.commands.spreads
        for first in range(1, total + 1, AT_ONCE):
            unsent = self._ask(commands.unsent(job, first, min(total, first + AT_ONCE - 1)))
            for number, message in unsent:
                self._broker.enqueue(Message.decode(message))
                # One by one: what is noted late is sent twice by a later attempt.
                self._note(commands.sent(job, [number]))

    def _note(self, call: Call[int]) -> None:
        self._flusher.ask(lambda: self._flusher.store.send(call))

    def _ask(self, call: Call[T]) -> T:
        return ask(self._flusher, call, ANSWER_SECONDS)


def _outcome(number: int, state: State, file: Mapping[str, Any] | None, files: Files) -> PartOutcome:
    kept = None if file is None else Upload(file, files)
    return PartOutcome(number, state["state"], state["result"], state["error"], kept)


def ask(flusher: Flusher, call: Call[T], seconds: float) -> T:
    """What Redis answers, asked in the flusher's turn. Raises what the call raises; StoreUnavailable after so long."""
    answer = flusher.ask(lambda: flusher.store.send(call))
    if not answer.done.wait(seconds):
        raise StoreUnavailable(f"Redis gave no answer within {seconds:g} seconds")
    if answer.error is not None:
        raise answer.error
    value: T = answer.value  # type: ignore[assignment]
    return value


def send_follow_up(flusher: Flusher, broker: Broker, job: str, seconds: float) -> None:
    """All parts of `job` have ended: send what follows them. Where this fails the sweep does it."""
    commands = flusher.store.commands.spreads
    answer = flusher.ask(lambda: flusher.store.send(commands.follow_up(job)))
    if not answer.done.wait(seconds) or answer.value is None:
        log.warning("job %s: what follows its parts is left to the sweep", job)
        return
    broker.enqueue(Message.decode(answer.value))
    noted = flusher.ask(lambda: flusher.store.send(commands.sent(job, [0])))
    noted.done.wait(seconds)


def _weighted(
    messages: Iterable[Message[Any]] | group, weights: Iterable[float] | None
) -> Iterator[tuple[Message[Any], float | None]]:
    """Each message with its weight. Raises InvalidInput where there are more of the one than of the other."""
    several: Iterable[Message[Any]] = messages.children if isinstance(messages, group) else messages
    if weights is None:
        yield from ((message, None) for message in several)
        return
    for message, weight in itertools.zip_longest(several, weights):
        if message is None or weight is None:
            raise InvalidInput("weights", "are not as many as there are messages", "one for each message")
        yield message, _weight(weight)


def _weight(value: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 <= value < 2**53
    ):
        raise InvalidInput("weights", f"hold {value!r:.40}", "numbers from 0 to 2^53: the rows of each part")
    return value
