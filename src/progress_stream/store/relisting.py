"""Puts jobs back into their owners' lists after a server of a Cluster has lost some of those: all jobs are gone through.

An owner's lists lie on another server than most of its jobs, so that no job misses what that one loses: it was promoted without
its last writes, or emptied. A store that is one server needs none of this: it loses the end of everything at once, and a job's
place in the lists is written before the job. When to go on is the sweep's to say.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from .list_commands import listed
from .sync import SyncStore

log = logging.getLogger(__name__)

#: Keys looked at in one step.
_AT_ONCE: Final = 200


@dataclass(slots=True)
class _Round:
    """One way through all jobs. `servers`: for each server's tag the identity that it had at the beginning."""

    servers: dict[str | None, str]
    left: deque[str | None]
    cursor: int = 0
    put_back: int = 0


class Relisting:
    """One process' hand in it: what it does not get done is begun anew by another."""

    def __init__(self, store: SyncStore) -> None:
        self._store = store
        self._round: _Round | None = None

    def go_on(self, seconds: float) -> None:
        """Begin a round if a server may have lost something, and go on with it for about so long.

        Raises StoreUnavailable, and goes on from there the next time.
        """
        if not self._store.is_sharded:
            return
        current = self._round = self._round or self._begun()
        if current is None:
            return
        until = time.monotonic() + seconds
        while current.left and time.monotonic() < until:
            self._step(current)
        if not current.left:
            self._finish(current)

    def _begun(self) -> _Round | None:
        lists = self._store.commands.lists
        found = {tag: self._store.send(lists.whole(tag)) for tag in self._store.tags()}
        if all(replid == noted for replid, noted in found.values()):
            return None
        return _Round({tag: replid for tag, (replid, _) in found.items()}, deque(found))

    def _step(self, current: _Round) -> None:
        cursor, jobs = self._store.send(
            self._store.commands.lists.walk(current.left[0], current.cursor, _AT_ONCE)
        )
        current.put_back += sum(self._put_back(job) for job in jobs)
        current.cursor = cursor
        if cursor == 0:
            current.left.popleft()

    def _put_back(self, job: str) -> bool:
        record = self._store.send(self._store.commands.look(job)).record
        if record is None:
            return False
        return self._store.send(
            self._store.commands.lists.relist(*listed(record.packed), record.control.status)
        )

    def _finish(self, current: _Round) -> None:
        """A server that was replaced meanwhile has another identity than is noted here: the next look begins anew."""
        self._round = None
        for tag, replid in current.servers.items():
            self._store.send(self._store.commands.lists.note_whole(tag, replid))
        if current.put_back:
            log.warning(
                "a server of the Cluster had lost %d jobs from their owners' lists: they are back",
                current.put_back,
            )
