"""One attempt as this process knows it: what it has said, what it was told, and where it stands. Safe over threads, does no I/O.

The actor's side reports and asks; the flusher's side sends and brings answers. Their lock is never held while waiting.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol

from .. import events, jobs
from ..errors import ForkedHandle
from ..events import EventId
from ..jobs import Header
from .buffer import Batch, Buffer, Rates

log = logging.getLogger(__name__)

P = ParamSpec("P")


class Tracked(Protocol):
    """A loop that is being counted."""

    def read(self) -> int:
        """How many items are done."""

    def halt(self) -> None:
        """Make the loop look, after its next item, whether it may go on."""


class Run:
    """One start of one job by this process. `attempt` is None until Redis has given the number."""

    def __init__(
        self, header: Header, rates: Rates, wake: Callable[[], None], *, may_create: bool = True
    ) -> None:
        self.header = header
        self.nonce = uuid.uuid4().hex
        self.may_create = may_create
        self.pid = os.getpid()
        self.started_event = events.make(header.id, "started", at=events.now_text())
        state = jobs.fold(jobs.new(header), self.started_event)
        self.buffer = Buffer(header.id, state, rates, time.monotonic())
        self.lock = threading.Lock()
        #: Redis has answered the start, whatever it said.
        self.answered = threading.Event()
        #: Redis has all that was said, or nothing of it can be sent any more.
        self.drained = threading.Event()
        self.attempt: int | None = None
        self.last_id: EventId | None = None
        self.heard_at: float | None = None
        self.signed_at = 0.0
        #: When its owner's watchers were told last that it moved on, and whether it has since.
        self.told_at = 0.0
        self.untold = False
        self.file: dict[str, Any] | None = None
        self.cancel_requested = False
        #: The actor was told to stop, in whatever way.
        self.interrupted = False
        self.superseded = False
        #: Begun too often in a row without an end: it must not run.
        self.worn = False
        #: The status in which somebody else has ended it.
        self.ended: str | None = None
        #: Nothing more can be written, and nobody needs to know.
        self.muted = False
        #: It was deleted before it began: it must not run.
        self.deleted = False
        #: The actor is through: what remains is to send what was said.
        self.closed = False
        #: Somebody else works on this part: it is to be looked at again after so many milliseconds.
        self.busy: int | None = None
        #: The job was spread over parts, which end it; then what `succeeded` is to say, once the actor has returned.
        self.is_spread = False
        self.outcome: dict[str, Any] | None = None
        #: All parts have ended: what follows them is to be sent by whoever learns of it.
        self.follow_up_due = False
        #: Its parent has moved on since its owner's watchers were told.
        self.parent_untold = False
        #: Called once, from any thread, when the job must not be retried.
        self.on_stop: Callable[[], None] | None = None
        #: When the flusher is to see to it next, of `time.monotonic`.
        self.look_at = 0.0
        self._wake = wake
        self._progress_seconds = rates.progress_seconds
        self._tracked: list[Tracked] = []
        self._offset: int | float = 0
        self._seen_count = 0

    # The actor's side

    def check_process(self) -> None:
        """Raises ForkedHandle in a child that was forked from the process which runs the actor."""
        if self.pid != os.getpid():
            raise ForkedHandle(
                f"the handle of job {self.header.id} belongs to process {self.pid}, which forked this one: report from there"
            )

    @property
    def stopped(self) -> bool:
        """True when each further report must raise."""
        return self.superseded or self.cancel_requested

    @property
    def gave_in(self) -> bool:
        """True when the actor was told of the cancel: an actor that then returns has been cancelled, not come to its end."""
        return self.cancel_requested and self.interrupted

    @property
    def silent(self) -> bool:
        return self.muted or self.superseded or self.ended is not None

    @property
    def is_open(self) -> bool:
        """True while the attempt is ours and its actor at work."""
        return self.attempt is not None and not (self.silent or self.closed)

    def say(self, what: Callable[Concatenate[Buffer, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """One report into the buffer. Raises InvalidEvent."""
        with self.lock:
            if self.silent or self.buffer.closed:
                return
            now = time.monotonic()
            before = self.buffer.due(now)
            what(self.buffer, *args, **kwargs)
            after = self.buffer.due(now)
            if not self.buffer.empty:
                self.drained.clear()
            sooner = before is None or (after is not None and after < before)
            if sooner:
                self.look_at = 0.0
        if sooner:
            self._wake()

    def attach(self, loop: Tracked, total: int | float | None, unit: str | None) -> None:
        """Begin to count a loop. The outermost one moves the bar; one after another go on where the bar stands."""
        self.say(self._attach, loop, total, unit)
        if self.stopped:
            loop.halt()

    def _attach(self, buffer: Buffer, loop: Tracked, total: int | float | None, unit: str | None) -> None:
        outermost = not self._tracked
        if outermost:
            self._offset = buffer.meter.done or 0
            self._seen_count = 0
            whole = None if total is None else max(self._offset + total, buffer.meter.total or 0)
            buffer.progress(time.time(), done=self._offset, total=whole, unit=unit)
        self._tracked.append(loop)

    def detach(self, loop: Tracked) -> None:
        """The loop is over: its last count is reported."""
        self.say(self._detach, loop)

    def _detach(self, buffer: Buffer, loop: Tracked) -> None:
        self._poll(buffer)
        if loop in self._tracked:
            self._tracked.remove(loop)

    def _poll(self, buffer: Buffer) -> None:
        if not self._tracked:
            return
        count = self._tracked[0].read()
        if count != self._seen_count:
            self._seen_count = count
            buffer.progress(time.time(), done=self._offset + count)

    def conclude(self, type: str, **fields: Any) -> None:
        """`retrying` or the end, after all that was said. Wait on `drained` to know that Redis has it."""
        with self.lock:
            if self.silent or self.buffer.closed:
                return
            self._poll(self.buffer)
            self.buffer.lifecycle(time.monotonic(), events.now_text(), type, **fields)
            self.drained.clear()
            self.look_at = 0.0
        self._wake()

    def wait_until_said(self, seconds: float) -> None:
        """Until Redis has all that was said so far, but no longer."""
        with self.lock:
            waits = not self.buffer.empty
        if waits:
            self.drained.wait(seconds)

    def hand_bar_over(self) -> float | None:
        """From now on the bar is that of the job's parts; how far it had come."""
        with self.lock:
            self.is_spread = self.buffer.bar_is_given_away = True
            return self.buffer.meter.done

    def release(self, outcome: dict[str, Any]) -> None:
        """The actor of a job that was spread has returned: its parts end it. Wait on `drained` to know that Redis has it."""
        with self.lock:
            if self.silent:
                return
            self.outcome = outcome
            self.drained.clear()
            self.look_at = 0.0
        self._wake()

    def released(self) -> None:
        """Redis knows that the actor has returned."""
        with self.lock:
            self.outcome = None
            if self.buffer.empty:
                self.drained.set()

    def close(self) -> None:
        """The actor is through with it."""
        with self.lock:
            self.closed = True
            self._tracked.clear()
            # A circle would keep each job's events until Python looks for circles, which in a worker is every ten minutes.
            self.on_stop = None
            if self.buffer.empty and self.outcome is None:
                self.drained.set()
            self.look_at = 0.0
        self._wake()

    # The flusher's side

    def begin_look(self) -> None:
        """The flusher sees to it now: whatever is said from here on asks for another look."""
        with self.lock:
            self.look_at = math.inf

    def look_again(self, when: float) -> None:
        """At the latest then."""
        with self.lock:
            self.look_at = min(self.look_at, when)

    def offer_again(self) -> None:
        """Another server may lack its newest event: it goes out once more, under its number."""
        with self.lock:
            self.buffer.offer_last()
            self.drained.clear()
            self.look_at = 0.0

    def take(self, now: float) -> Batch | None:
        """What is to be sent now; None: nothing is due."""
        with self.lock:
            if self.attempt is None:
                return None
            if not self.buffer.closed:
                self._poll(self.buffer)
            due = self.buffer.due(now)
            if due is None or due > now:
                return None
            return self.buffer.freeze(now, events.now_text(), self.attempt)

    def due(self, now: float) -> float | None:
        """When `take` has something next, as far as is known."""
        with self.lock:
            due = self.buffer.due(now)
            if due is None and self._tracked and not self.silent:
                due = now + self._progress_seconds
            return due

    def acknowledge(self, now: float, last_id: EventId | None) -> None:
        """Redis took the frozen batch."""
        with self.lock:
            self.buffer.acknowledge()
            self.last_id = last_id or self.last_id
            self.heard_at = self.signed_at = now
            if self.buffer.empty and self.outcome is None:
                self.drained.set()

    def began(self, now: float, attempt: int, id: EventId) -> None:
        """Redis gave the attempt."""
        with self.lock:
            self.attempt = attempt
            self.last_id = id
            self.heard_at = self.signed_at = now
        self.answered.set()

    def request_cancel(self) -> None:
        """Somebody wants the job to end: each report raises from now on."""
        if not self.cancel_requested:
            self.cancel_requested = True
            self._stop()

    def supersede(self) -> None:
        """A later attempt owns the job: each report raises from now on, and nothing is sent."""
        if not self.superseded:
            self.superseded = True
            log.warning("job %s: attempt %s is superseded by a later attempt", self.header.id, self.attempt)
            self._stop()
        self._give_up()

    def end_by_others(self, status: str) -> None:
        """Somebody else ended the job. A cancelled one is told to stop; else the actor goes on, unheard."""
        if self.ended is None:
            self.ended = status
            if status == "cancelled":
                self.request_cancel()
        self._give_up()

    def delete(self) -> None:
        """The job was deleted on purpose."""
        self.deleted = True
        self.mute()

    def mute(self) -> None:
        """The job is deleted or long expired: nothing brings it back."""
        self.muted = True
        self._give_up()

    def postpone(self, milliseconds: int) -> None:
        """Somebody else works on it, who lives."""
        self.busy = milliseconds
        self.mute()

    def wear_out(self) -> None:
        """It was begun too often in a row."""
        self.worn = True
        self._give_up()

    def _give_up(self) -> None:
        self.answered.set()
        self.drained.set()

    def _stop(self) -> None:
        on_stop = self.on_stop
        if on_stop is not None:
            on_stop()
        with self.lock:
            loops = list(self._tracked)
        for loop in loops:
            loop.halt()
