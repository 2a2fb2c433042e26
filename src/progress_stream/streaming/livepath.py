"""Whether what is written still reaches this process, and whether Redis still is the one that it was.

A subscription can hang silently on a server that is no primary any more, and a Redis that was emptied says nothing of it: both are
asked for. What follows from the answers is decided by those who ask.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from typing import Final

from ..errors import StoreError
from ..metrics import WebTally
from ..store.aio import AsyncStore
from ..store.wakeups import Wakeups

log = logging.getLogger(__name__)

#: Between two probes of the live path.
PROBE_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 5.0
#: How long a loss of data is remembered: a job not found meanwhile may only not be back yet.
LOSS_SECONDS: Final = 60.0


class LivePath:
    """`proved` once a word of ours came back. `changed` is called when Redis is another server, or was emptied."""

    def __init__(
        self, store: AsyncStore, wakeups: Wakeups, tally: WebTally, changed: Callable[[], None]
    ) -> None:
        self.proved = False
        self._store = store
        self._wakeups = wakeups
        self._tally = tally
        self._changed = changed
        self._channel = store.commands.keys.probe(uuid.uuid4().hex).encode()
        self._confirmed = asyncio.Event()
        self._answer = asyncio.Event()
        self._word = b""
        self._replid = ""
        self._marker = ""
        self._lost_at = float("-inf")

    def begin(self) -> None:
        self._wakeups.subscribe(self._channel)

    def takes_confirmation(self, channel: bytes) -> bool:
        """True when the channel is the probe's own."""
        if channel != self._channel:
            return False
        self._confirmed.set()
        return True

    def takes(self, channel: bytes, payload: bytes) -> bool:
        """True when the message was a probe."""
        if channel != self._channel:
            return False
        if payload == self._word:
            self._answer.set()
        return True

    def lost_data_lately(self) -> bool:
        """True for a minute after Redis was seen to have lost data: a job not found may only not be back yet."""
        return asyncio.get_running_loop().time() - self._lost_at < LOSS_SECONDS

    def note_loss(self) -> None:
        """A job vanished under its watchers."""
        self._lost_at = asyncio.get_running_loop().time()

    def note_server(self, replid: str) -> None:
        """Another replication id: Redis was restarted or another server was promoted."""
        if replid != self._replid:
            if self._replid:
                self._changed()
            self._replid = replid

    async def check_marker(self) -> None:
        """Look whether Redis was emptied. Raises StoreUnavailable."""
        # A new word each time: an old one, put back by ourselves, would hide that it was gone.
        marker = await self._store.send(self._store.commands.marker(uuid.uuid4().hex))
        if self._marker and marker != self._marker:
            self.note_loss()
            self._changed()
        self._marker = marker

    async def streaming_is_on(self) -> bool:
        """What was said of it at run time, to all processes. Raises StoreUnavailable."""
        return await self._store.send(self._store.commands.streaming_is_on())

    async def prove(self) -> None:
        """For ever: a word published through the connection that writes use must come back through ours."""
        while True:
            proved = await self._try()
            if not proved:
                if self.proved:
                    log.warning("the live path is not proved; its connection is renewed")
                self._tally.probe_failures += 1
                self._wakeups.renew()
            self.proved = proved
            await asyncio.sleep(PROBE_SECONDS * random.uniform(0.9, 1) if proved else random.uniform(0.2, 1))

    async def _try(self) -> bool:
        try:
            await self._ask()
        except TimeoutError:
            log.warning("the probe of the live path did not come back")
        except StoreError as error:
            log.warning("the probe of the live path could not be sent: %s", error)
        else:
            return True
        return False

    async def _ask(self) -> None:
        # Not wait_for: before Python 3.12 it may swallow the cancellation that ends this task.
        async with asyncio.timeout(_ANSWER_SECONDS):
            await self._confirmed.wait()
        self._answer.clear()
        self._word = uuid.uuid4().hex.encode()
        # On a fresh connection: a kept one may lead to a server that was demoted.
        await self._store.drop_idle()
        await self._store.pipeline([("PUBLISH", self._channel, self._word)])
        await self.check_marker()
        async with asyncio.timeout(_ANSWER_SECONDS):
            await self._answer.wait()
