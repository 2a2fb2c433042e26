"""Whether what is written still reaches this process, and whether Redis still is the one that it was.

A subscription can hang silently on a server that is no primary any more, and a Redis that was emptied says nothing of it: both are
asked for. What follows from the answers is decided by those who ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import Callable
from typing import Final

from ..errors import StoreError
from ..metrics import WebTally
from ..store.aio import AsyncStore
from ..store.sharded import ShardedWakeups
from ..store.trouble import Trouble
from ..store.wakeups import Wakeups

log = logging.getLogger(__name__)

#: Between two probes of the live path.
PROBE_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 5.0
#: How long a loss of data is remembered: a job not found meanwhile may only not be back yet.
LOSS_SECONDS: Final = 60.0


class _Probe:
    """One server's way: the channel on which a word of ours must come back, and the mark of what that server holds."""

    __slots__ = ("answer", "channel", "confirmed", "marker", "tag", "word")

    def __init__(self, tag: str | None, channel: bytes) -> None:
        self.tag = tag
        self.channel = channel
        self.confirmed = asyncio.Event()
        self.answer = asyncio.Event()
        self.word = b""
        self.marker = ""


class LivePath:
    """`proved` once a word of ours came back, in a Cluster from each shard that can be asked. `changed` is called when Redis is
    another server, or was emptied; in a Cluster with the place that is on another server.
    """

    def __init__(
        self,
        store: AsyncStore,
        wakeups: Wakeups | ShardedWakeups,
        tally: WebTally,
        changed: Callable[[int | None], None],
    ) -> None:
        self.proved = False
        self._store = store
        self._wakeups = wakeups
        self._tally = tally
        self._changed = changed
        self._process = uuid.uuid4().hex
        self._probes: dict[bytes, _Probe] = {}
        self._replids: dict[int | None, str] = {}
        self._lost_at = float("-inf")
        self._trouble = Trouble(log)

    def begin(self) -> None:
        self._look_at_shards()

    def _look_at_shards(self) -> None:
        """A probe for each server that there is now; a Cluster's are known once one of them has answered."""
        tags = {
            self._store.commands.keys.probe(self._process, tag).encode(): tag for tag in self._store.tags()
        }
        for channel in self._probes.keys() - tags.keys():
            del self._probes[channel]
            self._wakeups.unsubscribe(channel)
        for channel in tags.keys() - self._probes.keys():
            self._probes[channel] = _Probe(tags[channel], channel)
            self._wakeups.subscribe(channel)

    def takes_confirmation(self, channel: bytes) -> bool:
        """True when the channel is a probe's own."""
        probe = self._probes.get(channel)
        if probe is None:
            return False
        probe.confirmed.set()
        return True

    def takes(self, channel: bytes, payload: bytes) -> bool:
        """True when the message was a probe."""
        probe = self._probes.get(channel)
        if probe is None:
            return False
        if payload == probe.word:
            probe.answer.set()
        return True

    def lost_data_lately(self) -> bool:
        """True for a minute after Redis was seen to have lost data: a job not found may only not be back yet."""
        return asyncio.get_running_loop().time() - self._lost_at < LOSS_SECONDS

    def note_loss(self) -> None:
        """A job vanished under its watchers."""
        self._lost_at = asyncio.get_running_loop().time()

    def note_server(self, replid: str, place: int | None = None) -> None:
        """Another replication id: Redis was restarted or another server was promoted."""
        known = self._replids.get(place)
        if replid != known:
            if known is not None:
                self._changed(place)
            self._replids[place] = replid

    async def check_marker(self) -> None:
        """Look whether Redis was emptied. Raises StoreUnavailable."""
        await asyncio.gather(*(self._check_marker(probe) for probe in list(self._probes.values())))

    async def _check_marker(self, probe: _Probe) -> None:
        # A new word each time: an old one, put back by ourselves, would hide that it was gone.
        marker = await self._store.send(self._store.commands.marker(uuid.uuid4().hex, probe.tag))
        if probe.marker and marker != probe.marker:
            self.note_loss()
            self._changed(None)
        probe.marker = marker

    async def streaming_is_on(self) -> bool:
        """What was said of it at run time, to all processes. Raises StoreUnavailable."""
        return await self._store.send(self._store.commands.streaming_is_on())

    async def prove(self) -> None:
        """For ever: a word published through the connection that writes use must come back through ours."""
        while True:
            proved = await self._try_all()
            if not proved and self.proved:
                log.warning("the live path is not proved; its connection is renewed")
            if proved:
                self._trouble.over("the live path is proved again")
            self.proved = proved
            await asyncio.sleep(PROBE_SECONDS * random.uniform(0.9, 1) if proved else random.uniform(0.2, 1))

    async def _try_all(self) -> bool:
        """That a shard cannot be asked is no fault of this process' live path, as long as others can be."""
        # Asked on fresh connections: a kept one may lead to a server that was demoted.
        await self._store.drop_idle()
        with contextlib.suppress(StoreError):
            await self._store.refresh()
        self._look_at_shards()
        found = await asyncio.gather(*(self._try(probe) for probe in self._probes.values()))
        self._tally.probe_failures += sum(one is not True for one in found)
        return True in found and False not in found

    async def _try(self, probe: _Probe) -> bool | None:
        """Whether it came back; None where it could not be sent."""
        try:
            await self._ask(probe)
        except TimeoutError:
            self._trouble.note("the probe of the live path did not come back")
            self._wakeups.renew(probe.channel)
            return False
        except StoreError as error:
            self._trouble.note(f"the probe of the live path could not be sent: {error}")
            if probe.tag is None:
                # A Cluster may refuse words and still be heard; where its connection is gone, that one says so.
                self._wakeups.renew(probe.channel)
            return None
        return True

    async def _ask(self, probe: _Probe) -> None:
        # Not wait_for: before Python 3.12 it may swallow the cancellation that ends this task.
        async with asyncio.timeout(_ANSWER_SECONDS):
            await probe.confirmed.wait()
        probe.answer.clear()
        probe.word = uuid.uuid4().hex.encode()
        await self._store.pipeline([("PUBLISH", probe.channel, probe.word)])
        await self._check_marker(probe)
        async with asyncio.timeout(_ANSWER_SECONDS):
            await probe.answer.wait()
