"""What Redis must hold of one job, and what it owes to whoever comes back: the machine's measure, in values. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from progress_stream.errors import AlreadyEnded, NoSuchJob, SequenceHole, StaleAttempt
from progress_stream.events import BEGINNING, TERMINAL, EventId

#: Nonces of earlier attempts that a job remembers.
_REMEMBERED: Final = 32


@dataclass(frozen=True, slots=True)
class Held:
    """The job at one moment; as it is made, there is none."""

    there: bool = False
    #: Every number of its history that no loss took back, those too that were trimmed or stay empty; and what is still kept of it.
    line: tuple[EventId, ...] = ()
    kept: tuple[EventId, ...] = ()
    #: The stream's key is there: where it is not, an append begins an epoch.
    has_stream: bool = True
    #: The life of the server in which it was written last.
    life: int = 0
    status: str = "queued"
    attempt: int = 0
    holder: str = ""
    earlier: tuple[str, ...] = ()
    sequence: int = 0
    #: The newest call's last number, and the id that it was answered.
    answered: tuple[int, EventId] = (0, BEGINNING)
    stalled: bool = False
    cancelled: bool = False

    @property
    def last(self) -> EventId:
        return self.line[-1]

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_whole(self) -> bool:
        """Nothing of its history is trimmed or empty."""
        return self.there and self.kept == self.line

    def with_earlier(self) -> tuple[str, ...]:
        """The nonces that are known once another attempt has taken over."""
        return (*self.earlier, self.holder)[-_REMEMBERED:] if self.holder else self.earlier

    def refuses(self, nonce: str, base: int, count: int, *, jump: bool) -> type[Exception] | None:
        """What an append of events `base`, `base + 1`, … must be refused with."""
        if not self.there:
            return NoSuchJob
        if nonce != self.holder:
            return StaleAttempt
        if self.knows(base, count):
            return None
        if self.ended:
            return AlreadyEnded
        return SequenceHole if base > self.sequence + 1 and not jump else None

    def knows(self, base: int, count: int) -> bool:
        """All of that was appended already: nothing of it may be again."""
        return count > 0 and base + count - 1 <= self.sequence

    def answer_again(self, base: int, count: int) -> EventId:
        """The id for a call that is known: its own where it was the newest, else the newest there is."""
        number, id = self.answered
        return id if number == base + count - 1 else self.last

    def owed_gaps(self, place: EventId) -> tuple[int, int]:
        """The fewest and the most gaps that a watcher at this place must be told of; more than one only over numbers left empty.

        Two bounds, for where a place was trimmed and an epoch has changed right after it, nothing proves what came between.
        """
        if place == self.last:
            return 0, 0
        after = self.after(place)
        gaps = sum(1 for is_kept, _ in groupby(after, set(self.kept).__contains__) if not is_kept)
        if place != BEGINNING and place not in self.line:
            return gaps + 1, gaps + 1
        proved = place == BEGINNING or place in self.kept or not after or after[0].epoch == place.epoch
        if place == BEGINNING and after[0].n > 1:
            gaps += after[0] in self.kept
        return gaps, gaps + (not proved and after[0] in self.kept)

    def after(self, place: EventId) -> tuple[EventId, ...]:
        """What of its history comes after this place; where the place itself was lost, after the first that is shown."""
        if place == BEGINNING:
            return self.line
        if place in self.line:
            return self.line[self.line.index(place) + 1 :]
        shown = self.shown_after(place)
        return self.line[self.line.index(shown[0]) :] if shown else ()

    def shown_after(self, place: EventId) -> list[EventId]:
        """What a watcher at this place is sent: all that is kept and greater."""
        return [id for id in self.kept if id > place]


def is_tail(tail: Iterable[EventId], whole: Iterable[EventId]) -> bool:
    """Whether these are the last of those."""
    few, many = tuple(tail), tuple(whole)
    return len(few) <= len(many) and few == many[len(many) - len(few) :]
