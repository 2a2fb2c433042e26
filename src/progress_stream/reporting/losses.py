"""Which server's losses concern which jobs: a job that has just ended is offered again to a server that may lack its last words.

Another server is told by its replication identity, an emptied one by a random marker. What is open needs nothing of this: its next
append finds out by itself.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from .link import Link
from .run import Run

#: How long an ended job's last events are kept, for a server that was promoted without them.
REOFFER_SECONDS: Final = 60.0
#: How often to look whether Redis was emptied.
MARKER_SECONDS: Final = 5.0


class Losses:
    """Used by the flusher's thread alone. `offer` is given the ended jobs whose newest event is to go out once more."""

    def __init__(self, link: Link, offer: Callable[[Sequence[Run]], None]) -> None:
        self._link = link
        self._offer = offer
        self._ended: deque[tuple[float, Run]] = deque()
        self._replids: dict[int | None, str] = {}
        self._markers: dict[str | None, str] = {}
        self._marker_at = 0.0

    def keep(self, run: Run) -> None:
        """Its end is with Redis."""
        self._ended.append((time.monotonic(), run))

    def note(self, replid: str, job: str) -> None:
        """The identity of the server that answered for this job."""
        place = self._link.store.place_of(job)
        if self._replids.get(place, replid) != replid:
            self._offer_again()
        self._replids[place] = replid

    def look(self, *, at_work: bool) -> None:
        """Every few seconds, while there are jobs: FLUSHALL leaves the identity as it is. Raises StoreError."""
        now = time.monotonic()
        if now - self._marker_at < MARKER_SECONDS or not (self._ended or at_work):
            return
        self._marker_at = now
        for tag in self._link.store.tags():
            marker = self._link.send(self._link.store.commands.marker(uuid.uuid4().hex, tag))
            if self._markers.get(tag, marker) != marker:
                self._offer_again()
            self._markers[tag] = marker
        self._look_at_shards()

    def forget(self) -> None:
        """What ended long enough ago."""
        now = time.monotonic()
        while self._ended and now - self._ended[0][0] > REOFFER_SECONDS:
            self._ended.popleft()

    def _look_at_shards(self) -> None:
        """In a Cluster the answers to other jobs need not be of the server that had the last words of these."""
        store = self._link.store
        ended = [run.header.id for _, run in self._ended]
        for shard in {store.shard_of(job) for job in ended} - {None}:
            there = [job for job in ended if store.shard_of(job) == shard]
            look = self._link.send(store.commands.look(there[0]))
            for job in there:
                self.note(look.replid, job)

    def _offer_again(self) -> None:
        ended = [run for _, run in self._ended]
        self._ended.clear()
        self._offer(ended)
