"""Wake-ups from a Redis Cluster: one subscription connection a shard, each channel on the one that serves its slot.

As everywhere, messages may be lost at any time, and a second confirmation says that some may have been. That a slot has moved is
told by `sunsubscribe`, by `MOVED`, by a connection that is lost, or by nobody (a replica that was given to another primary:
redis#12558): so the map is asked for as well, whatever was heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

import hiredis
from redis.exceptions import RedisError

from ..addresses import Address, Cluster
from .cluster import AsyncCluster
from .failures import mapped
from .slots import slot_of
from .subscription import Line, Straight
from .trouble import Trouble

log = logging.getLogger(__name__)

#: Channels in one SSUBSCRIBE: all of one slot, or Redis refuses them.
_AT_ONCE: Final = 500
#: Between two looks at the map: as long as a failover takes that nobody tells of.
LOOK_SECONDS: Final = 5.0


class ShardedWakeups:
    """What `Wakeups` is for one server."""

    def __init__(
        self,
        place: Cluster,
        cluster: AsyncCluster,
        heard: Callable[[bytes, bytes], None],
        confirmed: Callable[[bytes], None],
    ) -> None:
        self._place = place
        self._cluster = cluster
        self._layout = cluster.layout
        self._heard = heard
        self._confirmed = confirmed
        #: The wanted channels of each slot, and the node at which a slot's channels were asked for.
        self._channels: defaultdict[int, set[bytes]] = defaultdict(set)
        self._at: dict[int, Address] = {}
        #: Slots whose channels were asked for and not confirmed yet.
        self._open: set[int] = set()
        self._lines: dict[Address, Line] = {}
        self._task: asyncio.Task[None] | None = None
        self._doubt = asyncio.Event()
        self._reconnects = 0
        self._no_map = Trouble(log)
        self._refusals = Trouble(log)

    def hears(self, channel: bytes) -> bool:
        node = self._at.get(slot_of(channel))
        return node is not None and self._lines[node].connected

    @property
    def reconnects(self) -> int:
        return self._reconnects + sum(line.reconnects for line in self._lines.values())

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow_map(), name="wakeups' map")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for line in self._lines.values():
            await line.stop()

    def subscribe(self, channel: bytes) -> None:
        slot = slot_of(channel)
        self._channels[slot].add(channel)
        node = self._at.get(slot)
        if node is None:
            self._settle([slot])
        else:
            self._open.add(slot)
            self._lines[node].write(b"SSUBSCRIBE", channel)

    def unsubscribe(self, channel: bytes) -> None:
        slot = slot_of(channel)
        self._channels[slot].discard(channel)
        node = self._at.get(slot)
        if node is not None:
            self._lines[node].write(b"SUNSUBSCRIBE", channel)
        if not self._channels[slot]:
            del self._channels[slot]
            self._at.pop(slot, None)

    def renew(self, channel: bytes | None = None) -> None:
        """Drop the connection of this channel, or all, and make new ones, by a new map. Once a second at most."""
        self._ask_for_map()
        node = None if channel is None else self._at.get(slot_of(channel))
        for address, line in self._lines.items():
            if node in (None, address):
                line.renew()

    # -- where each slot's channels are asked for

    async def _follow_map(self) -> None:
        while True:
            self._doubt.clear()
            try:
                await self._cluster.refresh()
            except (RedisError, OSError) as error:
                self._no_map.note(f"no node of the Redis Cluster tells who serves what: {mapped(error)}")
                await asyncio.sleep(random.uniform(0.2, 1.0))
                continue
            except Exception:
                # What ends here would leave channels for good where nothing comes any more.
                log.exception("the map of the Redis Cluster cannot be read")
                await asyncio.sleep(1)
                continue
            self._no_map.over("the Redis Cluster tells again who serves what")
            self._settle(list(self._channels))
            self._leave_empty()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS * random.uniform(0.8, 1)):
                    await self._doubt.wait()
                # Who tells of one slot tells of many: they are asked for together.
                await asyncio.sleep(random.uniform(0.05, 0.3))
            self._layout.doubt()

    def _ask_for_map(self) -> None:
        self._layout.doubt()
        self._doubt.set()

    def _settle(self, slots: Iterable[int]) -> None:
        """Ask for the channels of these slots where they are served now, if that is not where they are asked for."""
        for slot in slots:
            owner = self._layout.owner(slot)
            if owner is None:
                self._doubt.set()
                continue
            before = self._at.get(slot)
            if before == owner:
                continue
            if before is not None and before in self._lines:
                self._write(before, b"SUNSUBSCRIBE", slot)
            self._at[slot] = owner
            if self._line(owner).connected:
                self._write(owner, b"SSUBSCRIBE", slot)

    def _write(self, node: Address, verb: bytes, slot: int) -> None:
        if verb == b"SSUBSCRIBE":
            self._open.add(slot)
        channels = list(self._channels.get(slot, ()))
        for start in range(0, len(channels), _AT_ONCE):
            self._lines[node].write(verb, *channels[start : start + _AT_ONCE])

    def _line(self, node: Address) -> Line:
        line = self._lines.get(node)
        if line is None:
            line = self._lines[node] = Line(
                Straight(self._place.url_of(node)),
                lambda reply: self._pushed(node, reply),
                lambda: self._ready(node),
                lost=self._ask_for_map,
                refused=self._refused,
            )
            line.start()
        return line

    def _ready(self, node: Address) -> None:
        for slot in [slot for slot, at in self._at.items() if at == node]:
            self._write(node, b"SSUBSCRIBE", slot)

    def _leave_empty(self) -> None:
        """Nodes that serve no slot any more; one that is away and still has slots is tried again by its line."""
        used = set(self._at.values()) | set(self._layout.owners())
        for node in [node for node in self._lines if node not in used]:
            line = self._lines.pop(node)
            self._reconnects += line.reconnects
            line.end()

    # -- what is heard

    def _pushed(self, node: Address, reply: list[Any]) -> None:
        kind = reply[0]
        if kind == b"smessage":
            self._heard(reply[1], reply[2])
        elif kind == b"ssubscribe":
            self._refusals.over("the Redis Cluster takes subscriptions again")
            slot = slot_of(reply[1])
            self._open.discard(slot)
            if reply[1] in self._channels.get(slot, ()) and self._at.get(slot) == node:
                self._confirmed(reply[1])
        elif kind == b"sunsubscribe" and reply[1] is not None:
            self._was_left(node, slot_of(reply[1]), reply[1])

    def _was_left(self, node: Address, slot: int, channel: bytes) -> None:
        """Of our own will, unless the channel is wanted there: then its slot is this node's no more."""
        if channel in self._channels.get(slot, ()) and self._at.get(slot) == node:
            del self._at[slot]
            self._ask_for_map()

    def _refused(self, error: hiredis.ReplyError) -> None:
        """`MOVED`, mostly: its slot's channels are asked for elsewhere. Whatever else it is, the map may tell."""
        words = str(error).split()
        if words[0] == "MOVED":
            slot, to = int(words[1]), _address(words[2])
            if to == self._at.get(slot):
                return  # Of what was left there already.
            self._layout.moved(slot, to)
            self._settle({slot} & self._channels.keys())
        else:
            self._refusals.note(f"the Redis Cluster refuses a subscription: {words[0]}")
            for slot in self._open:
                self._at.pop(slot, None)
        self._ask_for_map()


def _address(text: str) -> Address | None:
    """None where the server does not know its own host."""
    host, _, port = text.rpartition(":")
    return Address(host, int(port)) if host else None
