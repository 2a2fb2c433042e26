"""The hub on a real Redis: nothing lost, nothing twice, whatever happens to the wake-ups."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from progress_stream.events import EventId
from progress_stream.settings import load
from tests.support.redis import RedisServer
from tests.support.watching import Writer, running_hub, until, watch

pytestmark = pytest.mark.anyio


async def test_history_then_live_then_the_end(
    redis_server: RedisServer, namespace: str, writer: Writer
) -> None:
    """One watcher sees each event once and in order, across the join, and its response ends."""
    writer.append(count=50)
    async with running_hub(redis_server.url(), namespace) as hub:
        sink = watch(hub, "job")
        await until(lambda: len(sink.frames) == 52)
        for _ in range(20):
            writer.append(count=3)
            await asyncio.sleep(0.001)
        writer.append("succeeded", result={"rows": 1})
        await until(lambda: sink.ended)

        assert list(range(1, 114)) == sink.numbers()
        assert not sink.gaps()
        assert hub.count == 0


async def test_a_join_in_the_middle_of_a_flood_loses_nothing(
    redis_server: RedisServer, namespace: str, writer: Writer
) -> None:
    """What is read and what is heard overlap by id; many join at once and share their reads."""
    async with running_hub(redis_server.url(), namespace) as hub:
        sinks = []
        for _ in range(40):
            await asyncio.to_thread(writer.append, count=5)
            sinks += [watch(hub, "job") for _ in range(5)]
        await asyncio.to_thread(writer.append, "failed", error={"type": "E", "message": "m"})
        await until(lambda: all(sink.ended for sink in sinks))

        assert [list(range(1, 204))] * 200 == [sink.numbers() for sink in sinks]


async def test_a_paused_watcher_is_caught_up_and_holds_up_nobody(
    redis_server: RedisServer, namespace: str, writer: Writer
) -> None:
    """A slow watcher costs its place only; it is read to from Redis once the log has moved on."""
    async with running_hub(redis_server.url(), namespace) as hub:
        slow, quick = watch(hub, "job"), watch(hub, "job")
        await until(lambda: len(slow.frames) == 2 and len(quick.frames) == 2)
        slow.paused = True
        for _ in range(30):
            await asyncio.to_thread(writer.append, count=100)
        await until(lambda: len(quick.frames) == 3_002)
        taken = len(slow.frames)
        slow.go_on()
        await until(lambda: len(slow.frames) == 3_002)

        assert 2 == taken
        assert quick.numbers() == slow.numbers() == list(range(1, 3_003))


async def test_only_progress_is_folded_and_only_for_who_is_live_and_far_behind(
    redis_server: RedisServer, namespace: str, writer: Writer
) -> None:
    """A frame that stands for several says how many; together they account for every event."""
    async with running_hub(redis_server.url(), namespace) as hub:
        slow = watch(hub, "job")
        await until(lambda: len(slow.frames) == 2)
        slow.paused = True
        for _ in range(15):
            await asyncio.to_thread(writer.append, "progress", 200, done=1, total=9)
            await asyncio.to_thread(writer.append, "line")
        slow.go_on()
        await until(lambda: slow.numbers()[-1:] == [3_017])
        asked_for = watch(hub, "job")
        await until(lambda: len(asked_for.frames) == 3_017)
        stood_for = sum(int(_body(frame).get("folded", 1)) for frame in slow.frames)

        assert 15 == len([frame for frame in slow.frames if frame.event == "line"])
        assert len(slow.frames) < 1_500
        assert 3_017 == stood_for


async def test_killed_subscriptions_lose_nothing_not_even_the_end(
    redis_server: RedisServer, namespace: str, writer: Writer, client: redis.Redis
) -> None:
    """A confirmation that comes again makes the hub look at every tail."""
    async with running_hub(redis_server.url(), namespace) as hub:
        sinks = [watch(hub, "job") for _ in range(10)]
        await until(lambda: all(sink.frames for sink in sinks))
        for _ in range(20):
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            writer.append(count=7)
            await asyncio.sleep(0.05)
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        writer.append("succeeded")
        await until(lambda: all(sink.ended for sink in sinks))

        assert [list(range(1, 144))] * 10 == [sink.numbers() for sink in sinks]


async def test_a_lost_last_message_is_found_by_the_tail_check(
    redis_server: RedisServer,
    namespace: str,
    writer: Writer,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last message of all has no successor that would betray its loss."""
    monkeypatch.setattr("progress_stream.streaming.tails.TAIL_SECONDS", 1.0)
    async with running_hub(redis_server.url(), namespace) as hub:
        sink = watch(hub, "job")
        await until(lambda: len(sink.frames) == 2)
        events_key, state_key, _ = writer.store.commands.keys.of("job")
        hub.wakeups._channels.discard(writer.store.commands.keys.channel("job").encode())
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.sleep(0.3)
        writer.append("succeeded")
        await until(lambda: sink.ended, 6)

        assert [1, 2, 3] == sink.numbers()
        assert client.exists(events_key, state_key) == 2


async def test_an_emptied_redis_is_waited_for_and_then_told(
    redis_server: RedisServer, namespace: str, writer: Writer, client: redis.Redis
) -> None:
    """The reporter brings the job back above its last id: one gap, and the rest."""
    last = writer.append(count=5).id
    async with running_hub(redis_server.url(), namespace) as hub:
        sink = watch(hub, "job")
        await until(lambda: len(sink.frames) == 7)
        for key in client.scan_iter(f"{namespace}:*"):
            client.delete(key)
        event = {"job": "job", "type": "started", "at": "2026-01-01T00:00:00.000Z"}
        call = writer.store.commands.start(
            writer.header, event, "again", may_create=True, last=last, least_attempt=2
        )
        writer.store.send(call)
        writer.attempt, writer.nonce, writer.sequence = 2, "again", 0
        writer.append("succeeded")
        await until(lambda: sink.ended, 15)

        assert 1 == len(sink.gaps())
        assert [*range(1, 8), 8, 9] == sink.numbers()


async def test_a_restarted_redis_is_no_gap(tmp_path: Any, namespace: str) -> None:
    """An append-only file brings everything back; the new epoch continues the count."""
    with RedisServer(tmp_path, options={"appendfsync": "always"}) as server:
        settings = load(redis_url=server.url(), namespace=namespace)
        with server.client() as client:
            writer = Writer(client, settings, "job")
            writer.create()
            writer.start()
            writer.append(count=5)
        async with running_hub(server.url(), namespace) as hub:
            sink = watch(hub, "job")
            await until(lambda: len(sink.frames) == 7)
            await asyncio.to_thread(server.kill9)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)
            with server.client() as client:
                writer.store = Writer(client, settings, "job").store
                writer.append(count=5)
                writer.append("succeeded")
            await until(lambda: sink.ended, 20)

            assert list(range(1, 14)) == sink.numbers()
            assert not sink.gaps()
            assert 2 == len({EventId.parse(id).epoch for id in sink.ids()})


async def test_a_position_that_was_trimmed_is_told(
    redis_server: RedisServer, namespace: str, client: redis.Redis
) -> None:
    """One snapshot whose id lies right before the first event that follows, then all that is kept."""
    settings = load(redis_url=redis_server.url(), namespace=namespace, history_events=100)
    writer = Writer(client, settings, "job")
    writer.create()
    started = writer.start()
    for _ in range(10):
        writer.append(count=50)
    async with running_hub(redis_server.url(), namespace) as hub:
        sink = watch(hub, "job", started.id)
        await until(lambda: bool(sink.numbers()) and sink.numbers()[-1] == 502)
        (gap,) = sink.gaps()

        assert "trimmed" == gap["reason"]
        assert "snapshot" == sink.frames[0].event
        assert EventId.parse(sink.frames[0].id).n + 1 == sink.numbers()[0]
        assert sink.numbers() == list(range(sink.numbers()[0], 503))


async def test_a_task_that_misses_its_cancellation_does_not_keep_the_hub_from_stopping(
    redis_server: RedisServer, namespace: str
) -> None:
    """As `wait_for` does before Python 3.12, and redis-py with it."""

    async def deaf() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    async with running_hub(redis_server.url(), namespace) as hub:
        task = hub.spawn(deaf())
        await asyncio.sleep(0)
    assert task.cancelled()


async def test_heartbeats_lives_and_expiry_come_from_one_timer(
    redis_server: RedisServer, namespace: str, writer: Writer
) -> None:
    """A comment while idle; a clean end of life; `expired` when the token runs out."""
    import time

    async with running_hub(redis_server.url(), namespace, heartbeat_seconds=1) as hub:
        idle = watch(hub, "job")
        short = watch(hub, "job", ends_at=hub.now() + 1.2)
        token = watch(hub, "job", expires_at=time.time() + 1.2)
        await until(lambda: short.ended and token.ended, 6)
        await until(lambda: idle.writes >= 3, 6)

        assert ["queued", "started"] == [frame.event for frame in short.frames]
        assert "expired" == token.frames[-1].event
        assert 2 == len(idle.frames)
        assert not idle.ended


async def test_a_drain_sends_everybody_away(
    redis_server: RedisServer, namespace: str, writer: Writer
) -> None:
    """Each is told to come back soon, each at another moment."""
    async with running_hub(redis_server.url(), namespace) as hub:
        sinks = [watch(hub, "job") for _ in range(50)]
        await until(lambda: all(len(sink.frames) == 2 for sink in sinks))
        await hub.drain(0.3)
        retries = {sink.frames[-1].retry for sink in sinks}

        assert all(sink.ended and sink.frames[-1].event == "draining" for sink in sinks)
        assert len(retries) > 10
        assert all(retry is not None and 500 <= retry <= 2_000 for retry in retries)


async def test_the_live_path_proves_itself(redis_server: RedisServer, namespace: str) -> None:
    """A probe through the connection that writes use has to come back."""
    async with running_hub(redis_server.url(), namespace) as hub:
        await until(lambda: hub.path.proved)


def _body(frame: Any) -> dict[str, Any]:
    import json

    body: dict[str, Any] = json.loads(frame.data)
    return body
