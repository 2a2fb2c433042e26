"""Where a job lies among the servers of a store: what both senders (`sync.py`, `aio.py`) are asked of a Cluster's map. No I/O."""

from __future__ import annotations

from ..addresses import Address
from .commands import Commands
from .keys import partition_of
from .slots import Layout, slot_of


class Placed:
    """A base of the senders, which set both attributes."""

    commands: Commands
    #: None for a store that is one server.
    _layout: Layout | None

    @property
    def is_sharded(self) -> bool:
        """Whether it is several servers, of which one can be away."""
        return self._layout is not None

    def shard_of(self, job: str) -> Address | None:
        """Which server holds it, as far as is known; None for a store that is one server."""
        return None if self._layout is None else self._layout.owner(slot_of(self.commands.keys.state(job)))

    def place_of(self, job: str) -> int | None:
        """What moves between servers as a whole, and this job with it; None for a store that is one server."""
        return None if self._layout is None else partition_of(job)

    def tags(self) -> list[str | None]:
        """For each server a tag whose keys lie there, as far as is known; None for a store that is one server."""
        return [None] if self._layout is None else list(self._layout.tags().values())
