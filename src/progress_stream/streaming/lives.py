"""Heartbeats, ends of lives and tokens that run out: one timer for all streams of a process.

Who is served, and what an end means, is the hub's.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from ..settings import Settings
from .formats import SSE, Format
from .list_watcher import ListWatcher
from .watcher import Watcher

#: Whoever is served: of one job, or of a list.
Client = Watcher | ListWatcher


class Lives:
    """Everybody who is served, in the slot of the second in which somebody must look at it again."""

    def __init__(
        self, settings: Settings, end: Callable[[Client, bytes], None], each_second: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._end = end
        self._each_second = each_second
        self._slots: dict[int, set[Client]] = {}
        self._second = 0

    def everybody(self) -> list[Client]:
        return [client for slot in self._slots.values() for client in slot]

    def keep(self, client: Client) -> None:
        """Look at it at its next heartbeat, or when its life or its token ends before that."""
        now = asyncio.get_running_loop().time()
        at = now + self._settings.heartbeat_seconds
        if client.ends_at is not None:
            at = min(at, client.ends_at)
        if client.expires_at is not None:
            at = min(at, now + client.expires_at - time.time())
        client.slot = max(int(at), self._second + 1)
        self._slots.setdefault(client.slot, set()).add(client)

    def forget(self, client: Client) -> None:
        self._slots.get(client.slot, set()).discard(client)

    def begin(self) -> None:
        """From now on: seconds that are over are not visited."""
        self._second = int(asyncio.get_running_loop().time())

    async def tick(self) -> None:
        """For ever: the slot of each second in its turn."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(self._second + 1 - loop.time(), 0.05))
            while self._second < int(loop.time()):
                self._second += 1
                for client in self._slots.pop(self._second, ()):
                    self._visit(client, loop.time())
            self._each_second()

    def _visit(self, client: Client, now: float) -> None:
        if client.gone:
            return
        if client.expires_at is not None and client.expires_at <= time.time() + 0.5:
            self._end(client, expired(client.format))
        elif client.ends_at is not None and client.ends_at <= now + 0.5:
            self._end(client, b"")
        else:
            if client.sink.ready:
                client.write(client.format.heartbeat())
            self.keep(client)


def expired(format: Format = SSE) -> bytes:
    """The words to a watcher whose token has run out: asking again soon would not help."""
    retry = random.randint(30_000, 90_000)
    return format.added("expired", b'{"reason":"token_expired"}', retry=retry)
