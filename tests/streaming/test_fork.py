"""A replica that lacks the newest events is promoted: whoever saw them is told, once; nobody loses anything silently.

The checker keeps every adjacent pair of entries that any server ever held; two deliveries with no gap between them must be
such a pair. It is proved able to fail by the same history under plain `<ms>-<seq>` ids that are read exclusively.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from progress_stream.errors import AlreadyEnded, SequenceHole, StoreError
from progress_stream.events import EventId
from progress_stream.settings import load
from progress_stream.streaming.hub import Hub
from tests.support import lacking
from tests.support.redis import RedisServer
from tests.support.shims import build
from tests.support.switch import Switch
from tests.support.watching import RecordingSink, Writer, running_hub, until, watch

pytestmark = pytest.mark.anyio

Pair = tuple[str, str]


@pytest.fixture(scope="session")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = build("clock", tmp_path_factory.mktemp("clock"))
    if library is None:
        lacking("a C compiler for the clock shim")
    return library


class Pairs:
    """What servers held: adjacent entries, the beginning included."""

    def __init__(self) -> None:
        self.known: set[Pair] = set()

    def note(self, server: RedisServer, key: str) -> list[str]:
        with server.client() as client:
            ids = [id.decode() for id, _ in client.xrange(key)]
        self.known |= set(zip(["0-0", *ids], ids, strict=False))
        return ids

    def holes(self, sink: RecordingSink) -> list[Pair]:
        """Deliveries next to each other that no server held so, with no gap told between them."""
        found: list[Pair] = []
        before: str | None = "0-0"
        for frame in sink.frames:
            if frame.event == "snapshot":
                before = None
                continue
            if before is not None and (before, frame.id) not in self.known:
                found.append((before, frame.id))
            before = frame.id
        return found


@contextlib.contextmanager
def two_servers(folder: Path, env: dict[str, str]) -> Iterator[tuple[RedisServer, RedisServer]]:
    with RedisServer(folder / "a") as a, RedisServer(folder / "b", env=env) as b:
        b.replicate(a)
        yield a, b


@contextlib.asynccontextmanager
async def scene(a: RedisServer, switch: Switch) -> AsyncIterator[tuple[Hub, Writer]]:
    settings = load(redis_url=switch.url(), namespace="fork")
    client = redis.Redis.from_url(switch.url(), protocol=2, socket_timeout=3, retry=Retry(NoBackoff(), 5))
    writer = Writer(client, settings, "job")
    writer.create()
    writer.start()
    async with running_hub(switch.url(), "fork") as hub:
        yield hub, writer
    client.close()


def resend(writer: Writer, type: str = "line", count: int = 1) -> None:
    """As a reporter does it: a hole is filled under the old numbers, then the new events follow."""
    for _ in range(50):
        try:
            writer.append(type, count)
            return
        except SequenceHole as hole:
            writer.append_again_from(hole.last + 1)
        except AlreadyEnded:
            return
        except StoreError:
            continue
    raise AssertionError("Redis never took it")


@pytest.mark.contract("Never a silent hole")
@pytest.mark.parametrize("behind", [0, 3_600], ids=["clocks equal", "an hour behind"])
async def test_a_lost_tail_is_told_to_exactly_those_who_saw_it(
    tmp_path: Path, clock_shim: Path, behind: int
) -> None:
    """Five watchers beyond the fork get one gap each, five before it none; all end with the same state."""
    env = {"LD_PRELOAD": str(clock_shim), "CLOCK_OFFSET_SECONDS": str(-behind)}
    pairs = Pairs()
    with two_servers(tmp_path, env) as (a, b), Switch(a.port) as switch:
        async with scene(a, switch) as (hub, writer):
            beyond = [watch(hub, "job") for _ in range(5)]
            before = [watch(hub, "job") for _ in range(5)]
            writer.append(count=10)
            await until(lambda: all(len(sink.frames) == 12 for sink in beyond + before))
            writer.store.wait_for_replica(5_000, "job")
            b.cut_off()
            for sink in before:
                sink.leave()
            places = [sink.frames[-1].id for sink in before]
            writer.append(count=3)
            await until(lambda: all(len(sink.frames) == 15 for sink in beyond))
            key = writer.store.commands.keys.events("job")
            pairs.note(a, key)
            a.kill9()
            b.promote()
            switch.point(b.port)
            await asyncio.to_thread(resend, writer, "line", 4)
            back = [watch(hub, "job", EventId.parse(place)) for place in places]
            await asyncio.to_thread(resend, writer, "succeeded")
            await until(lambda: all(sink.ended for sink in beyond + back), 30)
            kept = pairs.note(b, key)

            assert [1] * 5 == [len(sink.gaps()) for sink in beyond]
            assert [0] * 5 == [len(sink.gaps()) for sink in back]
            assert [list(range(13, 21))] * 5 == [sink.numbers() for sink in back]
            assert {"lost"} == {sink.gaps()[0]["reason"] for sink in beyond}
            assert [] == [hole for sink in beyond for hole in pairs.holes(sink)]
            assert {kept[-1]} == {sink.frames[-1].id for sink in beyond + back}
            assert list(range(1, 21)) == [EventId.parse(id).n for id in kept]


async def test_a_command_that_moves_to_the_promoted_server_in_its_middle_is_told_too(
    tmp_path: Path, clock_shim: Path
) -> None:
    """The client reconnects silently and repeats; the script itself reads which server it is on."""
    pairs = Pairs()
    with two_servers(tmp_path, {}) as (a, b), Switch(a.port) as switch:
        async with scene(a, switch) as (hub, writer):
            sinks = [watch(hub, "job") for _ in range(5)]
            writer.append(count=10)
            writer.store.wait_for_replica(5_000, "job")
            b.cut_off()
            writer.append(count=3)
            await until(lambda: all(len(sink.frames) == 15 for sink in sinks))
            b.promote()
            switch.swallow_next_answer(b.port)
            await asyncio.to_thread(resend, writer, "line", 2)
            key = writer.store.commands.keys.events("job")
            pairs.note(a, key)
            a.kill9()
            switch.cut()
            await asyncio.to_thread(resend, writer, "succeeded")
            await until(lambda: all(sink.ended for sink in sinks), 45)
            kept = pairs.note(b, key)

            assert [] == [hole for sink in sinks for hole in pairs.holes(sink)]
            assert {1} == {len(sink.gaps()) for sink in sinks}
            assert {kept[-1]} == {sink.frames[-1].id for sink in sinks}


async def test_a_primary_demoted_and_promoted_again_under_open_connections(tmp_path: Path) -> None:
    """A goes, B writes on, A comes back with B's history and is promoted: nobody loses what was acknowledged and kept."""
    pairs = Pairs()
    with two_servers(tmp_path, {}) as (a, b), Switch(a.port) as switch:
        async with scene(a, switch) as (hub, writer):
            sinks = [watch(hub, "job") for _ in range(5)]
            writer.append(count=10)
            writer.store.wait_for_replica(5_000, "job")
            b.cut_off()
            writer.append(count=3)
            await until(lambda: all(len(sink.frames) == 15 for sink in sinks))
            key = writer.store.commands.keys.events("job")
            pairs.note(a, key)
            b.promote()
            switch.point(b.port, cut=False)
            with redis.Redis.from_url(b.url(), protocol=2) as direct:
                kept_client, writer.store = writer.store, Writer(direct, hub.settings, "job").store
                await asyncio.to_thread(resend, writer, "line", 4)
                pairs.note(b, key)
                await asyncio.to_thread(a.replicate, b)
                await asyncio.to_thread(resend, writer, "line", 2)
                writer.store.wait_for_replica(5_000, "job")
                pairs.note(b, key)
            writer.store = kept_client
            b.kill9()
            a.promote()
            switch.point(a.port, cut=False)
            await asyncio.to_thread(resend, writer, "line", 2)
            await asyncio.to_thread(resend, writer, "succeeded")
            await until(lambda: all(sink.ended for sink in sinks), 60)
            kept = pairs.note(a, key)

            assert [] == [hole for sink in sinks for hole in pairs.holes(sink)]
            assert {kept[-1]} == {sink.frames[-1].id for sink in sinks}
            assert all(sink.gaps() for sink in sinks)


async def test_plain_ids_read_exclusively_lose_silently(tmp_path: Path, clock_shim: Path) -> None:
    """The control: the same fork, the same checker, ids by the clock, resume by `after this id`. It must find losses."""
    env = {"LD_PRELOAD": str(clock_shim), "CLOCK_OFFSET_SECONDS": "-3600"}
    pairs = Pairs()
    seen: list[Any] = []
    with two_servers(tmp_path, env) as (a, b):
        with a.client() as client:
            for i in range(10):
                client.xadd("plain", {"i": i})
            client.wait(1, 5_000)
            b.cut_off()
            for i in range(10, 13):
                client.xadd("plain", {"i": i})
            seen += client.xrange("plain")
        pairs.note(a, "plain")
        a.kill9()
        b.promote()
        with b.client() as client:
            for i in range(10, 20):
                client.xadd("plain", {"i": i})
            seen += client.xrange("plain", f"({seen[-1][0].decode()}", "+")
        kept = pairs.note(b, "plain")

    assert 20 == len(kept)
    assert 7 == 20 - len(seen), "the watcher missed the promoted server's events and was told nothing"
