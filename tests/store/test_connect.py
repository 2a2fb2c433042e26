"""Clients made from a URL: refused early where they cannot work, and patient where they can."""

import asyncio
import threading
from pathlib import Path

import pytest
import redis
import redis.asyncio
import uvloop

from progress_stream.errors import InvalidSetting
from progress_stream.store.connect import async_client, sync_client
from progress_stream.store.embedded import EmbeddedRedis
from tests.support.redis import RedisServer, tls_program
from tests.support.switch import Switch


@pytest.mark.contract("REDIS_URL")
@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://127.0.0.1", "'http' is not supported"),
        ("redis://127.0.0.1:99999", "is not a usable Redis URL"),
        ("redis://127.0.0.1/0?nonsense=1", "is not a usable Redis URL"),
        ("redis://127.0.0.1/0?db=one", "is not a usable Redis URL"),
        ("rediss://127.0.0.1/0?ssl_cert_reqs=maybe", "is not a usable Redis URL"),
        ("unix://relative", "names no absolute path"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_before_the_first_command(url: str, fault: str) -> None:
    """Named by its setting, with examples of what is allowed; the same for both kinds of client."""
    for client in (sync_client, async_client):
        with pytest.raises(InvalidSetting, match=rf"BROKER_URL: .*{fault}.*allowed: .*unix:///"):
            client(url, setting="BROKER_URL")


def test_a_password_in_a_refused_url_is_not_repeated() -> None:
    """What is refused may still be secret."""
    with pytest.raises(InvalidSetting) as caught:
        sync_client("redis://:hush@127.0.0.1:99999/0")

    assert "hush" not in str(caught.value)


def test_a_client_tries_again_after_its_connection_was_cut(redis_url: str, redis_client: redis.Redis) -> None:
    """redis-py's own `from_url` gives no retries; ours does."""
    with sync_client(redis_url) as client:
        redis_client.client_kill_filter(_id=str(client.client_id()))

        assert client.ping()


async def test_an_async_client_tries_again_too(redis_url: str, redis_client: redis.Redis) -> None:
    """The other flavour's retry class would be taken silently and never try."""
    async with async_client(redis_url) as client:
        redis_client.client_kill_filter(_id=str(await client.client_id()))

        assert await client.ping()


def test_a_client_waits_for_a_server_that_starts_again(tmp_path: Path) -> None:
    """A restart of a moment is not seen by the caller at all."""
    with RedisServer(tmp_path) as server, sync_client(server.url(), retries=20) as client:
        client.set("a", "1")
        server.kill9()
        starting = threading.Timer(0.3, server.start)
        starting.start()

        assert b"1" == client.get("a")
        starting.join()


def test_more_threads_than_connections_wait_their_turn(redis_url: str) -> None:
    """The pool is bounded, and a caller that finds it empty waits instead of failing."""
    with sync_client(redis_url, connections=1) as client:
        answers: list[bool] = []
        threads = [threading.Thread(target=lambda: answers.append(bool(client.ping()))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [True] * 20 == answers


def test_a_silent_server_is_given_up_in_bounded_time(tmp_path: Path) -> None:
    """A server that was stopped (SIGSTOP) keeps its connections and never answers."""
    with RedisServer(tmp_path) as server, sync_client(server.url(), timeout_seconds=0.2, retries=1) as client:
        client.ping()
        server.sigstop()

        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.sigcont()
        assert client.ping()


@pytest.mark.contract("REDIS_URL")
async def test_a_unix_socket_and_its_database(tmp_path: Path) -> None:
    """Both kinds of client read the same database of the same socket."""
    with EmbeddedRedis.start(tmp_path) as server, sync_client(server.url(1)) as client:
        client.set("a", "1")
        async with async_client(server.url(1)) as same, async_client(server.url(0)) as other:
            assert b"1" == await same.get("a")
            assert await other.get("a") is None


@pytest.mark.contract("REDIS_URL")
async def test_tls_is_spoken_and_the_certificate_is_checked(tmp_path: Path) -> None:
    """`rediss://` with the authority that the URL names; without it the server is not believed."""
    with RedisServer(tmp_path, program=tls_program(), tls=True) as server:
        with sync_client(server.url()) as client:
            assert client.ping()
        async with async_client(server.url()) as client:
            assert await client.ping()
        with (
            sync_client(server.url().partition("?")[0], retries=0) as stranger,
            pytest.raises(redis.ConnectionError, match="certificate verify failed"),
        ):
            stranger.ping()


def test_a_replica_follows_and_can_be_promoted_without_its_tail(tmp_path: Path) -> None:
    """What the fork tests stand on: a replica that was cut off lacks what came after, and is a primary when told so."""
    with RedisServer(tmp_path / "one") as primary, RedisServer(tmp_path / "two") as replica:
        replica.replicate(primary)
        with primary.client() as client:
            client.set("a", "1")
            assert 1 == client.wait(1, 5000)
            replica.cut_off()
            client.set("a", "2")
        replica.promote()

        with replica.client() as client:
            assert b"1" == client.get("a")
            client.set("a", "3")


def test_a_connection_that_is_cut_before_a_write_is_made_anew(redis_server: RedisServer) -> None:
    """uvloop says it in its own way; forty who ask all the time, while all their connections are cut again and again."""

    async def ask(client: redis.asyncio.Redis, over: asyncio.Event) -> int:
        answers = 0
        while not over.is_set():
            answers += await client.ping()
        return answers

    async def run(switch: Switch) -> list[int]:
        over = asyncio.Event()
        async with async_client(switch.url(), retries=20) as client:
            asking = [asyncio.ensure_future(ask(client, over)) for _ in range(40)]
            for _ in range(60):
                await asyncio.sleep(0.03)
                await asyncio.to_thread(switch.cut)
            over.set()
            return await asyncio.gather(*asking)

    with Switch(redis_server.port) as switch:
        switch.delay = 0.003
        answers = uvloop.run(run(switch))

    assert all(answers)
