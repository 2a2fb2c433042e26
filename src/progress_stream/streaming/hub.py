"""Moves events to watchers: what is heard leaves at once, or gathered; what is lacking is read (`history`).

A watcher is a place in its job's stream and a sink; no task waits for it while it is live or slow. Who may watch is decided
elsewhere. The stream in Redis is the truth: wake-ups may be lost, and every doubt (`tails`, `livepath`) ends in reading again from
the watcher's place. Heartbeats and ends of lives are `lives`', pages of many jobs `lists`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final

from ..errors import StoreError
from ..events import EventId
from ..metrics import WebTally, delivered_after
from ..settings import Settings
from ..store import messages
from ..store.aio import AsyncStore
from ..store.wakeups import wakeups_for
from .history import History
from .leaving import Leaving
from .lists import Lists
from .livepath import LivePath
from .lives import Client, Lives
from .over import Over
from .sink import Sink
from .tails import Tails
from .watcher import LiveTopic, Start, Watcher

log = logging.getLogger(__name__)

#: The longest that a flood's frames are gathered before they leave as one write: 1,000 watchers of one channel cost 6.2 s of CPU
#: a million deliveries with a write each, 0.26 s gathered (one core). Half of what a change may take to the screen, and less than
#: the time between two progress reports of a job: those, ten a second, never wait. At 20 ms a flood cost twice as much.
GATHER_SECONDS: Final = 0.05
#: Gathered for so long by each watcher, at most the above: a round of writes takes about a tenth of it, and where few watch, no
#: event waits. With one watcher and an event every 10 ms the median from append to arrival was 10.0 ms gathered for 20 ms, and
#: is 1.6 ms.
_GATHER_SECONDS_EACH: Final = 0.000_1
#: Between two looks at the switch, which is promised to be noticed within 3 s; and the time over which open streams end then.
SWITCH_SECONDS: Final = 1.0
#: Why there is no stream while streaming is switched off.
STREAMING_OFF: Final = "streaming_off"
#: Between two events whose way to a watcher is measured: enough for a histogram, and nothing to pay for in a flood.
SAMPLE_SECONDS: Final = 0.01
#: So long a cancelled task has before it is cancelled once more.
_CANCEL_SECONDS: Final = 0.5
_AT: Final = re.compile(rb'"at": ?"([0-9T:.Z-]{20,24})"').search


class Hub:
    """All streams of one process."""

    def __init__(
        self, settings: Settings, store: AsyncStore, url: str, *, probe_store: AsyncStore | None = None
    ) -> None:
        self.settings = settings
        self.store = store
        self.wakeups = wakeups_for(url, store, self._heard, self._confirmed)
        self.draining = False
        #: Switched off by the setting, or for all processes at run time: who watches is sent to poll.
        self.streaming = settings.streaming
        self.by_owner: defaultdict[str | None, int] = defaultdict(int)
        self.count = 0
        self.tally = WebTally(self._count_up)
        self.over = Over()
        self.path = LivePath(probe_store or store, self.wakeups, self.tally, self._doubt_all)
        self.history = History(self)
        self.lists = Lists(self, self.spawn)
        self._leaving = Leaving(store, self.wakeups, self.spawn, self.end)
        self._lives = Lives(settings, self.end, self.tally.publish)
        self._topics: dict[bytes, LiveTopic] = {}
        self._tails = Tails(self, self._topics.values)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sampled_at = 0.0
        self._exit_watched = False
        self._started = False

    # -- life of the hub

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def start(self) -> None:
        """Begin to listen. Redis may be away: the hub goes on trying."""
        if self._started:
            return
        self._started = True
        self._lives.begin()
        self.path.begin()
        self.wakeups.start()
        for work in (
            self._lives.tick, self._tails.check, self.path.prove, self._watch_switch, self.lists.work, self.lists.check,
        ):  # fmt: skip
            self.spawn(self._for_ever(work))

    async def stop(self) -> None:
        """End everything at once; open streams are sent away."""
        for watcher in self.clients():
            self.send_away(watcher)
        # Again and again: before Python 3.12 the `wait_for` inside redis-py may swallow a cancellation.
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_CANCEL_SECONDS)
        await self.wakeups.stop()
        self._started = False

    async def drain(self, seconds: float) -> None:
        """Send every stream away in batches over so many seconds; new ones are refused from now on."""
        self.draining = True
        await self.send_all_away(seconds)

    async def send_all_away(self, seconds: float) -> None:
        """Those who are here now, in batches; others may come."""
        await self._end_all(seconds, self.send_away)

    async def _end_all(self, seconds: float, end: Callable[[Client], None]) -> None:
        watchers = self.clients()
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
                on = await self.path.streaming_is_on()
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
            self.spawn(self._drain_at(exiting))

    async def _drain_at(self, exiting: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await exiting()
        await self.drain(0)

    def clients(self) -> list[Client]:
        """Everybody who is served here, with a job or with a list."""
        return self._lives.everybody()

    def _doubt_all(self, place: int | None = None) -> None:
        """Redis is another server than before, or was emptied: nothing that is known of it holds; in a Cluster of this place."""
        self.over.clear()
        for topic in self._topics.values():
            if self.store.place_of(topic.log.job) == place or place is None:
                topic.doubt()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that ends with the hub."""
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
        self.history.catch_up(watcher)
        return watcher

    def enter(self, watcher: Client) -> None:
        """Count it, and look after it from now on."""
        self.by_owner[watcher.owner] += 1
        self.count += 1
        self._lives.keep(watcher)
        self._leaving.enter(watcher)

    def _topic(self, job: str) -> LiveTopic:
        channel = self.store.commands.keys.channel(job).encode()
        topic = self._topics.get(channel)
        if topic is None:
            topic = self._topics[channel] = LiveTopic(job, channel, asyncio.get_running_loop())
            topic.check_at = self._tails.first_check()
            self.wakeups.subscribe(channel)
        return topic

    def leave(self, watcher: Client) -> None:
        """Forget a watcher whose connection is gone or ended."""
        if watcher.gone:
            return
        watcher.gone = True
        watcher.live = False
        watcher.depart()
        self._lives.forget(watcher)
        self._leaving.leave(watcher)
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
        if self.path.takes_confirmation(channel) or self._leaving.takes_confirmation(channel):
            return
        topic = self._topics.get(channel)
        if topic is None:
            self.lists.confirmed(channel)
            return
        if not topic.confirmed.done():
            topic.confirmed.set_result(None)
        else:
            # Confirmed once more: the connection was another one, and what came between is lost.
            topic.doubt()
            self.spawn(self._tails.check_now())

    def _heard(self, channel: bytes, payload: bytes) -> None:
        if self.path.takes(channel, payload) or self._leaving.takes(channel):
            return
        topic = self._topics.get(channel)
        if topic is None:
            self.lists.heard(channel, payload)
            return
        if payload == messages.REMOVED:
            self._look_again(topic)
            return
        message = messages.events_of(payload)
        if message is None:
            log.warning("a message on a job's channel is not of this version; its stream is read instead")
            topic.doubt()
            return
        first, batch = message
        if topic.log.frames and first.epoch < topic.log.epoch:
            return  # A server that is no primary any more still speaks: its epoch is an older one.
        continues = topic.log.hear(first, batch)
        topic.vanished_at = 0.0
        if not continues:
            topic.replay.forget()
            self.tally.missed_wakeups += 1
        self._flush_soon(topic)

    def _look_again(self, topic: LiveTopic) -> None:
        """The job was deleted: whoever still follows it finds the tombstone, and ends."""
        topic.doubt()
        for watcher in list(topic.watchers):
            watcher.live = False
            self.history.catch_up(watcher)

    def _flush_soon(self, topic: LiveTopic) -> None:
        """The first event of a quiet topic leaves at once; under a flood frames are gathered."""
        if topic.flush is not None:
            return
        loop = asyncio.get_running_loop()
        gather = min(GATHER_SECONDS, len(topic.watchers) * _GATHER_SECONDS_EACH)
        wait = topic.flushed_at + gather - loop.time()
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
                self.history.catch_up(watcher)
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
        if delivered and log_.frames:
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
            delivered_after(time.time() - at.timestamp())

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
            self.history.catch_up(watcher)
        elif last is not None and watcher.n < last.n:
            self.write_heard(watcher, last)
        else:
            self._end_if_over(watcher)

    def write_heard(self, watcher: Watcher, last: EventId) -> None:
        """All that its topic's log holds after its place."""
        self.tally.deliveries += last.n - watcher.n
        watcher.write(watcher.topic.log.after(watcher.n, watcher.format), last)
        self._end_if_over(watcher)

    def _count_up(self) -> None:
        """What is counted elsewhere."""
        self.tally.watchers = self.count
        self.tally.reconnects = self.wakeups.reconnects
