"""What a watcher lacks, read from the store until it is live: at its join, after every doubt, and when it was slow.

The stream in Redis is the truth; what a look shows is decided by `resume`, and how it is written by `pages`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..errors import StoreError
from ..events import BEGINNING, EventId
from ..jobs import Record
from ..store.answers import Look
from . import pages
from .replay import Shown
from .resume import Page
from .watcher import LiveTopic, Watcher

if TYPE_CHECKING:
    from .hub import Hub

log = logging.getLogger(__name__)

#: Entries of a history read, and bytes that it aims at: each slow watcher has as much as one waiting for it.
PAGE: Final = 2_000
PAGE_BYTES: Final = 512 * 1024
#: A job that vanished under its watchers is waited for so long: its reporter brings it back.
VANISHED_SECONDS: Final = 30.0
_READS_AT_ONCE: Final = 32
#: So long a read serves those who come after it: a storm of 2,000 who come back takes three seconds.
_KEEP_SECONDS: Final = 5.0
#: Of all reads that are kept; with the frames made of them they hold some three times as much.
_KEEP_BYTES: Final = 32 * 1024 * 1024
_FEW_ENTRIES: Final = 32


class History:
    """All reads of a process: so many at a time, and one for all who come at about the same time."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._store = hub.store
        self._path = hub.path
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._kept_bytes = 0

    def catch_up(self, watcher: Watcher) -> None:
        """Read for it from its place on until it is live; nothing where that is under way already.

        A task only where something must be waited for: what was read a moment ago is written at once.
        """
        if not watcher.catching and not watcher.gone and not self._serve_at_once(watcher):
            watcher.catching = True
            self._hub.spawn(self._catch_up_until_live(watcher))

    def _serve_at_once(self, watcher: Watcher) -> bool:
        topic = watcher.topic
        if not topic.confirmed.done() or topic.reads or not watcher.sink.ready:
            return False
        shown = self._kept(topic, watcher.place)
        return shown is not None and (self._deliver(watcher, shown) or watcher.gone)

    def _kept(self, topic: LiveTopic, place: EventId) -> Shown | None:
        """A read of a moment ago that covers this place. While nothing is heard, it may be of a server that is gone."""
        return topic.replay.find(place) if self._hub.wakeups.hears(topic.channel) else None

    async def _catch_up_until_live(self, watcher: Watcher) -> None:
        topic = watcher.topic
        anew = False
        try:
            if not topic.confirmed.done():
                await asyncio.shield(topic.confirmed)
            while not watcher.gone and watcher.sink.ready:
                before = watcher.place
                try:
                    shown = await self._read(topic, before, anew=anew)
                except StoreError:
                    await self._back_off(topic)
                    continue
                if watcher.gone or not watcher.sink.ready:
                    break
                if self._deliver(watcher, shown):
                    topic.retries = 0
                    return
                if topic.vanished_at:
                    await asyncio.sleep(random.uniform(0.5, 1.5))
                elif watcher.place == before and anew:
                    await self._doubt(topic)
                anew = watcher.place == before
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
            topic.forget()
            self._hub.wakeups.renew(topic.channel)
        await self._back_off(topic)

    async def _read(self, topic: LiveTopic, place: EventId, *, anew: bool) -> Shown:
        """A read that covers this place: one of a moment ago, one that is under way, or its own; `anew`: not one that is done."""
        if not anew:
            for begun, reading in list(topic.reads.items()):
                if begun.n < place.n:
                    await asyncio.wait((reading,))
                    break
            if (shown := self._kept(topic, place)) is not None:
                return shown
        task = topic.reads.get(place)
        if task is None:
            task = topic.reads[place] = asyncio.get_running_loop().create_task(self._look(topic, place))
            task.add_done_callback(lambda done: self._read_done(topic, place, done))
        return await asyncio.shield(task)

    @staticmethod
    def _read_done(topic: LiveTopic, place: EventId, task: asyncio.Task[Shown]) -> None:
        topic.reads.pop(place, None)
        if not task.cancelled():
            task.exception()  # Marks it as seen: those who waited may all have left.

    async def _look(self, topic: LiveTopic, place: EventId) -> Shown:
        doubts = topic.replay.doubts
        async with self._reads:
            look = await self._store.look(
                self._store.commands.look(topic.log.job, place, PAGE, enough_bytes=PAGE_BYTES)
            )
        self._hub.tally.history_reads += 1
        self._path.note_server(look.replid, self._store.place_of(topic.log.job))
        shown = Shown(place, look)
        if topic.replay.doubts == doubts:
            self._keep(topic, shown)
        return shown

    def _keep(self, topic: LiveTopic, shown: Shown) -> None:
        """For a moment; where too much is kept already, those who come next read for themselves.

        Not what is soon read again and nobody else wants: of 1,000 jobs with a watcher each it was 4 KiB a stream.
        """
        wanted = len(topic.watchers) > 1 or len(shown.look.entries) > _FEW_ENTRIES
        if not wanted or shown.look.record is None or self._kept_bytes + shown.bytes > _KEEP_BYTES:
            return
        self._kept_bytes += shown.bytes
        topic.replay.keep(shown)
        asyncio.get_running_loop().call_later(_KEEP_SECONDS, self._drop, topic, shown)

    def _drop(self, topic: LiveTopic, shown: Shown) -> None:
        self._kept_bytes -= shown.bytes
        topic.replay.drop(shown)

    def _deliver(self, watcher: Watcher, shown: Shown) -> bool:
        """Write what one read shows. True when the watcher is live now, or over."""
        topic = watcher.topic
        record = shown.look.record
        if record is None:
            return self._vanished(watcher, shown.look)
        topic.vanished_at = 0.0
        if (heard := topic.log.last) is not None and _is_gone(heard, shown.look, record):
            topic.forget()
        position = None if watcher.malformed else watcher.place
        page = shown.page(position)
        self._write_page(watcher, page, record, lambda: shown.piece(position, watcher.format))
        if page.position != record.control.last:
            return watcher.gone
        if record.terminal:
            self._hub.end(watcher)
            return True
        return self._go_live(watcher)

    def _write_page(self, watcher: Watcher, page: Page, record: Record, whole: Callable[[], bytes]) -> None:
        if page.gap is not None:
            watcher.write(pages.gap_frame(watcher.format, page.gap, record))
        behind = record.control.n - watcher.n
        if 0 <= watcher.replay_n <= watcher.n and behind > pages.FOLD_BEYOND:
            kept = pages.folded(page.entries)
            data, written = pages.frames(watcher.format, kept), len(kept)
        else:
            data, written = whole(), len(page.entries)
        self._count_page(watcher, page, written)
        watcher.malformed = False
        if page.entries or page.gap is not None:
            watcher.write(data, page.position)
        if watcher.replay_n < 0:
            heard = watcher.topic.log.last
            watcher.replay_n = max(record.control.n, heard.n if heard is not None else 0)

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

    def _vanished(self, watcher: Watcher, look: Look) -> bool:
        """Its reporter may bring it back, and what somebody else wrote there its next report replaces."""
        topic = watcher.topic
        if look.tombstone:
            self._hub.end(watcher)
            return True
        if not topic.vanished_at:
            topic.vanished_at = self._hub.now()
            topic.forget()
            if look.foreign:
                log.warning("job %s: what lies there is no job that this version knows", topic.log.job)
            else:
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
