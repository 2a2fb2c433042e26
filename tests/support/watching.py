"""A hub with recording sinks, and a writer that plays one attempt: the stream's own parts without HTTP between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

from progress_stream import events, jobs
from progress_stream.events import BEGINNING, EventId
from progress_stream.frames.sse import Frame, Parser
from progress_stream.settings import Settings, load
from progress_stream.store.aio import AsyncStore
from progress_stream.store.answers import Appended, Started
from progress_stream.store.sync import SyncStore
from progress_stream.streaming.hub import Hub
from progress_stream.streaming.watcher import Start, Watcher


class RecordingSink:
    """Takes bytes as a connection would, and can be paused; parses what it took."""

    def __init__(self) -> None:
        self.parser = Parser()
        self.frames: list[Frame] = []
        self.writes = 0
        self.paused = False
        self.ended = False
        self.watcher: Watcher | None = None

    @property
    def ready(self) -> bool:
        return not self.paused and not self.ended

    def write(self, data: bytes) -> None:
        assert not self.ended, "written to after the end"
        self.writes += 1
        self.frames += self.parser.feed(data)

    def end(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def go_on(self) -> None:
        self.paused = False
        assert self.watcher is not None
        self.watcher.on_ready()

    def leave(self) -> None:
        """The client goes."""
        assert self.watcher is not None
        self.watcher.on_lost()

    def ids(self) -> list[str]:
        return [frame.id for frame in self.frames if frame.event not in ("snapshot", "draining")]

    def numbers(self) -> list[int]:
        return [EventId.parse(id).n for id in self.ids()]

    def gaps(self) -> list[dict[str, Any]]:
        bodies = [events.decode(frame.data.encode()) for frame in self.frames if frame.event == "snapshot"]
        return [body for body in bodies if body["gap"]]


def watch(hub: Hub, job: str, position: EventId | None = BEGINNING, **start: Any) -> RecordingSink:
    sink = RecordingSink()
    sink.watcher = hub.follow(job, sink, Start(position, **start))
    return sink


@contextlib.asynccontextmanager
async def running_hub(url: str, namespace: str, **overrides: Any) -> AsyncIterator[Hub]:
    settings = load(redis_url=url, namespace=namespace, **overrides)
    client = redis.asyncio.Redis.from_url(url, retry=AsyncRetry(NoBackoff(), 1), protocol=2, socket_timeout=5)
    probe = redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=2)
    hub = Hub(settings, AsyncStore(client, settings), url, probe_store=AsyncStore(probe, settings))
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()
        await client.aclose()
        await probe.aclose()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what the hub does; raises TimeoutError when it does not."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Writer:
    """One attempt of one job, written by hand: what a reporter does, without its buffer."""

    def __init__(self, client: redis.Redis, settings: Settings, job: str) -> None:
        self.store = SyncStore(client, settings)
        self.header = jobs.Header(job, "actor", owner="alice", created_at=1_700_000_000_000)
        self.job = job
        self.attempt = 0
        self.nonce = ""
        self.sequence = 0
        self.state = jobs.new(self.header)
        self.sent: list[tuple[str, bytes]] = []

    def create(self) -> None:
        event = events.make(self.job, "queued", at=events.now_text())
        self.store.send(self.store.commands.create(self.header, event, confirmed=True))

    def start(self, nonce: str = "first") -> Started:
        event = events.make(self.job, "started", at=events.now_text())
        started = self.store.send(self.store.commands.start(self.header, event, nonce, may_create=True))
        assert isinstance(started, Started)
        self.attempt, self.nonce, self.sequence, self.sent = started.attempt, nonce, 0, []
        self.state = jobs.fold(jobs.new(self.header), {**event, "attempt": started.attempt})
        return started

    def append(self, type: str = "line", count: int = 1, **fields: Any) -> Appended:
        batch: list[tuple[str, bytes]] = []
        for _ in range(count):
            event = events.make(self.job, type, at=events.now_text(), attempt=self.attempt, **fields)
            self.state = jobs.fold(self.state, event)
            batch.append((type, events.encode(event)))
        answer = self.store.send(
            self.store.commands.append(
                self.job, self.attempt, self.nonce, self.sequence + 1, batch, self.state
            )
        )
        self.sequence += count
        self.sent += batch
        return answer

    def append_again_from(self, first: int) -> Appended:
        """What a reporter does after `hole`: the old events under their old numbers, and its whole state."""
        return self.store.send(
            self.store.commands.append(
                self.job, self.attempt, self.nonce, first, self.sent[first - 1 :], self.state
            )
        )
