"""Moves events to watchers: topics from wake-ups, history from the store, heartbeats and lives from one timer.

A watcher is a place in its job's stream and a sink; no task waits for it while it is live or slow. Who may watch is decided
elsewhere. The stream in Redis is the truth: wake-ups may be lost, and every doubt ends in reading again from the watcher's place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final

from ..errors import NoSuchJob, StoreError
from ..events import BEGINNING, EventId
from ..jobs import Record
from ..metrics import WebTally, delivered_after
from ..settings import Settings
from ..store.aio import AsyncStore
from ..store.commands import REMOVED, Look, entry_of
from ..store.wakeups import Wakeups
from . import pages
from .formats import SSE, Format
from .lists import Lists, ListWatcher
from .over import Over
from .resume import Page, resume
from .sink import Sink
from .topic import Topic, is_terminal

log = logging.getLogger(__name__)

#: The longest that a flood's frames are gathered before they leave as one write: 1,000 watchers of one channel cost 6.2 s of CPU
#: a million deliveries with a write each, 0.26 s gathered (one core).
GATHER_SECONDS: Final = 0.02
#: Entries of the first history read of a job, and of any.
FIRST_PAGE: Final = 200
PAGE: Final = 1_000
#: Bytes that a history read aims at: each slow watcher has as much as one waiting for it.
PAGE_BYTES: Final = 512 * 1024
#: A read is inclusive, so that one entry alone would show nothing new.
_SMALLEST_PAGE: Final = 8
#: Between two checks of a topic's tail: the last message of all has no successor that would betray its loss.
TAIL_SECONDS: Final = 20.0
#: Between two probes of the live path.
PROBE_SECONDS: Final = 20.0
_PROBE_ANSWER_SECONDS: Final = 5.0
#: A job that vanished under its watchers is waited for so long: its reporter brings it back.
VANISHED_SECONDS: Final = 30.0
#: How long a loss of data is remembered: a job not found meanwhile may only not be back yet.
LOSS_SECONDS: Final = 60.0
#: Between two looks at the switch, which is promised to be noticed within 3 s; and the time over which open streams end then.
SWITCH_SECONDS: Final = 1.0
#: Why there is no stream while streaming is switched off.
STREAMING_OFF: Final = "streaming_off"
#: Between two events whose way to a watcher is measured: enough for a histogram, and nothing to pay for in a flood.
SAMPLE_SECONDS: Final = 0.01
_READS_AT_ONCE: Final = 32
_TOPICS_AT_ONCE: Final = 200
_TYPE: Final = re.compile(rb"[a-z][a-z0-9_.-]{0,63}").fullmatch
_AT: Final = re.compile(rb'"at": ?"([0-9T:.Z-]{20,24})"').search


class Watcher:
    """One client that follows a job: the hub's side of a sink (`streaming.sink.Stream`)."""

    __slots__ = (
        "address", "bytes", "catching", "ends_at", "epoch", "expires_at", "format", "gone", "hub", "live", "malformed", "n",
        "on_end", "opened_at", "owner", "replay_n", "sink", "slot", "topic",
    )  # fmt: skip

    def __init__(self, hub: Hub, topic: LiveTopic, sink: Sink, start: Start) -> None:
        self.hub = hub
        self.topic = topic
        self.sink = sink
        self.malformed = start.position is None
        self.epoch, self.n = start.position or BEGINNING
        self.replay_n = -1  # What was there at the first look was asked for: it is never folded.
        self.owner = start.owner
        self.format = start.format
        self.ends_at = start.ends_at
        self.expires_at = start.expires_at
        self.on_end = start.on_end
        self.address = start.address
        self.opened_at = hub.now()
        self.bytes = 0
        self.live = False
        self.catching = False
        self.gone = False
        self.slot = 0

    @property
    def place(self) -> EventId:
        return EventId(self.epoch, self.n)

    @property
    def lag(self) -> int:
        """Events that were heard of and not yet written to it."""
        last = self.topic.log.last
        return max(last.n - self.n, 0) if last is not None else 0

    def write(self, data: bytes, place: EventId | None = None) -> None:
        size = len(data)
        self.bytes += size
        self.hub.tally.sent_bytes += size
        if place is not None:
            self.epoch, self.n = place
        self.sink.write(data)

    def depart(self) -> None:
        self.hub.depart(self)

    def on_ready(self) -> None:
        self.hub.resume_writing(self)

    def on_lost(self) -> None:
        self.hub.leave(self)

    def on_shutdown(self) -> None:
        self.hub.send_away(self)


#: Whoever is served: of one job, or of a list.
Client = Watcher | ListWatcher


class Start:
    """With what a watcher begins. `position` None: malformed. `ends_at` in the hub's clock, `expires_at` in Unix time."""

    __slots__ = ("address", "ends_at", "expires_at", "format", "on_end", "owner", "position")

    def __init__(
        self,
        position: EventId | None,
        *,
        format: Format = SSE,
        owner: str | None = None,
        ends_at: float | None = None,
        expires_at: float | None = None,
        on_end: Callable[[float, int], None] | None = None,
        address: str | None = None,
    ) -> None:
        self.position = position
        self.format = format
        self.owner = owner
        self.ends_at = ends_at
        self.expires_at = expires_at
        self.on_end = on_end
        self.address = address


class LiveTopic:
    """A topic with those who watch it and the reads that they share."""

    __slots__ = (
        "channel",
        "check_at",
        "confirmed",
        "flush",
        "flushed_at",
        "log",
        "page",
        "reads",
        "retries",
        "vanished_at",
        "watchers",
    )

    def __init__(self, job: str, channel: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.log = Topic(job)
        self.channel = channel
        self.confirmed: asyncio.Future[None] = loop.create_future()
        self.watchers: dict[Watcher, None] = {}
        self.reads: dict[EventId | None, asyncio.Task[Look]] = {}
        self.flush: asyncio.TimerHandle | None = None
        self.flushed_at = 0.0
        self.check_at = 0.0
        self.vanished_at = 0.0
        self.retries = 0
        self.page = FIRST_PAGE

    def fit_page(self, entries: list[tuple[EventId, bytes, bytes]]) -> None:
        """Make the next read as large as this one's events allow."""
        size = sum(len(data) for _, _, data in entries)
        fitting = len(entries) * PAGE_BYTES // size if size else PAGE
        self.page = max(_SMALLEST_PAGE, min(fitting, 2 * self.page, PAGE))


class Hub:
    """All streams of one process."""

    def __init__(
        self, settings: Settings, store: AsyncStore, url: str, *, probe_store: AsyncStore | None = None
    ) -> None:
        self.settings = settings
        self.store = store
        self._probe_store = probe_store or store
        self.wakeups = Wakeups(url, self._heard, self._confirmed)
        self.draining = False
        #: Switched off by the setting, or for all processes at run time: who watches is sent to poll.
        self.streaming = settings.streaming
        self.live_proved = False
        self.by_owner: defaultdict[str | None, int] = defaultdict(int)
        self.count = 0
        self.tally = WebTally(self._count_up)
        self._sampled_at = 0.0
        self.over = Over()
        self.lists = Lists(self, self._spawn)
        self._replid = ""
        self._exit_watched = False
        self._topics: dict[bytes, LiveTopic] = {}
        self._slots: dict[int, set[Client]] = {}
        self._second = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._probe_channel = store.commands.keys.probe(uuid.uuid4().hex).encode()
        self._probe_heard = asyncio.Event()
        self._probe_answer = asyncio.Event()
        self._probe_word = b""
        self._marker = ""
        self._lost_at = float("-inf")
        self._started = False

    # -- life of the hub

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def start(self) -> None:
        """Begin to listen. Redis may be away: the hub goes on trying."""
        if self._started:
            return
        self._started = True
        self._second = int(self.now())
        self.wakeups.subscribe(self._probe_channel)
        self.wakeups.start()
        for work in (
            self._tick,
            self._check_tails,
            self._probe,
            self._watch_switch,
            self.lists.work,
            self.lists.check,
        ):
            self._spawn(self._for_ever(work))

    async def stop(self) -> None:
        """End everything at once; open streams are sent away."""
        for watcher in self._all():
            self.send_away(watcher)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.wakeups.stop()
        self._started = False

    async def drain(self, seconds: float) -> None:
        """Send every stream away in batches over so many seconds; new ones are refused from now on."""
        self.draining = True
        await self._end_all(seconds, self.send_away)

    async def _end_all(self, seconds: float, end: Callable[[Client], None]) -> None:
        watchers = self._all()
        random.shuffle(watchers)
        steps = max(int(seconds * 10), 1)
        for step in range(steps):
            for watcher in watchers[step::steps]:
                end(watcher)
            if step + 1 < steps and self.count:
                await asyncio.sleep(seconds / steps)

    async def _watch_switch(self) -> None:
        """Look whether streaming is switched on; while Redis is away it stays as it was."""
        while True:
            with contextlib.suppress(StoreError):
                on = await self._probe_store.send(self.store.commands.streaming_is_on())
                self._switch(on and self.settings.streaming)
            if not self.streaming and self.count:
                await self._end_all(SWITCH_SECONDS, self.turn_away)
            await asyncio.sleep(SWITCH_SECONDS * random.uniform(0.8, 1))

    def _switch(self, on: bool) -> None:
        if on != self.streaming:
            log.warning("streaming is switched %s", "on" if on else "off")
        self.streaming = on

    def watch_for_exit(self, exiting: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Where the server does not tell us that it stops, `exiting` does: then streams end, for it waits for them."""
        if not self._exit_watched:
            self._exit_watched = True
            self._spawn(self._drain_at(exiting))

    async def _drain_at(self, exiting: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await exiting()
        await self.drain(0)

    def lost_data_lately(self) -> bool:
        """True for a minute after Redis was seen to have lost data: a job not found may only not be back yet."""
        return self.now() - self._lost_at < LOSS_SECONDS

    async def check_marker(self) -> None:
        """Look whether Redis still is the one that it was. Raises StoreUnavailable."""
        # A new word each time: an old one, put back by ourselves, would hide that it was gone.
        marker = await self.store.send(self.store.commands.marker(uuid.uuid4().hex))
        if self._marker and marker != self._marker:
            self._lost_at = self.now()
            self.over.clear()
        self._marker = marker

    def _all(self) -> list[Client]:
        return [watcher for slot in self._slots.values() for watcher in slot]

    def clients(self) -> list[Any]:
        """Everybody who is served here, with a job or with a list."""
        return list(self._all())

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def _for_ever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A fault in one round must not end heartbeats, tail checks or probes for good."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("%s failed and begins again", work.__name__)
                await asyncio.sleep(1)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if (
            not task.cancelled()
            and (error := task.exception()) is not None
            and not isinstance(error, StoreError)
        ):
            log.error("a task of the hub failed", exc_info=error)

    # -- watchers come and go

    def follow(self, job: str, sink: Sink, start: Start) -> Watcher:
        """Serve this sink from now on. Whatever the request asked for first has been written already."""
        topic = self._topic(job)
        watcher = Watcher(self, topic, sink, start)
        topic.watchers[watcher] = None
        self.enter(watcher)
        self._catch_up(watcher)
        return watcher

    def enter(self, watcher: Client) -> None:
        """Count it, and look after it from now on."""
        self.by_owner[watcher.owner] += 1
        self.count += 1
        self._schedule(watcher)

    def _topic(self, job: str) -> LiveTopic:
        channel = self.store.commands.keys.channel(job).encode()
        topic = self._topics.get(channel)
        if topic is None:
            topic = self._topics[channel] = LiveTopic(job, channel, asyncio.get_running_loop())
            topic.check_at = self.now() + TAIL_SECONDS * random.uniform(0.5, 1)
            self.wakeups.subscribe(channel)
        return topic

    def leave(self, watcher: Client) -> None:
        """Forget a watcher whose connection is gone or ended."""
        if watcher.gone:
            return
        watcher.gone = True
        watcher.live = False
        watcher.depart()
        self._slots.get(watcher.slot, set()).discard(watcher)
        self.count -= 1
        self.by_owner[watcher.owner] -= 1
        if not self.by_owner[watcher.owner]:
            del self.by_owner[watcher.owner]
        if watcher.on_end is not None:
            watcher.on_end(self.now() - watcher.opened_at, watcher.bytes)

    def depart(self, watcher: Watcher) -> None:
        """It follows its job no more."""
        topic = watcher.topic
        topic.watchers.pop(watcher, None)
        if not topic.watchers:
            self._close(topic)

    def _close(self, topic: LiveTopic) -> None:
        if topic.flush is not None:
            topic.flush.cancel()
        if self._topics.get(topic.channel) is topic:
            del self._topics[topic.channel]
            self.wakeups.unsubscribe(topic.channel)

    def end(self, watcher: Client, last_words: bytes = b"") -> None:
        """End a watcher's response cleanly."""
        if watcher.gone:
            return
        if last_words:
            watcher.write(last_words)
        sink = watcher.sink
        self.leave(watcher)
        sink.end()

    def send_away(self, watcher: Client) -> None:
        """This server goes away: say so, and when to come back (soon, each at another moment)."""
        retry = random.randint(500, 2_000)
        data = b'{"retry_after":%.1f}' % (retry / 1000)
        self.end(watcher, watcher.format.added("draining", data, retry=retry))

    def turn_away(self, watcher: Client) -> None:
        """Streaming was switched off: the client is to poll, and may ask for a stream again later."""
        seconds = random.uniform(5, 30)
        data = b'{"reason":"%b","retry_after":%.1f}' % (STREAMING_OFF.encode(), seconds)
        self.end(watcher, watcher.format.added("busy", data, retry=round(seconds * 1000)))

    # -- what is heard

    def _confirmed(self, channel: bytes) -> None:
        if channel == self._probe_channel:
            self._probe_heard.set()
            return
        topic = self._topics.get(channel)
        if topic is None:
            self.lists.confirmed(channel)
            return
        if not topic.confirmed.done():
            topic.confirmed.set_result(None)
        else:
            # Confirmed once more: the connection was another one, and what came between is lost.
            topic.check_at = 0.0
            self._spawn(self._check_now())

    def _heard(self, channel: bytes, payload: bytes) -> None:
        if channel == self._probe_channel:
            if payload == self._probe_word:
                self._probe_answer.set()
            return
        topic = self._topics.get(channel)
        if topic is None:
            self.lists.heard(channel, payload)
            return
        if payload == REMOVED:
            self._look_again(topic)
            return
        message = _message(payload)
        if message is None:
            log.warning("a message on a job's channel is not of this version; its stream is read instead")
            topic.check_at = 0.0
            return
        first, batch = message
        if topic.log.frames and first.epoch < topic.log.epoch:
            return  # A server that is no primary any more still speaks: its epoch is an older one.
        continues = topic.log.hear(first, batch)
        topic.vanished_at = 0.0
        if not continues:
            self.tally.missed_wakeups += 1
        self._flush_soon(topic)

    def _look_again(self, topic: LiveTopic) -> None:
        """The job was deleted: whoever still follows it finds the tombstone, and ends."""
        for watcher in list(topic.watchers):
            watcher.live = False
            self._catch_up(watcher)

    def _flush_soon(self, topic: LiveTopic) -> None:
        """The first event of a quiet topic leaves at once; under a flood frames are gathered."""
        if topic.flush is not None:
            return
        loop = asyncio.get_running_loop()
        wait = topic.flushed_at + GATHER_SECONDS - loop.time()
        if wait <= 0:
            self._flush(topic)
        else:
            topic.flush = loop.call_later(wait, self._flush, topic)

    def _flush(self, topic: LiveTopic) -> None:
        topic.flush = None
        topic.flushed_at = self.now()
        log_ = topic.log
        last = log_.last
        if last is None:
            return
        pieces: dict[tuple[Any, int], bytes] = {}
        delivered = 0
        # The inner loop of a flood: beside the kernel's 5 µs a write, each attribute looked up counts.
        for watcher in list(topic.watchers):
            if not watcher.live or not watcher.sink.ready:
                continue
            if not log_.reaches(watcher.epoch, watcher.n):
                watcher.live = False
                self._catch_up(watcher)
                continue
            if watcher.n < last.n:
                # Forms whose bytes are the frames themselves share them.
                key = watcher.format.from_frame, watcher.n
                piece = pieces.get(key)
                if piece is None:
                    piece = pieces[key] = log_.after(watcher.n, watcher.format)
                delivered += last.n - watcher.n
                watcher.write(piece, last)
            if log_.ended_n:
                self._end_if_over(watcher)
        if delivered:
            self.tally.deliveries += delivered
            self._sample(log_.frames[-1])

    def _sample(self, frame: bytes) -> None:
        """Measure the newest event's way, if none was measured a moment ago."""
        now = self.now()
        if now - self._sampled_at >= SAMPLE_SECONDS and (found := _AT(frame)) is not None:
            self._sampled_at = now
            try:
                at = datetime.fromisoformat(found[1].decode())
            except ValueError:  # Somebody else's event.
                return
            delivered_after(_unix_time() - at.timestamp())

    def _end_if_over(self, watcher: Watcher) -> None:
        if (
            watcher.topic.log.ended_n
            and watcher.n >= watcher.topic.log.ended_n
            and watcher.epoch == watcher.topic.log.epoch
        ):
            self.end(watcher)

    def resume_writing(self, watcher: Watcher) -> None:
        """A sink takes bytes again: go on from the watcher's place, in the log or from Redis."""
        if watcher.gone or watcher.catching:
            return
        log_ = watcher.topic.log
        last = log_.last
        if watcher.live and last is not None and not log_.reaches(watcher.epoch, watcher.n):
            watcher.live = False
        if not watcher.live:
            self._catch_up(watcher)
        elif last is not None and watcher.n < last.n:
            self._write_heard(watcher, last)
        else:
            self._end_if_over(watcher)

    def _write_heard(self, watcher: Watcher, last: EventId) -> None:
        self.tally.deliveries += last.n - watcher.n
        watcher.write(watcher.topic.log.after(watcher.n, watcher.format), last)
        self._end_if_over(watcher)

    # -- history

    def _catch_up(self, watcher: Watcher) -> None:
        if not watcher.catching and not watcher.gone:
            watcher.catching = True
            self._spawn(self._catch_up_until_live(watcher))

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
            self._catch_up(watcher)

    async def _back_off(self, topic: LiveTopic) -> None:
        topic.retries = min(topic.retries + 1, 6)
        await asyncio.sleep(random.uniform(0, 0.05 * 2**topic.retries))

    async def _doubt(self, topic: LiveTopic) -> None:
        """What was heard and what Redis shows do not meet. A read that overtook a message is mended by the next one; if several
        are not, the subscription hangs on a server that is no primary: what it said is dropped and it is renewed."""
        if topic.retries >= 2:
            topic.log.forget()
            self.wakeups.renew()
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
            look = await self.store.look(
                self.store.commands.look(topic.log.job, place or BEGINNING, topic.page)
            )
        topic.fit_page(look.entries)
        self._note_server(look.replid)
        return look

    def _note_server(self, replid: str) -> None:
        """Another replication id: Redis was restarted or another server was promoted. Everything known is doubted."""
        if replid != self._replid:
            if self._replid:
                self.over.clear()
                for topic in self._topics.values():
                    topic.check_at = 0.0
            self._replid = replid

    def _deliver(self, watcher: Watcher, look: Look) -> bool:
        """Write what one look shows. True when the watcher is live now, or over."""
        topic = watcher.topic
        record = look.record
        if record is None:
            return self._vanished(watcher, look.tombstone)
        topic.vanished_at = 0.0
        if (heard := topic.log.last) is not None and heard.epoch < record.control.epoch:
            topic.log.forget()
        page = resume(None if watcher.malformed else watcher.place, record, look.entries)
        self._write_page(watcher, page, record)
        if page.position != record.control.last:
            return watcher.gone
        if record.terminal:
            self.end(watcher)
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
        tally = self.tally
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
        self._write_heard(watcher, last)
        return True

    def _vanished(self, watcher: Watcher, tombstone: bool) -> bool:
        topic = watcher.topic
        if tombstone:
            self.end(watcher)
            return True
        if not topic.vanished_at:
            topic.vanished_at = self.now()
            topic.log.forget()
            self._lost_at = self.now()
        if self.now() - topic.vanished_at > VANISHED_SECONDS:
            self.end(watcher)
            return True
        return False

    # -- doubt

    async def _check_tails(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._check_now()

    async def _check_now(self) -> None:
        """Compare each due topic's newest event with Redis'; where they differ, its watchers read again."""
        now = self.now()
        due = [topic for topic in self._topics.values() if topic.check_at <= now]
        for topic in due:
            topic.check_at = now + TAIL_SECONDS * random.uniform(0.8, 1.2)
        for start in range(0, len(due), _TOPICS_AT_ONCE):
            batch = due[start : start + _TOPICS_AT_ONCE]
            try:
                await self._check(batch)
            except StoreError:
                for topic in batch:
                    topic.check_at = self.now() + random.uniform(0.5, 2)

    async def _check(self, topics: list[LiveTopic]) -> None:
        lines: list[tuple[str, ...]] = [("ROLE",)]
        lines += [self.store.commands.tail(topic.log.job) for topic in topics]
        role, *tails = await self.store.pipeline(lines)
        if role[0] != b"master":
            await self.store.client.connection_pool.disconnect(inuse_connections=False)
            raise NoSuchJob("")
        for topic, tail in zip(topics, tails, strict=True):
            entry = entry_of(tail[0]) if tail else None
            self._compare(topic, entry)

    def _compare(self, topic: LiveTopic, entry: tuple[EventId, bytes, bytes] | None) -> None:
        lacking = 0
        for watcher in list(topic.watchers):
            if not watcher.live or not watcher.sink.ready:
                continue
            if entry is None or entry[0] != watcher.place or is_terminal(entry[1]):
                lacking += 1
                watcher.live = False
                self._catch_up(watcher)
        self.tally.tail_repairs += lacking > 0

    async def _probe(self) -> None:
        """Prove the live path: a word published through the connection that writes use must come back through ours."""
        while True:
            proved = False
            try:
                proved = await self._probe_once()
            except TimeoutError:
                log.warning("the probe of the live path did not come back")
            except StoreError as error:
                log.warning("the probe of the live path could not be sent: %s", error)
            if not proved and self.live_proved:
                log.warning("the live path is not proved; its connection is renewed")
            self.live_proved = proved
            if not proved:
                self.tally.probe_failures += 1
                self.wakeups.renew()
            await asyncio.sleep(PROBE_SECONDS * random.uniform(0.9, 1) if proved else random.uniform(0.2, 1))

    async def _probe_once(self) -> bool:
        # Not wait_for: before Python 3.12 it may swallow the cancellation that ends this task.
        async with asyncio.timeout(_PROBE_ANSWER_SECONDS):
            await self._probe_heard.wait()
        self._probe_answer.clear()
        self._probe_word = uuid.uuid4().hex.encode()
        # On a fresh connection: a kept one may lead to a server that was demoted.
        await self._probe_store.client.connection_pool.disconnect(inuse_connections=False)
        await self._probe_store.pipeline([("PUBLISH", self._probe_channel, self._probe_word)])
        await self.check_marker()
        async with asyncio.timeout(_PROBE_ANSWER_SECONDS):
            await self._probe_answer.wait()
        return True

    # -- time

    def _schedule(self, watcher: Client) -> None:
        """Into the slot of the second in which somebody must look at it again: one timer for all streams of a process."""
        at = self.now() + self.settings.heartbeat_seconds
        if watcher.ends_at is not None:
            at = min(at, watcher.ends_at)
        if watcher.expires_at is not None:
            at = min(at, self.now() + watcher.expires_at - _unix_time())
        watcher.slot = max(int(at), self._second + 1)
        self._slots.setdefault(watcher.slot, set()).add(watcher)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(max(self._second + 1 - self.now(), 0.05))
            while self._second < int(self.now()):
                self._second += 1
                for watcher in self._slots.pop(self._second, ()):
                    self._visit(watcher)
            self.tally.publish()

    def _count_up(self) -> None:
        """What is counted elsewhere."""
        self.tally.watchers = self.count
        self.tally.reconnects = self.wakeups.reconnects

    def _visit(self, watcher: Client) -> None:
        if watcher.gone:
            return
        if watcher.expires_at is not None and watcher.expires_at <= _unix_time() + 0.5:
            self.end(watcher, expired(watcher.format))
        elif watcher.ends_at is not None and watcher.ends_at <= self.now() + 0.5:
            self.end(watcher)
        else:
            if watcher.sink.ready:
                watcher.write(watcher.format.heartbeat())
            self._schedule(watcher)


def expired(format: Format = SSE) -> bytes:
    """The words to a watcher whose token has run out: asking again soon would not help."""
    retry = random.randint(30_000, 90_000)
    return format.added("expired", b'{"reason":"token_expired"}', retry=retry)


def _unix_time() -> float:
    return time.time()


def _message(payload: bytes) -> tuple[EventId, list[tuple[bytes, bytes]]] | None:
    """The first id and the (type, data) pairs of a wake-up; None for what no reporter of ours publishes.

    A line break in somebody else's type or data would shift all pairs after it: each must look like what it is.
    """
    head, *rest = payload.split(b"\n")
    epoch, _, n = head.partition(b"-")
    if len(rest) % 2 or not epoch.isdigit() or not n.isdigit():
        return None
    batch = list(zip(rest[::2], rest[1::2], strict=True))
    if not all(_TYPE(type) and data[:1] == b"{" and data[-1:] == b"}" for type, data in batch):
        return None
    return EventId(int(epoch), int(n)), batch
