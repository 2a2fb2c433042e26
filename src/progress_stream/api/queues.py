"""How many messages the broker holds for each queue, looked at when a scraper asks: what workers are to be scaled by.

Told by the web server, not by the workers: it matters most when none of those is left. Every web process tells the same number, so
whoever reads it takes the greatest, never the sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from .. import events, metrics
from ..errors import BrokerRefused, StoreError

#: A scraper gives up after ten seconds, and a broker that does not answer must not cost it all the other numbers.
LOOK_SECONDS: Final = 1.0

Announcements = Callable[[], Awaitable[Mapping[str, bytes]]]
#: What begins the keys of a queue's broker (None: as our settings say), and the queue's name.
Place = tuple[str | None, str]
Sizes = Callable[[Collection[Place]], Mapping[str, int]]


class Queues:
    """The queues of all actors that were announced since this process began, also of those whose workers have gone since."""

    def __init__(self, announced: Announcements, sizes: Sizes) -> None:
        self._announced = announced
        self._sizes = sizes
        self._places: set[Place] = set()
        self._looking: asyncio.Task[Mapping[str, int] | None] | None = None

    async def measure(self) -> None:
        """Put the sizes into the metrics; what cannot be told in time is no number, for an old one would be a lie."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                found = await asyncio.shield(self._looking)
        except TimeoutError:
            found = None
        for queue, size in (found if found is not None else self._unknown()).items():
            metrics.level("queue_messages", size, queue)

    async def _look(self) -> Mapping[str, int] | None:
        try:
            self._places |= _places(await self._announced())
            return await asyncio.to_thread(self._sizes, frozenset(self._places))
        except (StoreError, BrokerRefused):
            return None

    def _unknown(self) -> dict[str, float]:
        return {queue: float("nan") for _, queue in self._places}


def _places(announcements: Mapping[str, bytes]) -> set[Place]:
    """An announcement may be empty (just submitted) or of another version's making: then it names no queue."""
    found = set()
    for text in filter(None, announcements.values()):
        try:
            known = events.decode_any(text)
            found.add((known.get("broker"), str(known["queue"])))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found
