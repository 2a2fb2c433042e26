"""What one read of a job's history showed, and the recent ones of a job: those who come back together are served from one read.

Pure; reads nothing (`history` does) and knows no clock. A watcher that is served from a read of a moment ago is as one that came at
that moment: the log has all that was heard since, and every doubt about that ends these reads as well (`Replay.forget`).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from ..events import EventId
from ..jobs import Record
from ..store.answers import Look
from . import pages
from .formats import Format
from .resume import Page, resume

#: Of one read: places from which its page is kept whole. Most who come back together stand at the same few.
_PLACES: Final = 8


class Shown:
    """One read from a place on, and the frames made of it, each once whoever takes them."""

    __slots__ = ("_frames", "_numbers", "_pages", "_pieces", "bytes", "look", "place")

    def __init__(self, place: EventId, look: Look) -> None:
        self.place = place
        self.look = look
        self.bytes = sum(len(data) for _, _, data in look.entries)
        self._numbers = [id.n for id, _, _ in look.entries]
        self._frames: dict[Format, list[bytes]] = {}
        self._pages: dict[EventId | None, Page] = {}
        self._pieces: dict[tuple[Format, EventId | None], bytes] = {}

    def covers(self, place: EventId) -> bool:
        """Whether a read from this place on would have shown nothing else at that moment, and something new or the end."""
        if place == self.place:
            return True
        index = self._index(place)
        return index is not None and (index + 1 < len(self._numbers) or place == self._record.control.last)

    def _index(self, place: EventId) -> int | None:
        # In one stream numbers only grow, whatever the epochs.
        index = bisect_left(self._numbers, place.n)
        return index if index < len(self._numbers) and self.look.entries[index][0] == place else None

    @property
    def _record(self) -> Record:
        if self.look.record is None:
            raise ValueError("there was no job to show")
        return self.look.record

    def page(self, position: EventId | None) -> Page:
        """What a watcher at this position, which is covered, gets; None: a malformed one, covered by a read from the beginning."""
        page = self._pages.get(position)
        if page is None:
            index = None if position is None else self._index(position)
            page = resume(position, self._record, self.look.entries[index or 0 :])
            if len(self._pages) < _PLACES:
                self._pages[position] = page
        return page

    def piece(self, position: EventId | None, format: Format) -> bytes:
        """The frames of `page(position)`'s entries."""
        key = (format, position)
        piece = self._pieces.get(key)
        if piece is None:
            entries = self.page(position).entries
            start = bisect_left(self._numbers, entries[0][0].n) if entries else 0
            piece = b"".join(self._as(format)[start : start + len(entries)])
            if position in self._pages:
                self._pieces[key] = piece
        return piece

    def _as(self, format: Format) -> list[bytes]:
        made = self._frames.get(format)
        if made is None:
            made = self._frames[format] = [pages.frame(format, entry) for entry in self.look.entries]
        return made


class Replay:
    """The reads of one job that are kept. `doubts` grows when they are dropped: what began before is not kept either."""

    __slots__ = ("_kept", "doubts")

    def __init__(self) -> None:
        self.doubts = 0
        self._kept: list[Shown] = []

    def find(self, place: EventId) -> Shown | None:
        """The newest that covers this place."""
        return next((shown for shown in reversed(self._kept) if shown.covers(place)), None)

    def keep(self, shown: Shown) -> None:
        self._kept.append(shown)

    def drop(self, shown: Shown) -> None:
        if shown in self._kept:
            self._kept.remove(shown)

    def forget(self) -> None:
        """Nothing that was read holds."""
        self.doubts += 1
        self._kept = []
