"""One subscription connection a process, for any number of channels: a wake-up, never the truth.

Messages may be lost at any time; whoever listens re-reads when `confirmed` comes for a channel again, and checks tails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import hiredis

from ..addresses import Cluster, Sentinels, where
from .aio import AsyncStore
from .cluster import AsyncCluster
from .connect import async_leader
from .sentinels import AsyncLeader
from .sharded import ShardedWakeups
from .subscription import Led, Line, Straight
from .trouble import Trouble

log = logging.getLogger(__name__)

#: Channels in one SUBSCRIBE after a reconnect.
_AT_ONCE: Final = 500


def wakeups_for(
    url: str, store: AsyncStore, heard: Callable[[bytes, bytes], None], confirmed: Callable[[bytes], None]
) -> Wakeups | ShardedWakeups:
    """Those of the Redis of this URL; those of a Cluster share the map of this store's client."""
    place = where(url)
    if isinstance(place, Cluster) and isinstance(store.client, AsyncCluster):
        return ShardedWakeups(place, store.client, heard, confirmed)
    return Wakeups(url, heard, confirmed)


class Wakeups:
    """`heard(channel, payload)` for each message, `confirmed(channel)` for each subscription that Redis has confirmed.

    A second confirmation of a channel means that messages may have been lost before it.
    """

    def __init__(
        self, url: str, heard: Callable[[bytes, bytes], None], confirmed: Callable[[bytes], None]
    ) -> None:
        self._url = url
        self._heard = heard
        self._confirmed = confirmed
        self._channels: set[bytes] = set()
        self._leader: AsyncLeader | None = None
        self._line: Line | None = None
        self._trouble = Trouble(log)

    @property
    def connected(self) -> bool:
        return self._line is not None and self._line.connected

    def hears(self, channel: bytes) -> bool:
        """Whether what is told on it now would be heard, as far as is known."""
        return self.connected

    @property
    def reconnects(self) -> int:
        return 0 if self._line is None else self._line.reconnects

    def start(self) -> None:
        place = where(self._url)
        road: Straight | Led
        if isinstance(place, Sentinels):
            self._leader = async_leader(place)
            road = Led(place, self._leader)
        else:
            road = Straight(self._url)
        self._line = Line(road, self._pushed, self._subscribe_to_all, refused=self._refused)
        self._line.start()

    async def stop(self) -> None:
        if self._line is not None:
            await self._line.stop()
        if self._leader is not None:
            await self._leader.close()

    def subscribe(self, channel: bytes) -> None:
        self._channels.add(channel)
        if self._line is not None:
            self._line.write(b"SUBSCRIBE", channel)

    def unsubscribe(self, channel: bytes) -> None:
        self._channels.discard(channel)
        if self._line is not None:
            self._line.write(b"UNSUBSCRIBE", channel)

    def renew(self, channel: bytes | None = None) -> None:
        """Drop the connection and make a new one: it may hang on a server that is no primary any more. Once a second at most."""
        if self._line is not None:
            self._line.renew()

    def _pushed(self, reply: list[Any]) -> None:
        kind = reply[0]
        if kind == b"message":
            self._heard(reply[1], reply[2])
        elif kind == b"subscribe":
            self._trouble.over("Redis takes subscriptions again")
            if reply[1] in self._channels:
                self._confirmed(reply[1])

    def _subscribe_to_all(self) -> None:
        channels = list(self._channels)
        if self._line is not None:
            for start in range(0, len(channels), _AT_ONCE):
                self._line.write(b"SUBSCRIBE", *channels[start : start + _AT_ONCE])

    def _refused(self, error: hiredis.ReplyError) -> None:
        """`NOPERM`, mostly: the account may write and not listen. Its first word names no channel."""
        self._trouble.note(f"Redis refuses a subscription: {str(error).split(' ')[0]}", level=logging.ERROR)
