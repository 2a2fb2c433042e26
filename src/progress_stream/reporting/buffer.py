"""What one attempt has reported and Redis has not yet acknowledged. Pure: clock and answers come as arguments, nothing waits.

Progress is one slot that the newest value overwrites; all else is a queue. Events are numbered when they are sent, frozen until
they are answered, and the acknowledged ones kept for a while: a server that lost its tail gets them again under their old numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Final

from .. import events, jobs
from ..errors import InvalidEvent
from ..events import TERMINAL, Event
from ..jobs import State
from .meter import Meter, number

#: One call to Redis: large enough to amortise it, small enough not to hold up other clients of the server.
BATCH_EVENTS: Final = 200
BATCH_BYTES: Final = 256 * 1024
#: What a server that lost its tail can be given again.
KEPT_EVENTS: Final = 1_000
KEPT_BYTES: Final = 1024 * 1024
#: What waits while Redis is away. After shedding a tenth is free, so that a flood does not shed at each event.
PENDING_BYTES: Final = 16 * 1024 * 1024
PENDING_EVENTS: Final = 50_000
_AFTER_SHEDDING: Final = 0.9
#: The number of log events left out is told at most so often.
SUMMARY_SECONDS: Final = 1.0
#: Room for the attempt's number, which joins an event when it is sent.
_ATTEMPT_BYTES: Final = 32
#: The same for the numbers of a `progress`, which are not known before.
_NUMBERS_BYTES: Final = 256
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Rates:
    """How much one job may say."""

    event_bytes: int = 65_536
    log_rate: float = 20.0
    log_burst: int = 200
    progress_seconds: float = 0.1
    pending_bytes: int = PENDING_BYTES


@dataclass(frozen=True, slots=True)
class Batch:
    """Events under fixed numbers, `base`, `base + 1`, …, and the state with them folded in."""

    base: int
    lines: tuple[tuple[str, bytes], ...]
    state: State
    jump: bool = False

    @property
    def ends(self) -> bool:
        """True when the job is over with it."""
        return bool(self.lines) and self.lines[-1][0] in TERMINAL


@dataclass(slots=True)
class _Entry:
    """An event in the queue: its JSON without the attempt, and what of it the fold needs."""

    type: str
    data: bytes
    event: Event


class Buffer:
    """One attempt's reports. Not safe over threads: its owner holds a lock."""

    def __init__(self, job: str, state: State, rates: Rates, now: float) -> None:
        self.job = job
        self.state = state
        self.closed = False
        self.meter = Meter()
        #: The bar is that of the job's parts: what is reported here moves it no more.
        self.bar_is_given_away = False
        self._rates = rates
        self._queue: deque[_Entry] = deque()
        self._bytes = 0
        self._next = 1
        self._inflight: Batch | None = None
        self._kept: deque[tuple[int, str, bytes]] = deque()
        self._kept_bytes = 0
        self._jump = False
        self._progress_at: float | None = None
        self._progress_sent = now - rates.progress_seconds
        self._unit: str | None = None
        self._message: str | None = None
        self._steps: list[str] = []
        self._tokens = float(rates.log_burst)
        self._refilled = now
        self._left_out = 0
        self._lost = 0
        self._summary_due: float | None = None
        #: For whoever counts, who sets them back: reports that a newer one replaced, and events that were left out.
        self.coalesced = 0
        self.dropped = 0

    # What the actor says

    def progress(
        self,
        wall: float,
        *,
        done: object = None,
        total: object = None,
        unit: str | None = None,
        message: str | None = None,
    ) -> None:
        """Newer values for the bar at `wall` (seconds since 1970); they overwrite what was not sent. Raises InvalidEvent."""
        usable_done = None if done is None else number("done", done)
        usable_total = None if total is None else number("total", total)
        if unit is not None or message is not None:
            words = {"unit": unit or self._unit, "message": message or self._message, "step": self._step}
            at = events.text_of(int(wall * 1000))
            self._encoded(
                events.make(self.job, "progress", at=at, attempt=None, **words), spare=_NUMBERS_BYTES
            )
        self.meter.set(usable_done, usable_total)
        self._unit = unit if unit is not None else self._unit
        self._message = message if message is not None else self._message
        self.coalesced += self._progress_at is not None
        self._progress_at = wall

    def advance(self, wall: float, count: object) -> None:
        """So much more is done. Raises InvalidEvent."""
        self.progress(wall, done=(self.meter.done or 0) + number("done", count))

    def own(self, at: str, type: str, data: Any) -> None:
        """An event of the actor's own type. Raises InvalidEvent."""
        self._push(events.make(self.job, events.check_own_type(type), at=at, data=data))

    def log(self, now: float, at: str, text: str, level: str) -> None:
        """A line of log, or one more left out where there are too many. Raises InvalidEvent."""
        if level not in LEVELS:
            raise InvalidEvent("level", f"{level!r:.80} is not a level", ", ".join(LEVELS))
        event = events.make(self.job, "log", at=at, level=level, message=text)
        data = self._encoded(event)
        self._refill(now)
        if self._tokens < 1:
            self._leave_out(now, 1)
            return
        self._tokens -= 1
        self._put(_Entry("log", data, {"type": "log", "at": at}))

    def step(self, now: float, at: str, name: str, state: str, seconds: float | None = None) -> None:
        """A named part of the work begins or ends. Raises InvalidEvent."""
        event = events.make(self.job, "step", at=at, name=_step_name(name), state=state, seconds=seconds)
        data = self._encoded(event)
        self._settle_progress(now)
        if state == "started":
            self._steps.append(name)
        elif name in self._steps:
            self._steps.reverse()
            self._steps.remove(name)
            self._steps.reverse()
        self._put(_Entry("step", data, event))

    def lifecycle(self, now: float, at: str, type: str, **fields: Any) -> None:
        """`retrying` or the end, after all that was said before it. Nothing is taken after the end."""
        if self.closed:
            return
        self._settle_progress(now)
        self._summarise(at)
        self._push(events.make(self.job, type, at=at, **fields))
        self.closed = type in TERMINAL

    def poke(self, wall: float) -> None:
        """Ask for one `progress` event although nothing new is known: it clears `stalled`."""
        self._progress_at = self._progress_at or wall

    # What the flusher asks

    def due(self, now: float) -> float | None:
        """When there is something to send; None: nothing waits."""
        if self._inflight is not None or self._queue:
            return now
        times = [] if self._progress_at is None else [self._progress_sent + self._rates.progress_seconds]
        if self._summary_due is not None:
            times.append(self._summary_due)
        return min(times, default=None)

    def freeze(self, now: float, at: str, attempt: int) -> Batch | None:
        """What goes to Redis now; the same again until it is answered."""
        if self._inflight is None:
            self._ripen(now, at)
            entries = self._take()
            if entries:
                self._inflight = self._numbered(entries, attempt)
        return self._inflight

    @property
    def next_sequence(self) -> int:
        """The number that the next event will get: what a sign of life carries."""
        return self._next if self._inflight is None else self._inflight.base

    @property
    def empty(self) -> bool:
        """True when Redis has acknowledged all that was said."""
        return self._inflight is None and not self._queue and self._progress_at is None and not self._left_out

    @property
    def waiting(self) -> int:
        """Events that Redis has not acknowledged."""
        return len(self._queue) + (0 if self._inflight is None else len(self._inflight.lines))

    def acknowledge(self) -> None:
        """Redis has the frozen batch."""
        batch, self._inflight = self._inflight, None
        if batch is None:
            return
        self._jump = False
        for sequence, (type, data) in enumerate(batch.lines, batch.base):
            self._kept.append((sequence, type, data))
            self._kept_bytes += len(data)
        while len(self._kept) > 1 and (len(self._kept) > KEPT_EVENTS or self._kept_bytes > KEPT_BYTES):
            self._kept_bytes -= len(self._kept.popleft()[2])

    def resend(self, last: int) -> None:
        """Redis holds nothing above `last`: what was above it goes again under the same numbers, as far as memory reaches back."""
        lines: list[tuple[str, bytes]] = []
        while self._kept and self._kept[-1][0] > last:
            _, type, data = self._kept.pop()
            self._kept_bytes -= len(data)
            lines.append((type, data))
        lines.reverse()
        if self._inflight is not None:
            lines += self._inflight.lines
        base = self._next - len(lines)
        self._jump = base > last + 1
        if lines:
            self._inflight = Batch(base, tuple(lines), self.state, self._jump)

    def skip(self) -> None:
        """Redis was emptied and has only our header again: what it acknowledged before is gone, the numbers go on."""
        if self._inflight is not None:
            self._inflight = replace(self._inflight, jump=self._inflight.base > 1)
        else:
            self._jump = self._next > 1

    def offer_last(self) -> None:
        """The newest acknowledged event once more, under its number: another server may lack it."""
        if self._inflight is None and self._kept:
            self.resend(self._kept[-1][0] - 1)

    # Within

    @property
    def _step(self) -> str | None:
        return self._steps[-1] if self._steps else None

    def _encoded(self, event: Event, spare: int = _ATTEMPT_BYTES) -> bytes:
        data = events.encode(event)
        if len(data) + spare > self._rates.event_bytes:
            raise InvalidEvent(
                "data",
                f"the event {event['type']!r} has {len(data)} bytes",
                f"{self._rates.event_bytes} (EVENT_BYTES)",
            )
        return data

    def _push(self, event: Event) -> None:
        data = self._encoded(event)
        folded = event["type"] in jobs.LIFECYCLE
        small = event if folded else {"type": event["type"], "at": event["at"]}
        self._put(_Entry(event["type"], data, small))

    def _put(self, entry: _Entry) -> None:
        self._queue.append(entry)
        self._bytes += len(entry.data)
        if self._bytes > self._rates.pending_bytes or len(self._queue) > PENDING_EVENTS:
            self._shed()

    def _shed(self) -> None:
        """Drops progress, then logs, then own types, then steps, oldest first; never the end of an attempt."""
        for what in (_is("progress"), _is("log"), _is_own, _is("step")):
            if not self._drop(what):
                return

    def _drop(self, what: Callable[[_Entry], bool]) -> bool:
        """Drops what matches, oldest first, until there is room; True while there is none."""
        most_bytes = self._rates.pending_bytes * _AFTER_SHEDDING
        most_events = PENDING_EVENTS * _AFTER_SHEDDING
        count, kept = len(self._queue), deque[_Entry]()
        for entry in self._queue:
            if (self._bytes > most_bytes or count > most_events) and what(entry):
                count -= 1
                self.dropped += 1
                self._bytes -= len(entry.data)
                self._left_out += entry.type == "log"
                self._lost += entry.type not in {"log", "progress"}
            else:
                kept.append(entry)
        self._queue = kept
        return self._bytes > most_bytes or count > most_events

    def _refill(self, now: float) -> None:
        self._tokens = min(
            self._rates.log_burst, self._tokens + (now - self._refilled) * self._rates.log_rate
        )
        self._refilled = now

    def _leave_out(self, now: float, count: int) -> None:
        self._left_out += count
        self.dropped += count
        if self._summary_due is None:
            self._summary_due = now + SUMMARY_SECONDS

    def _summarise(self, at: str) -> None:
        """One log event for all that were left out."""
        for count, text in (
            (self._left_out, "more log events were left out"),
            (self._lost, "events were dropped: more than could be kept until Redis took them"),
        ):
            if count:
                self._push(
                    events.make(
                        self.job, "log", at=at, level="warning", message=f"{count} {text}", left_out=count
                    )
                )
        self._left_out = self._lost = 0
        self._summary_due = None

    def _settle_progress(self, now: float) -> None:
        """Puts the newest progress into the queue, so that what follows stands after it."""
        wall, self._progress_at = self._progress_at, None
        if wall is None:
            return
        at = events.text_of(int(wall * 1000))
        self._progress_sent = now
        values = {} if self.bar_is_given_away else self.meter.sample(now)
        event = events.make(
            self.job, "progress", at=at, unit=self._unit, message=self._message, step=self._step, **values
        )
        self._put(_Entry("progress", events.encode(event), event))

    def _ripen(self, now: float, at: str) -> None:
        if self._progress_at is not None and now >= self._progress_sent + self._rates.progress_seconds:
            self._settle_progress(now)
        if self._summary_due is None or now >= self._summary_due:
            self._summarise(at)

    def _take(self) -> list[_Entry]:
        size = 0

        def fits(entry: _Entry) -> bool:
            nonlocal size
            size += len(entry.data)
            return size <= BATCH_BYTES

        first = [self._queue[0]] if self._queue else []
        rest = takewhile(fits, list(self._queue)[1:BATCH_EVENTS])
        entries = [*first, *rest]
        for entry in entries:
            self._queue.popleft()
            self._bytes -= len(entry.data)
        return entries

    def _numbered(self, entries: Iterable[_Entry], attempt: int) -> Batch:
        lines = []
        for entry in entries:
            self.state = jobs.fold(self.state, entry.event)
            lines.append((entry.type, b'%b,"attempt":%d}' % (entry.data[:-1], attempt)))
        base = self._next
        self._next += len(lines)
        return Batch(base, tuple(lines), self.state, self._jump)


def _is(type: str) -> Callable[[_Entry], bool]:
    return lambda entry: entry.type == type


def _is_own(entry: _Entry) -> bool:
    return entry.type not in events.BUILT_IN


def _step_name(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise InvalidEvent("step", "is not a step's name", "text of 1 to 200 characters")
    return name
