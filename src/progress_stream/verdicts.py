"""When somebody else than its worker steps in with a job, and how: the verdicts of the sweep, and of a request to cancel. All pure.

Doing it is left to who asks: `store/sweep.py`, and `cancel.py` and `delete.py` of the api.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from . import events
from .jobs import Record


@dataclass(frozen=True, slots=True)
class Limits:
    """After how many milliseconds somebody steps in."""

    stalled_ms: int
    abandoned_ms: int
    unconfirmed_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until` (ms); None: nothing ever."""

    until: int | None


@dataclass(frozen=True, slots=True)
class Stall:
    """The worker gave no sign for `silent_ms`: say so once."""

    silent_ms: int


@dataclass(frozen=True, slots=True)
class Lose:
    """No worker will end this job: end it as failed, of type Lost."""

    message: str


@dataclass(frozen=True, slots=True)
class Follow:
    """Its parts have ended and what follows them was not sent: send it."""


@dataclass(frozen=True, slots=True)
class Tidy:
    """It is to end, or has ended, and parts of it are open: cancel them."""


def verdict(record: Record, now: int, limits: Limits) -> Wait | Stall | Lose | Follow | Tidy:
    """What the sweep should do with a job at `now` (ms, Redis' clock)."""
    match record.control.status:
        case "queued":
            return _verdict_on_queued(record, now, limits)
        case "retrying":
            due = _next_at(record) + limits.abandoned_ms
            return Wait(due) if now < due else Lose("the next attempt never began")
        case "running":
            return _verdict_on_running(record, now, limits)
    return Wait(None)


def _verdict_on_queued(record: Record, now: int, limits: Limits) -> Wait | Lose:
    if record.confirmed:
        return Wait(None)
    due = record.control.born.epoch + limits.unconfirmed_ms
    return Wait(due) if now < due else Lose("the broker never confirmed that it took the job")


def _verdict_on_running(record: Record, now: int, limits: Limits) -> Wait | Stall | Lose | Follow | Tidy:
    spread = record.spread
    if spread is not None and spread.released:
        # Nobody works on the job itself: its parts are watched, each for itself.
        if record.cancel_at is not None:
            return Tidy()
        return Follow() if spread.follow_up == "due" else Wait(None)
    seen = record.seen_at or 0
    silent = now - seen
    if silent >= limits.abandoned_ms:
        return Lose(f"no sign from its worker for {silent // 1000} seconds")
    if silent < limits.stalled_ms:
        return Wait(seen + limits.stalled_ms)
    sealed = spread is not None and spread.sealed
    return Wait(seen + limits.abandoned_ms) if record.stalled_at is not None or sealed else Stall(silent)


def _next_at(record: Record) -> int:
    text = record.packed.get("next_at")
    return events.ms_of(text) if text else (record.seen_at or 0)


def seconds_until_due(record: Record, now: int) -> int:
    """How long a message of the job may still be held back by its queue: what says that the job has ended must outlive it."""
    times = [events.ms_of(text) for name in ("run_at", "next_at") if (text := record.packed.get(name))]
    return max(0, *(time - now for time in times)) // 1000 + 1 if times else 0


#: A second request to cancel after so long is taken to mean that the actor does not listen.
CANCEL_PATIENCE_MS: Final = 30_000


def on_cancel(record: Record, now: int) -> Literal["end", "tell", "wait"]:
    """What a request to cancel does at `now` (ms, Redis' clock) to a job that has not ended: end it at once, tell its worker, or
    wait for a worker that was told already."""
    if record.control.status != "running" or record.stalled_at is not None:
        return "end"
    if record.cancel_at is None:
        return "tell"
    return "end" if now - record.cancel_at >= CANCEL_PATIENCE_MS else "wait"
