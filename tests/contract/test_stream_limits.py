"""Not now: limits, draining, a Redis that is away; and what ends no stream."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from progress_stream import events, jobs
from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from progress_stream.store.connect import sync_client
from tests.support.redis import RedisServer
from tests.support.server import WAYS, Site, Way, running, serving
from tests.support.streams import Stream, data_of, follow, follow_to_end

Serve = Callable[..., Site]


def check_busy(stream: Stream, reason: str, milliseconds: tuple[int, int]) -> None:
    """A browser's answer: one event with a jittered `retry:`, and the end."""
    stream.to_end()
    assert (200, "text/event-stream") == (stream.status, stream.headers["content-type"]), stream.body
    assert ["busy"] == stream.types
    assert b"id:" not in stream.body
    assert stream.ended
    body, retry = data_of(stream.frames[0]), stream.frames[0].retry or 0
    assert reason == body["reason"]
    assert milliseconds[0] <= retry <= milliseconds[1]
    assert abs(body["retry_after"] * 1000 - retry) <= 60
    assert "no-store, no-transform" == stream.headers["cache-control"]
    stream.close()


def check_refused(stream: Stream, status: int) -> None:
    """Any other client's answer."""
    stream.to_end()
    assert (status, "application/problem+json") == (stream.status, stream.headers["content-type"]), (
        stream.body
    )
    assert int(stream.headers["retry-after"]) >= 1
    stream.close()


def spread_of(ask: Callable[[], Stream]) -> int:
    """How many different `retry:` ten askers get."""
    return len({ask().to_end().frames[0].retry for _ in range(10)})


# -- limits


@pytest.mark.contract("MAX_STREAMS_PER_OWNER")
def test_one_owner_s_streams_are_limited_and_no_other_s(serve: Serve) -> None:
    """MAX_STREAMS_PER_OWNER; a stream that was left makes room."""
    site = serve(max_streams_per_owner=3)
    for owner in ("alice", "bob"):
        site.job(f"job-{owner}", owner=owner).start()
    with ExitStack() as open_streams:
        held = [open_streams.enter_context(follow(site, "job-alice")) for _ in range(3)]
        for stream in held:
            stream.until_number(2)
        check_busy(follow(site, "job-alice"), "too_many_streams_of_owner", (5_000, 30_000))
        check_refused(follow(site, "job-alice", accept="*/*"), 429)
        assert spread_of(lambda: follow(site, "job-alice")) > 3
        with follow(site, "job-bob", subject="bob") as theirs:
            theirs.until_number(2)
        held[0].close()
        held[1].reset()
        until_let_in(site, "job-alice").close()
        assert not held[2].ended


@pytest.mark.contract("Not now", "MAX_STREAMS")
def test_a_process_s_streams_are_limited(serve: Serve) -> None:
    """MAX_STREAMS, whoever's they are."""
    site = serve(max_streams=2)
    for owner in ("alice", "bob"):
        site.job(f"job-{owner}", owner=owner).start()
    with follow(site, "job-alice") as first, follow(site, "job-alice") as second:
        first.until_number(2)
        second.until_number(2)
        check_busy(follow(site, "job-bob", subject="bob"), "too_many_streams", (5_000, 30_000))
        check_refused(follow(site, "job-bob", subject="bob", accept=None), 429)


def test_what_counts_is_open_streams_alone(serve: Serve) -> None:
    """Not those that ended, were refused, or asked for the headers."""
    site = serve(max_streams_per_owner=1)
    job = site.job()
    job.start()
    job.succeed()
    site.job("job-2").start()
    for _ in range(5):
        assert 200 == follow_to_end(site).status
        assert 200 == follow_to_end(site, "job-2", method="HEAD").status
        assert 404 == follow_to_end(site, "job-9").status
    with follow(site, "job-2") as stream:
        assert [1, 2] == stream.until_number(2).numbers


def until_let_in(site: Site, job: str, position: str | None = None, seconds: float = 20) -> Stream:
    """A browser's tries until it is not told `busy`."""
    deadline = time.monotonic() + seconds
    while True:
        stream = follow(site, job, position=position)
        stream.until(lambda stream: bool(stream.frames))
        if stream.types[0] != "busy":
            return stream
        stream.close()
        assert time.monotonic() < deadline, "not let in"
        time.sleep(0.05)


# -- draining


@pytest.mark.contract("DRAIN_SECONDS")
@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_goes_sends_open_streams_away_and_takes_no_new_ones(
    settings: Settings, redis_client: redis.Redis, way: Way
) -> None:
    """All are told to be back soon, each at another moment: 0.5 to 2 s; the open ones in batches over DRAIN_SECONDS."""
    leaving = settings.model_copy(update={"ready_seconds": 1, "drain_seconds": 3})
    with ExitStack() as stack:
        url, server = stack.enter_context(running(create_app(leaving), leaving, way))
        site = Site(url, leaving, redis_client)
        site.job().start()
        held = [stack.enter_context(follow(site)) for _ in range(30)]
        for stream in held:
            stream.until_number(2)
        server.stop()
        time.sleep(0.3)
        # READY_SECONDS: load balancers have to see it first.
        early = stack.enter_context(follow(site)).until_number(2)
        assert not any(stream.for_seconds(0.01).ended for stream in held)
        while not any(stream.for_seconds(0.01).ended for stream in held):
            pass
        check_busy(follow(site), "draining", (500, 2_000))
        check_refused(follow(site, accept=None), 503)
        ends = []
        for stream in [*held, early]:
            stream.to_end()
            ends.append(time.monotonic())

        assert {"draining"} == {stream.types[-1] for stream in [*held, early]}
        assert all(stream.ended and "snapshot" not in stream.types for stream in held)
        assert all(stream.ids[-1] == stream.frames[-1].id for stream in held), "no id of its own"
        retries = [stream.frames[-1].retry or 0 for stream in held]
        assert len(set(retries)) > 10 and 500 <= min(retries) <= max(retries) <= 2_000
        assert {"retry_after"} == set(data_of(held[0].frames[-1]))


# -- Redis away


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that a test may stop; it keeps what it acknowledged."""
    with RedisServer(tmp_path / "redis", options={"appendfsync": "always"}) as server:
        yield server


@pytest.fixture(params=WAYS)
def frail(request: pytest.FixtureRequest, settings: Settings, own_redis: RedisServer) -> Iterator[Site]:
    """A site on a Redis of its own."""
    own = settings.model_copy(
        update={"redis_url": own_redis.url(0), "broker_url": own_redis.url(1), "heartbeat_seconds": 1}
    )
    with serving(create_app(own), own, request.param) as url, sync_client(own_redis.url(0)) as client:
        site = Site(url, own, client)
        site.wait_until_ready()
        yield site


@pytest.mark.contract("Not now")
def test_redis_away_at_the_start_is_busy(frail: Site, own_redis: RedisServer) -> None:
    """And a browser that comes back gets in as soon as it is there again."""
    frail.job().start()
    own_redis.kill9()
    check_busy(follow(frail), "store_unavailable", (2_000, 6_000))
    check_refused(follow(frail, accept="*/*"), 503)
    own_redis.start()
    with until_let_in(frail, "job-1") as stream:
        assert [1, 2] == stream.until_number(2).numbers


@pytest.mark.contract("Not now")
def test_redis_going_away_later_ends_no_stream(frail: Site, own_redis: RedisServer) -> None:
    """Heartbeats go on, and it catches up."""
    job = frail.job()
    job.start()
    with follow(frail) as stream, follow(frail, accept="*/*") as curl:
        stream.until_number(2)
        curl.until_number(2)
        own_redis.kill9()
        before = len(stream.body)
        stream.for_seconds(3.5)
        assert not stream.ended and not stream.gone
        assert stream.body[before:].count(b":\n") >= 2 and stream.body[before:].strip(b":\n") == b""
        own_redis.start()
        job.append(count=5)
        job.succeed()

        assert list(range(1, 9)) == stream.to_end().numbers == curl.to_end().numbers
        assert stream.ended and curl.ended
        assert "snapshot" not in stream.types


def test_a_redis_that_hangs_ends_no_stream(frail: Site, own_redis: RedisServer) -> None:
    """It keeps its connections and answers nothing, which looks like quiet."""
    job = frail.job()
    job.start()
    with follow(frail) as stream:
        stream.until_number(2)
        own_redis.sigstop()
        stream.for_seconds(2.5)
        own_redis.sigcont()
        job.append()
        job.succeed()

        assert [1, 2, 3, 4] == stream.to_end().numbers
        assert b":\n" in stream.body


@pytest.mark.contract("Not now")
def test_a_job_that_redis_has_just_lost_is_waited_for(frail: Site, own_redis: RedisServer) -> None:
    """Its reporter brings it back: for a minute what is not found may be on its way. Whose it is must not show in that."""
    frail.job().start()
    assert 404 == follow_to_end(frail, "job-2").status
    frail.redis.flushall()
    check_busy(follow(frail), "store_recovering", (2_000, 6_000))
    check_refused(follow(frail, accept=None), 503)
    frail.job().start()
    with until_let_in(frail, "job-1") as stream:
        assert [1, 2] == stream.until_number(2).numbers
    for name in ("job-1", "job-9"):
        check_busy(follow(frail, name, subject="bob"), "store_recovering", (2_000, 6_000))


def test_an_open_stream_outlives_an_emptied_redis(frail: Site, own_redis: RedisServer) -> None:
    """The job comes back above its last id: one gap, then the rest."""
    job = frail.job()
    last = job.start().id
    with follow(frail) as stream:
        stream.until_number(2)
        frail.redis.flushall()
        event = {"job": "job-1", "type": "started", "at": "2026-01-01T00:00:00.000Z"}
        commands = job.store.commands
        call = commands.start(job.header, event, "again", may_create=True, last=last, least_attempt=2)
        job.store.send(call)
        job.attempt, job.nonce, job.sequence = 2, "again", 0
        job.succeed()
        stream.to_end()

    assert stream.ended
    assert [1, 2, 3, 4] == stream.numbers
    assert ["position", "queued", "started", "snapshot", "started", "succeeded"] == stream.types


def test_a_job_that_only_a_newer_release_can_read_is_busy(serve: Serve) -> None:
    """While web servers of two releases run: a browser comes back, perhaps to a newer one; no fault and no traceback."""
    site = serve()
    site.job().start()
    key = site.store.commands.keys.state("job-1")
    known = events.decode(site.redis.hget(key, "state") or b"")
    site.redis.hset(key, "state", events.encode({**known, "v": jobs.FORM + 1}))

    check_busy(follow(site), "store_unavailable", (2_000, 6_000))
    check_refused(follow(site, accept="*/*"), 503)
    with site.client() as client:
        assert 503 == client.get("/jobs/job-1").status_code
