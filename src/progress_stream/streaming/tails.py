"""Compares the newest event of each topic with Redis': the last message of all has no successor that would betray its loss."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from ..errors import StoreError
from ..events import EventId
from ..store.answers import entry_of
from ..store.failures import is_passing
from .topic import is_terminal
from .watcher import LiveTopic

if TYPE_CHECKING:
    from .hub import Hub

#: Between two checks of a topic.
TAIL_SECONDS: Final = 20.0
_TOPICS_AT_ONCE: Final = 200


class Tails:
    """Who lacks something reads again."""

    def __init__(self, hub: Hub, topics: Callable[[], Iterable[LiveTopic]]) -> None:
        self._hub = hub
        self._store = hub.store
        self._topics = topics

    def first_check(self) -> float:
        """When a topic that begins now is due, drawn: not all that begin together are checked together."""
        return self._hub.now() + TAIL_SECONDS * random.uniform(0.5, 1)

    async def check(self) -> None:
        """For ever: each topic in its time."""
        while True:
            await asyncio.sleep(1.0)
            await self.check_now()

    async def check_now(self) -> None:
        """Compare each due topic's newest event with Redis'; where they differ, its watchers read again."""
        now = self._hub.now()
        due = [topic for topic in self._topics() if topic.check_at <= now]
        for topic in due:
            topic.check_at = now + TAIL_SECONDS * random.uniform(0.8, 1.2)
        for start in range(0, len(due), _TOPICS_AT_ONCE):
            batch = due[start : start + _TOPICS_AT_ONCE]
            try:
                await self._check(batch)
            except StoreError:
                for topic in batch:
                    topic.check_at = self._hub.now() + random.uniform(0.5, 2)

    async def _check(self, topics: list[LiveTopic]) -> None:
        for topic, tail in zip(
            topics, await self._store.tails([topic.log.job for topic in topics]), strict=True
        ):
            if isinstance(tail, Exception) and is_passing(tail):
                # The shard is away, and others are not.
                topic.check_at = self._hub.now() + random.uniform(0.5, 2)
                continue
            # A stream that is somebody else's key of another kind has no entry; the other topics of this round have theirs.
            entry = entry_of(tail[0]) if isinstance(tail, list) and tail else None
            self._compare(topic, entry)

    def _compare(self, topic: LiveTopic, entry: tuple[EventId, bytes, bytes] | None) -> None:
        lacking = [
            watcher
            for watcher in topic.watchers
            if watcher.live
            and watcher.sink.ready
            and (entry is None or entry[0] != watcher.place or is_terminal(entry[1]))
        ]
        if lacking:
            topic.replay.forget()
            self._hub.tally.tail_repairs += 1
        for watcher in lacking:
            watcher.live = False
            self._hub.history.catch_up(watcher)
