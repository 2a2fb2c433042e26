"""What a watcher lacks, read from the store until it is live: at its join, after every doubt, and when it was slow.

The stream in Redis is the truth; what a look shows is decided by `resume`, and how it is written by `pages`.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from ..errors import StoreError
from ..events import BEGINNING, EventId
from ..jobs import Record
from ..store.commands import Look
from . import pages
from .resume import Page, resume
from .watcher import LiveTopic, Watcher

if TYPE_CHECKING:
    from .hub import Hub

#: A job that vanished under its watchers is waited for so long: its reporter brings it back.
VANISHED_SECONDS: Final = 30.0
_READS_AT_ONCE: Final = 32


class History:
    """All reads of a process: so many at a time, and one for those who stand at the same place."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._store = hub.store
        self._path = hub.path
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    def catch_up(self, watcher: Watcher) -> None:
        """Read for it from its place on until it is live; nothing where that is under way already."""
        if not watcher.catching and not watcher.gone:
            watcher.catching = True
            self._hub.spawn(self._catch_up_until_live(watcher))

    async def _catch_up_until_live(self, watcher: Watcher) -> None:
        topic = watcher.topic
        try:
            if not topic.confirmed.done():
                await asyncio.shield(topic.confirmed)
            while not watcher.gone and watcher.sink.ready:
                before = watcher.place
                try:
                    look = await self._read(topic, None if watcher.malformed else before)
                except StoreError:
                    await self._back_off(topic)
                    continue
                if watcher.gone or not watcher.sink.ready:
                    break
                if self._deliver(watcher, look):
                    topic.retries = 0
                    return
                if topic.vanished_at:
                    await asyncio.sleep(random.uniform(0.5, 1.5))
                elif watcher.place == before:
                    await self._doubt(topic)
        finally:
            watcher.catching = False
        if not watcher.gone and watcher.sink.ready and not watcher.live:
            self.catch_up(watcher)

    async def _back_off(self, topic: LiveTopic) -> None:
        topic.retries = min(topic.retries + 1, 6)
        await asyncio.sleep(random.uniform(0, 0.05 * 2**topic.retries))

    async def _doubt(self, topic: LiveTopic) -> None:
        """What was heard and what Redis shows do not meet. A read that overtook a message is mended by the next one; if several
        are not, the subscription hangs on a server that is no primary: what it said is dropped and it is renewed."""
        if topic.retries >= 2:
            topic.log.forget()
            self._hub.wakeups.renew()
        await self._back_off(topic)

    async def _read(self, topic: LiveTopic, place: EventId | None) -> Look:
        """One look from a place on; those who ask for the same place while it is under way share it."""
        task = topic.reads.get(place)
        if task is None:
            task = topic.reads[place] = asyncio.get_running_loop().create_task(self._look(topic, place))
            task.add_done_callback(lambda done: self._read_done(topic, place, done))
        return await asyncio.shield(task)

    @staticmethod
    def _read_done(topic: LiveTopic, place: EventId | None, task: asyncio.Task[Look]) -> None:
        topic.reads.pop(place, None)
        if not task.cancelled():
            task.exception()  # Marks it as seen: those who waited may all have left.

    async def _look(self, topic: LiveTopic, place: EventId | None) -> Look:
        async with self._reads:
            look = await self._store.look(
                self._store.commands.look(topic.log.job, place or BEGINNING, topic.page)
            )
        topic.fit_page(look.entries)
        self._path.note_server(look.replid)
        return look

    def _deliver(self, watcher: Watcher, look: Look) -> bool:
        """Write what one look shows. True when the watcher is live now, or over."""
        topic = watcher.topic
        record = look.record
        if record is None:
            return self._vanished(watcher, look.tombstone)
        topic.vanished_at = 0.0
        if (heard := topic.log.last) is not None and _is_gone(heard, look, record):
            topic.log.forget()
        page = resume(None if watcher.malformed else watcher.place, record, look.entries)
        self._write_page(watcher, page, record)
        if page.position != record.control.last:
            return watcher.gone
        if record.terminal:
            self._hub.end(watcher)
            return True
        return self._go_live(watcher)

    def _write_page(self, watcher: Watcher, page: Page, record: Record) -> None:
        data = b"" if page.gap is None else pages.gap_frame(watcher.format, page.gap, record)
        behind = record.control.n - watcher.n
        fold = 0 <= watcher.replay_n <= watcher.n and behind > pages.FOLD_BEYOND
        kept = pages.folded(page.entries) if fold else page.entries
        data += pages.frames(watcher.format, kept)
        self._count_page(watcher, page, len(kept))
        watcher.malformed = False
        if data:
            watcher.write(data, page.position)
        if watcher.replay_n < 0:
            watcher.replay_n = record.control.n

    def _count_page(self, watcher: Watcher, page: Page, written: int) -> None:
        tally = self._hub.tally
        tally.deliveries += written
        tally.replayed += written
        tally.folded += len(page.entries) - written
        if page.gap is not None:
            tally.gap += 1
        elif watcher.replay_n < 0 and watcher.place != BEGINNING:
            if page.entries:
                tally.replay += 1
            else:
                tally.live += 1

    def _go_live(self, watcher: Watcher) -> bool:
        """The watcher has all that Redis showed; what was heard meanwhile follows from the log, or is read again."""
        log_ = watcher.topic.log
        last = log_.last
        if last is None or (last.epoch == watcher.epoch and last.n <= watcher.n):
            if last is None:
                # An empty log begins here, so that the next event is seen to continue it.
                log_.epoch, log_.first_n = watcher.epoch, watcher.n + 1
            watcher.live = True
            return True
        if not log_.reaches(watcher.epoch, watcher.n):
            return False
        watcher.live = True
        self._hub.write_heard(watcher, last)
        return True

    def _vanished(self, watcher: Watcher, tombstone: bool) -> bool:
        topic = watcher.topic
        if tombstone:
            self._hub.end(watcher)
            return True
        if not topic.vanished_at:
            topic.vanished_at = self._hub.now()
            topic.log.forget()
            self._path.note_loss()
        if self._hub.now() - topic.vanished_at > VANISHED_SECONDS:
            self._hub.end(watcher)
            return True
        return False


def _is_gone(heard: EventId, look: Look, record: Record) -> bool:
    """Whether what was heard is no part of the stream any more.

    Of the same epoch it may only be newer than the look; unless this server has appended nothing yet (a restart, a promotion): then
    what lies beyond its last event was lost with the server before it.
    """
    last = record.control.last
    if heard.epoch != last.epoch:
        return heard.epoch < last.epoch
    return heard.n > last.n and record.control.replid != look.replid
