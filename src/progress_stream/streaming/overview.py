"""Which jobs of watched lists are to be read again and when, and which of their states may still be shown. Pure.

A job's changes come as often as they like; what is shown of them is the latest, at most four times a second, and never an older
one than before. The clock comes as an argument; reading is left to others.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from ..events import EventId

#: Between two reads of a job. Four frames a second are allowed, in whatever second a client counts: a quarter would make five.
SPACING_SECONDS: Final = 0.3
#: Jobs of which the last shown place is remembered; more than a process' clients look at.
_MOST_SHOWN: Final = 50_000


class Overview:
    """The dirty set of all lists that this process shows."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []
        self._changed_at: dict[str, int] = {}
        self._reading: dict[str, int] = {}
        self._read_at: dict[str, float] = {}
        self._shown: dict[str, EventId] = {}

    def mark(self, job: str, now: float, changed_at: int, wait: float = 0.0) -> None:
        """It changed at `changed_at` (ms, Redis' clock) and is to be read again, not before `wait` seconds."""
        at = max(now + wait, self._earliest(job))
        self._changed_at[job] = min(changed_at, self._changed_at.get(job, changed_at))
        if at < self._due.get(job, float("inf")):
            self._due[job] = at
            heapq.heappush(self._queue, (at, job))

    def waits_for(self, job: str) -> bool:
        """Whether it is to be read again."""
        return job in self._due

    def next_at(self) -> float | None:
        """When the next job is due; None: nothing waits."""
        while self._queue:
            at, job = self._queue[0]
            if self._due.get(job) == at:
                if at >= (earliest := self._earliest(job)):
                    return at
                # It was marked while a read that took long was under way.
                self._due[job] = earliest
                heapq.heappush(self._queue, (earliest, job))
            heapq.heappop(self._queue)
        return None

    def _earliest(self, job: str) -> float:
        return self._read_at.get(job, float("-inf")) + SPACING_SECONDS

    def take(self, now: float, most: int) -> list[str]:
        """Jobs to be read now. Each is under way until `done`."""
        taken: list[str] = []
        while len(taken) < most and (at := self.next_at()) is not None and at <= now:
            job = heapq.heappop(self._queue)[1]
            del self._due[job]
            changed_at = self._changed_at.pop(job)
            self._reading[job] = min(changed_at, self._reading.get(job, changed_at))
            taken.append(job)
        self.note_read(taken, now)
        return taken

    def note_read(self, jobs: Iterable[str], now: float) -> None:
        """They are read at this moment, or were until this moment, by whomever: the next read keeps its distance."""
        if len(self._read_at) > 2 * _MOST_SHOWN:
            self._read_at = {job: at for job, at in self._read_at.items() if now - at < SPACING_SECONDS}
        self._read_at.update(dict.fromkeys(jobs, now))

    def done(self, jobs: Iterable[str]) -> None:
        """What was taken has been shown."""
        for job in jobs:
            self._reading.pop(job, None)

    def failed(self, jobs: Iterable[str], now: float, wait: float) -> None:
        """What was taken could not be read: it is due again."""
        for job in jobs:
            self.mark(job, now, self._reading.pop(job, 0), wait)

    def shown_through(self, heard_at: int) -> int:
        """Every change up to this time (ms) has been shown, where `heard_at` is the newest that was heard of."""
        oldest = min(self._changed_at.values(), default=heard_at + 1)
        reading = min(self._reading.values(), default=heard_at + 1)
        return min(heard_at, oldest - 1, reading - 1)

    def accepts(self, job: str, place: EventId) -> bool:
        """Whether a state with this last event may be shown: none that is older than one shown before."""
        if place < self._shown.get(job, place):
            return False
        # Moved to the end: those not shown for long are forgotten first.
        self._shown.pop(job, None)
        self._shown[job] = place
        if len(self._shown) > _MOST_SHOWN:
            del self._shown[next(iter(self._shown))]
        return True

    def forget(self, job: str) -> None:
        """It is gone."""
        self._shown.pop(job, None)
