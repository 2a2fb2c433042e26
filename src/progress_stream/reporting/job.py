"""The handle that an actor reports with. Each call writes to memory and returns; sending is the flusher's work."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, BinaryIO, Concatenate, Final, ParamSpec, cast

from .. import events
from ..errors import InvalidInput, ProgressStreamError
from .buffer import Buffer, Rates
from .run import Run, Tracked

if TYPE_CHECKING:
    from dramatiq.message import Message

    from .spreading import OnFailure, PartOutcome, Spreadable, Spreader

P = ParamSpec("P")

#: Opens the store's files: called at most once a job that saves one.
OpenFiles = Callable[[], Any]


class Job:
    """One attempt of one job. May be used by many threads; refuses work in a forked child (ForkedHandle).

    Each report raises Cancelled or Superseded once the job was cancelled or taken over, and again every time after that.
    """

    def __init__(
        self, run: Run | None = None, files: OpenFiles | None = None, spreader: Spreader | None = None
    ) -> None:
        self._run = run
        self._files = files
        self._spreader = spreader

    @property
    def id(self) -> str:
        """The job's id; empty for the stand-in."""
        return "" if self._run is None else self._run.header.id

    @property
    def attempt(self) -> int | None:
        """1 for the first start; None while Redis has not given the number."""
        return None if self._run is None else self._run.attempt

    @property
    def owner(self) -> str | None:
        return None if self._run is None else self._run.header.owner

    @property
    def cancel_requested(self) -> bool:
        """True once somebody asked for the job to be cancelled."""
        return self._run is not None and self._run.cancel_requested

    def raise_if_cancelled(self) -> None:
        """Raises Cancelled or Superseded where a report would; sends nothing."""
        self._open()

    def update(
        self,
        done: float | None = None,
        total: float | None = None,
        unit: str | None = None,
        message: str | None = None,
    ) -> None:
        """Set what is known of the bar. `done` never falls: a lower value is ignored; a higher one than `total` raises it."""
        self._say(Buffer.progress, time.time(), done=done, total=total, unit=unit, message=message)

    def advance(self, count: float = 1) -> None:
        """So much more is done."""
        self._say(Buffer.advance, time.time(), count)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A named part of the work: begun, then finished, or failed when an exception leaves the block."""
        self._say(Buffer.step, time.monotonic(), events.now_text(), name, "started")
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self._say_quietly(name, "failed", began)
            raise
        self._say(Buffer.step, time.monotonic(), events.now_text(), name, "finished", _since(began))

    def log(self, text: str, level: str = "info") -> None:
        """A line for whoever watches. Too many a second are counted and told as one "n more"."""
        self._say(Buffer.log, time.monotonic(), events.now_text(), text, level)

    def event(self, type: str, data: Any = None) -> None:
        """An event of a type of the actor's own, with JSON data: leaves within 20 ms, is never coalesced. Raises InvalidEvent."""
        self._say(Buffer.own, events.now_text(), type, data)

    @contextmanager
    def save(self, name: str, media_type: str = "application/octet-stream") -> Iterator[BinaryIO]:
        """A binary file to write to: what `GET /jobs/<id>/result` gives once the job has succeeded. The last one counts."""
        run = self._open()
        if run is None or self._files is None:
            yield io.BytesIO()
            return
        with self._files().write(run.header.id, name, media_type) as writing:
            yield cast(BinaryIO, writing)
        run.file = dict(writing.ref)

    @property
    def can_spread(self) -> bool:
        """False for the stand-in and in `report()`: then the actor does all of it by itself."""
        return self._run is not None and self._spreader is not None

    def parts(self) -> Iterator[PartOutcome]:
        """What has become of this job's parts, by their numbers; in a follow-up, of its job's. Raises StoreUnavailable."""
        if self._spreader is None or self._files is None:
            return iter(())
        return self._spreader.outcomes(self._files())

    def spread(
        self,
        messages: Spreadable,
        then: Message[Any] | None = None,
        weights: Iterable[float] | None = None,
        on_failure: OnFailure = "fail",
        *,
        unit: str | None = None,
        seal: bool = True,
    ) -> int:
        """Go on as many messages, under this job's one bar; gives how many parts the job has.

        They become its parts `<id>~1`, `<id>~2`, …: all at once, or, of a `dramatiq.pipeline`, one after another.

        The actor may return at once: the job runs on until all parts have ended. Then `then` is sent as `<id>~0`, and what it
        returns is the job's result; without it, what this actor returns. `weights` says how many rows each part has, so that the
        bar counts rows from the beginning; without, it does so once each part has told its total. A part that fails for good
        fails the job (`on_failure="fail"`: the others still run, `then` does not), or is only counted (`"continue"`).
        `seal=False`: more parts will come, by further calls, until one seals or the actor returns.
        All parts are stored before the first is sent, and another attempt of this actor sends those and makes none anew.
        Raises InvalidInput, StoreUnavailable (then the actor may be retried), Cancelled, Superseded.
        """
        run = self._open()
        if run is None:
            # Nobody counts parts; what a test plays through is the actor.
            several: Any = messages
            return sum(1 for _ in getattr(several, "children", getattr(several, "messages", several)))
        if self._spreader is None:
            raise InvalidInput(
                "spread", "is not to be had here", "an actor's job: report() has no broker to send parts to"
            )
        return self._spreader.spread(messages, then, weights, on_failure, unit, seal)

    def _open(self) -> Run | None:
        """The run to report to; None where nobody listens."""
        run = self._run
        if run is None:
            return None
        run.check_process()
        if run.stopped:
            raise interruption(run)
        return run

    def _say(self, what: Callable[Concatenate[Buffer, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        run = self._open()
        if run is None:
            # Nobody listens, but a test should see what a worker would refuse.
            what(Buffer("", {}, _STAND_IN_RATES, 0.0), *args, **kwargs)
        else:
            run.say(what, *args, **kwargs)

    def _say_quietly(self, name: str, state: str, began: float) -> None:
        """While another exception is on its way, which must not be replaced."""
        run = self._run
        if run is not None and not run.superseded:
            run.say(Buffer.step, time.monotonic(), events.now_text(), name, state, _since(began))

    def _attach(self, loop: Tracked, total: float | None, unit: str | None) -> None:
        run = self._open()
        if run is not None:
            run.attach(loop, total, unit)

    def _detach(self, loop: Tracked) -> None:
        if self._run is not None:
            self._run.detach(loop)


_STAND_IN_RATES: Final = Rates()
_STAND_IN: Final = Job()
_CURRENT: ContextVar[Job | None] = ContextVar("progress_stream_job", default=None)


def current_job() -> Job:
    """The job that this thread or task works on; outside of one a silent stand-in, so that actors can be called plainly."""
    return _CURRENT.get() or _STAND_IN


def set_current(job: Job | None) -> None:
    """What `current_job()` gives from now on in this context."""
    _CURRENT.set(job)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def interruption(run: Run) -> ProgressStreamError:
    """What a report raises in an attempt that is to stop."""
    # Imported here: it loads Dramatiq, which a plain `report()` does without.
    from .interrupts import Cancelled, Superseded

    run.interrupted = True
    kind = Superseded if run.superseded else Cancelled
    return kind(run.header.id, run.attempt)
