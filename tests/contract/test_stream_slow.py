"""Watchers that read slowly, or not at all: they hold up nobody, cost no memory, and miss nothing."""

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import redis

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.support.server import WAYS, Attempt, Site, Way, running
from tests.support.streams import data_of, follow, follow_to_end, only

Serve = Callable[..., Site]

#: So much fits no socket's buffers: what a client does not read stays with the server, or is not fetched.
FILLER = "x" * 2_000
SMALL_BUFFER = 4_096


def flood(job: Attempt, events: int, type: str = "line", **fields: object) -> None:
    for _ in range(events // 100):
        job.append(type, 100, **{"message": FILLER, **fields})


@pytest.mark.contract("A life", "WRITE_STALL_SECONDS")
def test_a_socket_that_takes_nothing_is_closed_and_no_other(serve: Serve) -> None:
    """After WRITE_STALL_SECONDS; who reads has all of it in the meantime."""
    site = serve(write_stall_seconds=2)
    job = site.job()
    job.start()
    with follow(site, receive_buffer=SMALL_BUFFER) as stuck, follow(site) as quick:
        stuck.until_number(2)
        flood(job, 3_000)
        began = time.monotonic()
        quick.until_number(3_002)
        took = time.monotonic() - began
        time.sleep(6)
        flood(job, 100)
        job.succeed()

        assert list(range(1, 3_104)) == quick.to_end().numbers
        assert took < 5
        stuck.to_end()
        assert stuck.gone and not stuck.ended
        assert len(stuck.events) < 3_000


@pytest.mark.contract("Slow readers")
def test_a_slow_client_is_caught_up_without_a_hole(each_site: Site) -> None:
    """Not closed while it takes something, however little; own types are never folded."""
    job = each_site.job()
    job.start()
    with follow(each_site, receive_buffer=SMALL_BUFFER) as slow, follow(each_site) as quick:
        slow.until_number(2)
        flood(job, 4_000)
        job.succeed()
        quick.to_end()
        slow.to_end()

        assert list(range(1, 4_004)) == quick.numbers == slow.numbers
        assert slow.ended and quick.ended
        assert {"position", "queued", "started", "line", "succeeded"} == set(slow.types)


@pytest.mark.contract("Slow readers")
def test_only_progress_is_folded_and_only_for_a_live_client_far_behind(each_site: Site) -> None:
    """A frame says for how many it stands; with that, each event is accounted for. A replay is never folded."""
    job = each_site.job()
    job.start()
    with follow(each_site, receive_buffer=SMALL_BUFFER) as slow:
        slow.until_number(2)
        for _ in range(20):
            flood(job, 200, "progress", done=1, total=9)
            flood(job, 100)
        job.succeed()
        slow.to_end()
    asked_for = follow_to_end(each_site)

    assert slow.ended
    assert 2_000 == len(only(slow.frames, "line"))
    folded = only(slow.frames, "progress")
    assert 4_000 == sum(data_of(frame).get("folded", 1) for frame in folded)
    assert len(folded) < 3_000
    assert [n for n in slow.numbers if n > 6_003 or n < 3] == [1, 2]
    assert sorted(set(slow.numbers)) == slow.numbers
    assert list(range(1, 6_004)) == asked_for.numbers
    assert b'"folded"' not in asked_for.body


@pytest.mark.contract("Slow readers")
@pytest.mark.parametrize("way", WAYS)
def test_watchers_that_read_nothing_do_not_grow_the_server(
    settings: Settings, redis_client: redis.Redis, way: Way
) -> None:
    """Ten of them and a flood of 12 MB: what waits for them is their sockets' bounded buffers."""
    app = create_app(settings)
    with ExitStack() as stack:
        url, _ = stack.enter_context(running(app, settings, way))
        site = Site(url, settings, redis_client)
        job = site.job()
        job.start()
        stuck = [stack.enter_context(follow(site, receive_buffer=SMALL_BUFFER)) for _ in range(10)]
        for stream in stuck:
            stream.until_number(2)
        held = app.state.parts.hub.clients()
        flood(job, 6_000)
        stack.enter_context(follow(site)).until_number(6_002)
        sent = [watcher.bytes for watcher in held]

        assert 10 == len(sent)
        assert not any(watcher.sink.ready for watcher in held)
        # A page of history and one of the log, of half a MB each; and again as much where only `send` tells of a pause.
        assert max(sent) < (3_000_000 if way == "send" else 1_500_000)
