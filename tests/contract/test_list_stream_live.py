"""`GET /jobs/events` behind real workers: what their reports do to a page, and what is left of it when a server goes away."""

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from progress_stream import current_job, events
from progress_stream.api.app import create_app
from progress_stream.events import EventId
from progress_stream.settings import Settings
from tests.contract.test_list import make, move
from tests.contract.test_list_stream import gone, has, look, shown, states, tell
from tests.support.redis import RedisServer
from tests.support.server import Site, running, serving
from tests.support.streams import Stream
from tests.support.waiting import until
from tests.worker.conftest import Stack

JOBS = 200
TICKS = 15
#: 200 jobs that tick five times a second are 1,000 events a second.
TICK_SECONDS = 0.2


@pytest.fixture
def stack(site: Site) -> Iterator[Stack]:
    """A worker with as many threads as there are jobs in the burst."""
    made = Stack(site.settings, str(site.settings.broker_url))
    yield made
    made.stop()


#: When something came: between these two moments.
Span = tuple[float, float]


def read(stream: Stream, done: Callable[[Stream], Any], seconds: float = 60.0) -> dict[str, list[Span]]:
    """Until that is true; when each job's frames arrived. A reader that was held up knows it only roughly."""
    arrived: dict[str, list[Span]] = defaultdict(list)
    before = time.monotonic()
    seen, deadline = len(stream.frames), before + seconds
    while not done(stream):
        assert before < deadline
        stream.for_seconds(0.005)
        now = time.monotonic()
        for frame in stream.frames[seen:]:
            if frame.event == "job":
                arrived[events.decode(frame.data.encode())["id"]].append((before, now))
        seen, before = len(stream.frames), now
    return arrived


def most_in_a_second(times: list[Span]) -> int:
    """So many came within one second for certain."""
    return max(sum(start <= before and now < start + 1 for before, now in times) for start, _ in times)


def times_of(stack: Stack, job: str) -> list[int]:
    return [events.ms_of(event["at"]) for event in stack.events(job, "tick")]


@pytest.mark.contract("The stream of a list: job")
@pytest.mark.slow
def test_a_burst_of_a_thousand_events_a_second_is_four_frames_a_second_for_each_job(
    site: Site, stack: Stack
) -> None:
    """200 jobs of a real worker for three seconds: nothing older is shown, and the last state of each arrives."""
    together = threading.Barrier(JOBS)

    @stack.actor()
    def tick() -> None:
        job = current_job()
        together.wait(60)
        began = time.monotonic()
        for n in range(1, TICKS + 1):
            job.event("tick", n)
            # By the clock, not by turns: who was late catches up.
            time.sleep(max(0.0, began + n * TICK_SECONDS - time.monotonic()))

    ids = [tick.send_with_options(owner="alice").message_id for _ in range(JOBS)]
    with look(site) as stream:
        stream.until(lambda stream: len(shown(stream)) == JOBS)
        stack.work(threads=JOBS)
        arrived = read(stream, lambda stream: list(shown(stream).values()).count("succeeded") == JOBS)

    told = [(at / 1000, at / 1000) for id in ids for at in times_of(stack, id)]
    most = max(most_in_a_second(times) for times in arrived.values())
    frames = sum(map(len, arrived.values()))
    print(
        f"figure list_stream_burst events_a_second={most_in_a_second(told)} frames={frames} most_frames_a_second={most}"
    )
    assert JOBS * TICKS == len(told)
    assert most_in_a_second(told) >= 1_000
    assert most <= 4
    for id in ids:
        places = [EventId.parse(state["last_event_id"]) for state in states(stream, id)]
        assert sorted(places) == places
        assert stack.state(id)["last_event_id"] == str(places[-1])


@pytest.mark.contract("GET /jobs/events")
def test_a_real_workers_jobs_come_move_and_go_on_a_page(site: Site, stack: Stack) -> None:
    """Spaced while they move, told at once when they end; a new one appears by itself, a deleted one is gone."""

    @stack.actor()
    def count(n: int) -> int:
        for done in range(n):
            current_job().update(done=done + 1, total=n)
            time.sleep(0.01)
        return n

    stack.work()
    with look(site) as stream:
        first = count.send_with_options(args=(200,), owner="alice").message_id
        arrived = read(stream, has(first, "succeeded"))
        moving = [state["done"] for state in states(stream, first) if state["state"] == "running"]
        second = count.send_with_options(args=(1,), owner="alice").message_id
        stream.until(has(second, "succeeded"))
        with site.client() as client:
            assert 204 == client.delete(f"/jobs/{first}").status_code
        stream.until(lambda stream: first in gone(stream))

    assert 200 == states(stream, first)[-1]["done"]
    assert len(moving) >= 3
    assert most_in_a_second(arrived[first]) <= 4
    assert [first] == gone(stream)


def test_a_server_that_goes_away_sends_the_page_elsewhere(settings: Settings, redis_client: Any) -> None:
    """`draining` and the end; the page's position carries on at the next server."""
    changed = settings.model_copy(update={"drain_seconds": 1})
    with running(create_app(changed), changed) as (url, server):
        site = Site(url, changed, redis_client)
        job = make(site, "job-1")
        with look(site) as stream:
            stream.until(has("job-1", "queued"))
            position = next(frame.id for frame in reversed(stream.frames) if frame.id)
            server.handle_exit(signal.SIGTERM, None)
            stream.to_end()
        assert "draining" == stream.types[-1]
    with serving(create_app(settings), settings) as url:
        site = Site(url, settings, redis_client)
        job.start()
        move(site, job, "running")
        with look(site, position=position) as stream:
            stream.until(has("job-1", "running"))


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", options={"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server


@pytest.fixture
def own_site(settings: Settings, own_server: RedisServer) -> Iterator[Site]:
    """With a Redis that this test may hurt."""
    changed = settings.model_copy(
        update={"redis_url": own_server.url(0), "broker_url": own_server.url(1), "heartbeat_seconds": 1}
    )
    client = own_server.client(0)
    with serving(create_app(changed), changed) as url:
        yield Site(url, changed, client)
    client.close()


def test_a_page_outlives_its_redis(own_site: Site, own_server: RedisServer) -> None:
    """Killed and started again from its file: heartbeats go on, and what changed meanwhile and after is shown."""
    site = own_site
    job = make(site, "job-1")
    with look(site) as stream:
        stream.until(has("job-1", "queued"))
        own_server.kill9()
        before = bytes(stream.body).count(b"\n:")
        stream.until(lambda stream: bytes(stream.body).count(b"\n:") > before + 1)
        own_server.start()
        until(lambda: _answers(site))
        job.start()
        move(site, job, "running")
        stream.until(has("job-1", "running"), seconds=60)
        assert not stream.ended


@pytest.mark.slow
def test_what_an_emptied_redis_lost_is_gone_and_what_comes_after_is_shown(own_site: Site) -> None:
    """For a minute a job that is missing may only not be back yet; nobody brings this one back."""
    site = own_site
    lost, kept = make(site, "lost"), make(site, "kept")
    with look(site) as stream:
        stream.until(has("kept", "queued"))
        site.redis.flushall()
        kept.create()
        move(site, kept, "queued")
        tell(site, lost)
        stream.until(lambda stream: gone(stream) == ["lost"], seconds=120)
        assert 2 == len(states(stream, "kept"))


@pytest.mark.contract("Not now")
def test_a_redis_that_hangs_turns_new_streams_away_soon(own_site: Site, own_server: RedisServer) -> None:
    """`busy`, or 503 where no event stream was asked for; not after all tries of a client's own."""
    make(own_site, "job-1").start()
    own_server.sigstop()
    try:
        for path in ("/jobs/events", "/jobs/job-1/events"):
            headers = own_site.headers()
            with httpx.Client(base_url=own_site.url, headers=headers, timeout=8) as client:
                answer = client.get(path, headers={"Accept": "text/event-stream"})
                assert (200, True) == (answer.status_code, "event: busy" in answer.text)
                assert 503 == client.get(path).status_code
    finally:
        own_server.sigcont()


def _answers(site: Site) -> bool:
    try:
        return bool(site.redis.ping())
    except Exception:
        return False
