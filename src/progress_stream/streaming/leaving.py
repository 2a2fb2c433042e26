"""Streams of people who sign out: a session that is ended ends them, in whichever process they are.

It is told of on a channel of the session's own. What is told while nobody listens is found in the session's record, which is looked
at whenever the channel is confirmed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..auth import sessions
from ..errors import StoreError
from ..store.aio import AsyncStore
from ..store.sharded import ShardedWakeups
from ..store.wakeups import Wakeups
from .lives import Client, expired


class Leaving:
    """The streams of each session in this process."""

    def __init__(
        self,
        store: AsyncStore,
        wakeups: Wakeups | ShardedWakeups,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        end: Callable[[Client, bytes], None],
    ) -> None:
        self._store = store
        self._wakeups = wakeups
        self._spawn = spawn
        self._end = end
        self._streams: dict[bytes, set[Client]] = {}

    def enter(self, client: Client) -> None:
        if client.session is None:
            return
        channel = self._channel(client.session)
        if channel not in self._streams:
            self._streams[channel] = set()
            self._wakeups.subscribe(channel)
        self._streams[channel].add(client)

    def leave(self, client: Client) -> None:
        if client.session is None:
            return
        channel = self._channel(client.session)
        streams = self._streams.get(channel, set())
        streams.discard(client)
        if not streams and self._streams.pop(channel, None) is not None:
            self._wakeups.unsubscribe(channel)

    def takes_confirmation(self, channel: bytes) -> bool:
        """True when the channel is a session's. It may have been ended before anybody listened."""
        if channel not in self._streams:
            return False
        self._spawn(self._look(channel))
        return True

    def takes(self, channel: bytes) -> bool:
        """True when the channel is a session's: it was ended."""
        streams = self._streams.get(channel)
        for client in list(streams or ()):
            self._end(client, expired(client.format))
        return streams is not None

    async def _look(self, channel: bytes) -> None:
        """Until Redis answers, or all have left."""
        while streams := self._streams.get(channel):
            session = next(iter(streams)).session or ""
            try:
                record = await self._store.send(self._store.commands.get_record(sessions.KIND, session))
            except StoreError:
                await asyncio.sleep(random.uniform(0.5, 2))
                continue
            if sessions.is_over(record, time.time()):
                self.takes(channel)
            return

    def _channel(self, session: str) -> bytes:
        return self._store.commands.keys.session_channel(session).encode()
