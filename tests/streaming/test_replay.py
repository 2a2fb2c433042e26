"""A read that is kept for a moment: it shows what a read from any place in it would have shown, and no longer than it holds."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from progress_stream import jobs
from progress_stream.errors import StoreUnavailable
from progress_stream.events import BEGINNING, EventId
from progress_stream.jobs import Control, Header, Record
from progress_stream.settings import Settings, load
from progress_stream.store.aio import AsyncStore
from progress_stream.store.answers import Look
from progress_stream.streaming import pages
from progress_stream.streaming.formats import NDJSON, SSE
from progress_stream.streaming.history import PAGE_BYTES
from progress_stream.streaming.replay import Replay, Shown
from progress_stream.streaming.resume import Entry, resume
from tests.support.redis import RedisServer
from tests.support.watching import Writer, running_hub, until, watch

pytestmark = pytest.mark.anyio


@st.composite
def streams(draw: st.DrawFn) -> list[Entry]:
    """Numbers grow, some are missing; epochs never fall."""
    entries: list[Entry] = []
    epoch, n = draw(st.integers(1, 3)), draw(st.integers(0, 4))
    for _ in range(draw(st.integers(1, 12))):
        epoch += draw(st.sampled_from((0, 0, 0, 1)))
        n += draw(st.sampled_from((1, 1, 1, 1, 2)))
        type = draw(st.sampled_from((b"log", b"line", b"")))
        entries.append((EventId(epoch, n), type, b'{"n":%d}' % n))
    return entries


@given(streams(), st.integers(0, 11), st.integers(1, 12), st.data())
def test_a_kept_read_shows_what_a_read_from_a_place_in_it_would(
    stream: list[Entry], first: int, count: int, data: st.DataObject
) -> None:
    """The same gap, the same entries, the same place, and their frames: for every place that it says it covers."""
    last = stream[-1][0]
    record = Record(
        jobs.new(Header("j", "a")), Control(last.epoch, last.n, 1, "", 0, "running", "r", stream[0][0])
    )

    def read(place: EventId) -> list[Entry]:
        return [entry for entry in stream if entry[0] >= place][:count]

    begun = data.draw(st.sampled_from([BEGINNING, *(id for id, _, _ in stream)]))
    shown = Shown(begun, Look("master", "r", record, False, read(begun), 0))
    covered = [id for id in (BEGINNING, *(id for id, _, _ in stream)) if shown.covers(id)]

    assert begun in covered
    for place in covered:
        # A read from there reaches further; what both show is the same.
        whole, page = resume(place, record, read(place)), shown.page(place)
        assert whole.gap == page.gap
        assert page.entries == whole.entries[: len(page.entries)]
        assert page.entries or page.position == whole.position
        for format in (SSE, NDJSON):
            assert pages.frames(format, page.entries) == shown.piece(place, format)


def test_a_place_of_another_epoch_is_not_covered() -> None:
    """Its number alone proves nothing: another server gave it to another event."""
    record = Record(jobs.new(Header("j", "a")), Control(5, 3, 1, "", 0, "running", "r", EventId(5, 1)))
    entries: list[Entry] = [(EventId(5, n), b"log", b"{}") for n in (1, 2, 3)]
    shown = Shown(BEGINNING, Look("master", "r", record, False, entries, 0))

    assert shown.covers(EventId(5, 3))
    assert not shown.covers(EventId(4, 2))
    assert not shown.covers(EventId(5, 4))


def test_what_was_forgotten_is_found_no_more() -> None:
    """And whoever read it meanwhile can tell."""
    record = Record(jobs.new(Header("j", "a")), Control(5, 0, 1, "", 0, "running", "r", EventId(5, 1)))
    replay, shown = Replay(), Shown(BEGINNING, Look("master", "r", record, False, [], 0))
    replay.keep(shown)
    found, doubts = replay.find(BEGINNING), replay.doubts
    replay.forget()

    assert shown is found
    assert replay.find(BEGINNING) is None
    assert replay.doubts > doubts


async def test_those_who_come_at_about_the_same_time_share_one_read(
    redis_server: RedisServer, namespace: str, writer: Writer
) -> None:
    """From whatever place, one after the other, while events go on."""
    writer.append(count=1_000)
    async with running_hub(redis_server.url(), namespace) as hub:
        first = watch(hub, "job")
        await until(lambda: len(first.frames) == 1_002)
        reads = hub.tally.history_reads
        ids = [frame.id for frame in first.frames]
        later = []
        for number in range(0, 1_000, 25):
            later.append((number, watch(hub, "job", EventId.parse(ids[number]))))
            await asyncio.to_thread(writer.append)
        await until(lambda: all(len(sink.frames) == 1_041 - number for number, sink in later))

        assert 1 == reads == hub.tally.history_reads
        for number, sink in later:
            assert list(range(number + 2, 1_043)) == sink.numbers()


async def test_huge_events_are_read_a_few_at_a_time(
    redis_server: RedisServer, namespace: str, writer: Writer
) -> None:
    """What waits for a slow watcher is bounded in bytes."""
    for _ in range(30):
        writer.append("line", 4, data="x" * 60_000)
    async with running_hub(redis_server.url(), namespace) as hub:
        sink = watch(hub, "job")
        await until(lambda: len(sink.frames) == 122, 30)

        assert 120 * 60_000 / PAGE_BYTES / 2 <= hub.tally.history_reads <= 120
        assert list(range(1, 123)) == sink.numbers()


async def test_a_read_of_before_does_not_outlive_its_job(
    redis_server: RedisServer, namespace: str, writer: Writer
) -> None:
    """A job that was deleted is over for who comes a moment later, though its history was just read."""
    writer.append(count=5)
    async with running_hub(redis_server.url(), namespace) as hub:
        first, beside = watch(hub, "job"), watch(hub, "job")
        await until(lambda: len(first.frames) == 7 == len(beside.frames))
        third = watch(hub, "job")
        served_from_before = len(third.frames)
        writer.append("succeeded")
        call = writer.store.commands.remove("job", statuses=("succeeded",), tombstone=True)
        await asyncio.to_thread(writer.store.send, call)
        await until(lambda: first.ended)
        second = watch(hub, "job")
        await until(lambda: second.ended)

        assert 7 == served_from_before
        assert not second.frames


async def test_nothing_is_served_from_before_while_nothing_is_heard(
    redis_server: RedisServer, namespace: str, writer: Writer, client: redis.Redis
) -> None:
    """A wake-up may have been lost while the subscription was away: whoever joins then sees what came meanwhile at once."""
    async with running_hub(redis_server.url(), namespace) as hub:
        first = watch(hub, "job")
        await until(lambda: len(first.frames) == 2)
        for _ in range(10):
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            writer.append()
            joined = watch(hub, "job")
            await until(lambda joined=joined: len(joined.frames) == writer.sequence + 2, 5)  # type: ignore[misc]
        await until(lambda: len(first.frames) == 12, 30)

        assert list(range(1, 13)) == first.numbers()


async def test_looks_of_one_moment_go_together_and_each_question_once(
    redis_server: RedisServer, settings: Settings, writer: Writer, client: redis.Redis
) -> None:
    """Forty ask: the first leaves at once, the others in one pipeline, whether the job is there or not."""

    def scripts() -> int:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])

    async with redis.asyncio.Redis.from_url(redis_server.url(), protocol=2) as own:
        store = AsyncStore(own, settings)
        await store.look(store.commands.look("job"))
        before = scripts()
        looks = await asyncio.gather(*(store.look(store.commands.look("job")) for _ in range(20)))
        others = await asyncio.gather(*(store.look(store.commands.look(f"none-{n % 5}")) for n in range(20)))

    assert {"running"} == {look.record.control.status for look in looks if look.record}
    assert {None} == {look.record for look in others}
    assert 6 == scripts() - before


async def test_who_asks_together_fails_together(settings: Settings) -> None:
    """Each is told; and one who left meanwhile takes nobody along."""
    gone = load(redis_url="redis://127.0.0.1:1", namespace=settings.namespace)
    async with redis.asyncio.Redis.from_url(gone.redis_url or "", protocol=2) as own:
        store = AsyncStore(own, gone)
        asking = [asyncio.ensure_future(store.look(store.commands.look(f"job-{n}"))) for n in range(5)]
        await asyncio.sleep(0)
        asking[0].cancel()
        found = await asyncio.gather(*asking, return_exceptions=True)

    assert isinstance(found[0], asyncio.CancelledError)
    assert {StoreUnavailable} == {type(error) for error in found[1:]}
