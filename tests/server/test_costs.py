"""What streams cost in counts that no machine's speed changes: system calls, questions to Redis, bytes and tasks.

The bounds are near what is measured, so that a change that costs something shows here first. How long things take is for
benchmarks.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from benchmarks.support.machine import tree
from progress_stream.api.app import create_app
from progress_stream.settings import Settings, load
from tests.browser.programs import LISTENING, Program
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Site, running
from tests.support.streams import request
from tests.support.waiting import until

WATCHERS = 100
EVENTS = 1_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Nobody else asks it anything."""
    with RedisServer(tmp_path_factory.mktemp("costs") / "redis") as server:
        yield server


@pytest.fixture
def settings(server: RedisServer, namespace: str, tmp_path: Path) -> Settings:
    return load(
        redis_url=server.url(0), broker_url=server.url(1), namespace=namespace, data=tmp_path, jwt_secret=SecretStr(SECRET),
        heartbeat_seconds=60, ready_seconds=0, drain_seconds=0, max_streams_per_owner=10_000,
    )  # fmt: skip


@dataclass
class Ground:
    """A server as a process of its own, and the Redis that only it and the test ask."""

    site: Site
    pid: int

    def calls(self) -> dict[str, int]:
        """How often Redis ran each command, by scripts too."""
        return {
            name.removeprefix("cmdstat_"): at["calls"]
            for name, at in self.site.redis.info("commandstats").items()
        }

    def system_calls(self) -> int:
        """Reads and writes by all threads of the process; what waits for them is not among it."""
        lines = (line for one in tree(self.pid) for line in Path(f"/proc/{one}/io").read_text().splitlines())
        return sum(int(line.split()[1]) for line in lines if line.startswith(("syscr", "syscw")))


@pytest.fixture
def ground(settings: Settings, server: RedisServer) -> Iterator[Ground]:
    env = {
        "PROGRESS_STREAM_REDIS_URL": server.url(0), "PROGRESS_STREAM_BROKER_URL": server.url(1),
        "PROGRESS_STREAM_NAMESPACE": settings.namespace, "PROGRESS_STREAM_JWT_SECRET": SECRET,
        "PROGRESS_STREAM_DATA": str(settings.data), "PROGRESS_STREAM_HEARTBEAT_SECONDS": "60",
        "PROGRESS_STREAM_MAX_STREAMS_PER_OWNER": "10000",
    }  # fmt: skip
    web = Program("serve", "--port", "0", ready=LISTENING, env=env)
    with server.client(0) as client:
        yield Ground(Site(web.url, settings, client), web.pid)
    web.stop()


def connect(site: Site, job: str, count: int, stack: ExitStack, **headers: str) -> list[socket.socket]:
    """So many streams, of which nothing has been read yet."""
    where = site.url.removeprefix("http://")
    host, _, port = where.partition(":")
    words = request(
        f"/jobs/{job}/events", where, {**site.headers(), "Accept": "text/event-stream", **headers}
    )
    opened = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(count)]
    for one in opened:
        one.sendall(words)
    return opened


def read_until(streams: list[socket.socket], mark: bytes) -> list[bytes]:
    """What each brought until the mark was in it."""
    found = []
    for one in streams:
        one.settimeout(30)
        seen = b""
        while mark not in seen:
            data = one.recv(1_048_576)
            assert data, seen[-300:]
            seen += data
        found.append(seen)
    return found


def test_a_flood_costs_few_writes_and_no_question(ground: Ground) -> None:
    """Events that come close together leave as one write for each watcher; what was published is not read again."""
    job = ground.site.job()
    job.start()
    with ExitStack() as stack:
        streams = connect(ground.site, "job-1", WATCHERS, stack)
        read_until(streams, b"event: started")
        asked, done = ground.calls(), ground.system_calls()
        for _ in range(EVENTS // 20):
            job.append(count=20)
            time.sleep(0.02)
        job.append("last")
        bodies = read_until(streams, b"event: last")
        system_calls = (ground.system_calls() - done) / (WATCHERS * EVENTS)
        questions = ground.calls().get("xrange", 0) - asked.get("xrange", 0)

    assert {EVENTS} == {body.count(b"event: line") for body in bodies}
    print(f"figure system_calls_of_a_delivery {system_calls:.4f}, history_reads {questions}")
    assert system_calls < 0.1
    assert questions <= 2


def test_an_event_that_nobody_watches_costs_nothing(ground: Ground) -> None:
    """The process hears of watched jobs alone."""
    job, other = ground.site.job(), ground.site.job("job-2")
    job.start()
    other.start()
    with ExitStack() as stack:
        read_until(connect(ground.site, "job-1", 1, stack), b"event: started")
        time.sleep(0.5)
        before = ground.system_calls()
        for _ in range(50):
            other.append(count=20)
        system_calls = ground.system_calls() - before

    print(f"figure system_calls_unwatched {system_calls}")
    assert system_calls < 30


def test_those_who_come_back_together_share_what_is_read(ground: Ground) -> None:
    """A hundred who missed a thousand events: the job is looked at for several requests at once, and the history read once."""
    job = ground.site.job()
    started = job.start()
    for _ in range(EVENTS // 100):
        job.append(count=100)
    asked = ground.calls()
    with ExitStack() as stack:
        streams = connect(ground.site, "job-1", WATCHERS, stack, **{"Last-Event-ID": str(started.id)})
        job.append("last")
        bodies = read_until(streams, b"event: last")
    answered = ground.calls()
    scripts, reads = (answered[name] - asked.get(name, 0) for name in ("evalsha", "xrange"))

    assert {EVENTS} == {body.count(b"event: line") for body in bodies}
    print(f"figure resume_scripts {scripts} history_reads {reads}")
    # Its own append is among them, and one read takes two XRANGEs. Where openings are slower than looks, fewer go together.
    assert scripts <= 0.8 * WATCHERS
    assert reads <= 6


@pytest.mark.slow
def test_an_idle_minute_asks_redis_no_more_for_more_watchers(ground: Ground) -> None:
    """Of ten jobs: each job's tail now and then, the switch, a proof of the live path, the sweeping of 256 partitions."""
    for number in range(10):
        ground.site.job(f"job-{number}")

    def asked_in_a_minute() -> int:
        time.sleep(1)
        before = sum(ground.calls().values())
        time.sleep(21)
        return (sum(ground.calls().values()) - before) * 60 // 21

    with ExitStack() as stack:
        for number in range(10):
            read_until(connect(ground.site, f"job-{number}", 1, stack), b"event: queued")
        few = asked_in_a_minute()
        for number in range(10):
            read_until(connect(ground.site, f"job-{number}", 20, stack), b"event: queued")
        many = asked_in_a_minute()

    print(f"figure commands_an_idle_minute {few} with 20 times the watchers {many}")
    assert few < 3_500
    # One window may hold a sweep more than the other: 256 questions in 21 seconds.
    assert many < 1.2 * few + 256 * 60 // 21


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_an_idle_stream_is_no_task_and_few_bytes(settings: Settings, server: RedisServer) -> None:
    """Of Python's own memory, by tracemalloc; the clients' sockets, which lie in this process too, are among it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4_096, hard)), hard))
    app = create_app(settings)
    hub = app.state.parts.hub
    with ExitStack() as stack, running(app, settings) as (url, web), server.client(0) as client:
        site = Site(url, settings, client)
        site.job().start()
        loop = web._loop
        assert loop is not None
        first = connect(site, "job-1", WATCHERS, stack)
        read_until(first, b"event: started")
        stack.enter_context(traced())
        tasks, before = len(asyncio.all_tasks(loop)), tracemalloc.get_traced_memory()[0]
        more = connect(site, "job-1", 3 * WATCHERS, stack)
        until(lambda: hub.count == 4 * WATCHERS)
        read_until(more, b"event: started")
        time.sleep(0.5)
        gc.collect()
        bytes_each = (tracemalloc.get_traced_memory()[0] - before) / (3 * WATCHERS)
        tasks = len(asyncio.all_tasks(loop)) - tasks

    print(f"figure idle_stream bytes {bytes_each:.0f} tasks {tasks}")
    assert abs(tasks) <= 2
    assert bytes_each < 4_000
