"""`watch` and `watch_sync` against a real server, through a network that does its worst."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from progress_stream import WatchEvent, jobs, watch, watch_sync
from progress_stream.errors import AccessError, NoSuchJob, NotAuthenticated, TokenExpired
from tests.foreign.strings import HOSTILE
from tests.support.proxy import Proxy
from tests.support.server import Attempt, Site
from tests.support.streams import data_of, follow_to_end

PATIENCE_SECONDS = 60


class Watching(threading.Thread):
    """A client in a thread, and what it got; `way` says which of the two it is."""

    def __init__(self, way: str, url: str, job: str = "job-1", **options: Any) -> None:
        super().__init__(daemon=True)
        self.seen: list[WatchEvent] = []
        self.drops: list[str] = []
        self.error: BaseException | None = None
        self._way = way
        self._watch = (url, job), {"on_drop": lambda why, seconds: self.drops.append(why), **options}
        self.start()

    def run(self) -> None:
        arguments, options = self._watch
        try:
            if self._way == "sync":
                for event in watch_sync(*arguments, **options):
                    self.seen.append(event)
            else:
                asyncio.run(self._collect(watch(*arguments, **options)))
        except BaseException as error:
            self.error = error

    async def _collect(self, events: AsyncIterator[WatchEvent]) -> None:
        async for event in events:
            self.seen.append(event)

    def ends(self) -> list[WatchEvent]:
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive(), f"still at {self.numbers()[-3:]}, {self.drops[-5:]}"
        if self.error is not None:
            raise self.error
        return self.seen

    def until_number(self, n: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while n not in self.numbers():
            assert self.error is None, self.error
            assert time.monotonic() < deadline, f"got {self.numbers()[-3:]} {self.drops[-5:]}"
            time.sleep(0.02)

    def numbers(self) -> list[int]:
        return [int(event.id.partition("-")[2]) for event in list(self.seen) if event.type != "snapshot"]


WAYS = pytest.mark.parametrize("way", ["async", "sync"])


def running_job(site: Site, count: int = 0) -> Attempt:
    job = site.job(title="A title")
    job.start()
    if count:
        job.append(count=count)
    return job


@WAYS
def test_each_event_once_with_its_state(site: Site, way: str) -> None:
    """History, then live; the last state is the server's own."""
    job = running_job(site, 3)
    watching = Watching(way, site.url, token=site.token())
    watching.until_number(5)
    for n in range(20):
        job.append("progress", done=n, total=20)
    job.append("own", data={"text": "x"})
    job.succeed({"rows": 1})
    seen = watching.ends()

    with site.client() as client:
        state = client.get("/jobs/job-1").json()
    expected = [(frame.id, frame.event, data_of(frame)) for frame in follow_to_end(site).events]
    told = [name for name in jobs.FIELDS if name not in {"seen_at", "waiting_for"}]
    assert expected == [(event.id, event.type, event.data) for event in seen]
    assert {name: state[name] for name in told} == {name: seen[-1].state[name] for name in told}
    assert list(range(20)) == [event.state["done"] for event in seen if event.type == "progress"]
    assert [] == watching.drops


@WAYS
def test_a_network_that_cuts_anywhere_loses_nothing(site: Site, proxy: Proxy, way: str) -> None:
    """Inside frames, inside characters, inside heads; with text that breaks parsers."""
    job, texts = running_job(site), list(HOSTILE.values())
    for n in range(150):
        job.append("own", data={"n": n, "text": texts[n % len(texts)]})
    proxy.cut_after = (300, 9_000)
    watching = Watching(way, proxy.url, token=site.token())
    job.succeed()
    seen = watching.ends()

    expected = [(frame.id, data_of(frame)) for frame in follow_to_end(site).events]
    assert expected == [(event.id, event.data) for event in seen]
    assert len(proxy.asked) > 3


def test_an_interrupt_between_two_events_is_no_fault_of_the_loop(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As Ctrl-C in the moment in which an event has come: nobody asks for the next, and no terminal is told of generators."""
    running_job(site)

    async def interrupted(events: AsyncIterator[WatchEvent]) -> None:
        await anext(events)
        raise InterruptedError

    monkeypatch.setattr("progress_stream.client.watch._following", interrupted)
    for _ in range(5):
        with pytest.raises(InterruptedError):
            next(watch_sync(site.url, "job-1", token=site.token()))

    assert [] == [record.getMessage() for record in caplog.records if record.name == "asyncio"]


def test_a_proxy_that_keeps_streams_back_is_got_around(site: Site, proxy: Proxy) -> None:
    """After three seconds by long-polls, which pass; each event comes when it is made."""
    proxy.buffers = True
    job = running_job(site)
    watching = Watching("async", proxy.url, token=site.token())
    began = time.monotonic()
    watching.until_number(2)
    assert 2.5 < time.monotonic() - began < 8
    for n in range(3, 8):
        job.append()
        at = time.monotonic()
        watching.until_number(n)
        assert time.monotonic() - at < 2
        time.sleep(0.3)
    job.succeed()
    watching.ends()

    assert list(range(1, 9)) == watching.numbers()
    assert (1, True) == (len(proxy.streams()), len(proxy.polls()) >= 4)


def test_when_streams_pass_again_they_are_taken(
    site: Site, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long-polls are for as long as they are needed."""
    monkeypatch.setattr("progress_stream.client.rules.POLLED_SECONDS", 4.0)
    monkeypatch.setattr("progress_stream.client.rules.WAIT_SECONDS", 2.0)
    proxy.buffers = True
    job = running_job(site)
    watching = Watching("async", proxy.url, token=site.token())
    watching.until_number(2)
    proxy.buffers = False
    deadline = time.monotonic() + 20
    while len(proxy.streams()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    polls = len(proxy.polls())
    for n in range(3, 8):
        job.append()
        watching.until_number(n)
    job.succeed()
    watching.ends()

    assert polls == len(proxy.polls())
    assert list(range(1, 9)) == watching.numbers()


def test_a_proxy_that_answers_502_for_a_while(site: Site, proxy: Proxy) -> None:
    """As in a deploy: it comes back and goes on where it was."""
    job = running_job(site)
    watching = Watching("sync", proxy.url, token=site.token())
    watching.until_number(2)
    proxy.away = True
    proxy.cut()
    job.append(count=5)
    time.sleep(3)
    proxy.away = False
    watching.until_number(7)
    job.succeed()
    watching.ends()

    assert list(range(1, 9)) == watching.numbers()
    assert "the server answered 502" in watching.drops


def test_a_proxy_that_loses_the_position(site: Site, proxy: Proxy) -> None:
    """It travels in the address as well."""
    proxy.eats_position = True
    job = running_job(site, 50)
    watching = Watching("async", proxy.url, token=site.token())
    watching.until_number(52)
    proxy.cut()
    job.succeed()
    watching.ends()

    assert list(range(1, 54)) == watching.numbers()
    assert "last_event_id=" in proxy.streams()[-1]


def test_a_connection_that_went_silent_is_given_up(site: Site) -> None:
    """Two and a half heartbeats without a byte: what lies between has forgotten it, and told nobody."""
    job = running_job(site)
    watching = Watching("async", site.url, token=site.token(), heartbeat_seconds=1)
    watching.until_number(2)
    job.append()
    watching.until_number(3)
    time.sleep(3)
    job.succeed()
    watching.ends()

    assert "nothing came any more" in watching.drops
    assert [1, 2, 3, 4] == watching.numbers()


def test_streams_end_after_their_life_and_nobody_sees_it(serve: Any) -> None:
    """STREAM_SECONDS: resumed, not told as anything."""
    site = serve(stream_seconds=1.5)
    job = running_job(site)
    watching = Watching("async", site.url, token=site.token())
    for _ in range(30):
        job.append()
        time.sleep(0.2)
    job.succeed()
    watching.ends()

    assert list(range(1, 34)) == watching.numbers()


@WAYS
def test_a_token_that_runs_out_is_renewed(site: Site, way: str) -> None:
    """By whoever watches; the stream goes on where it was."""
    given: list[str] = []

    def renew() -> str:
        given.append(site.token(seconds=2 if not given else 600))
        return given[-1]

    job = running_job(site)
    watching = Watching(way, site.url, token=renew)
    watching.until_number(2)
    time.sleep(3.5)
    job.succeed()
    watching.ends()

    assert [1, 2, 3] == watching.numbers()
    assert 2 <= len(given) <= 3


def test_a_token_that_runs_out_ends_it_where_nobody_renews(site: Site) -> None:
    """With the error that says so."""
    running_job(site)
    watching = Watching("async", site.url, token=site.token(seconds=2))

    with pytest.raises(TokenExpired):
        watching.ends()


@pytest.mark.parametrize(
    ("subject", "scopes", "job", "error"),
    [
        ("bob", "jobs:read", "job-1", NoSuchJob),
        ("alice", "jobs:write", "job-1", AccessError),
        ("alice", "jobs:read", "job-2", NoSuchJob),
    ],
)
@WAYS
def test_what_may_not_be_watched(
    site: Site, way: str, subject: str, scopes: str, job: str, error: type[Exception]
) -> None:
    """Said at once, and never tried again."""
    running_job(site)

    with pytest.raises(error):
        Watching(way, site.url, job, token=site.token(subject, scopes)).ends()
    with pytest.raises(NotAuthenticated):
        Watching(way, site.url, job, token="nonsense").ends()


def test_a_history_that_is_gone_is_told_as_a_gap(serve: Any) -> None:
    """One snapshot, then what is kept; the state is right from there on."""
    site = serve(history_events=100)
    job = running_job(site)
    for n in range(60):
        job.append("progress", count=10, done=n, total=60)
    watching = Watching("async", site.url, token=site.token())
    job.succeed()
    seen = watching.ends()

    assert ("snapshot", True, "trimmed") == (seen[0].type, seen[0].data["gap"], seen[0].data["reason"])
    assert 59 == seen[0].state["done"] == seen[1].state["done"]
    assert list(range(watching.numbers()[0], 604)) == watching.numbers()


def test_it_may_begin_with_the_state_or_in_the_middle(site: Site) -> None:
    """`replay="snapshot"` gives no history; `last_event_id` the rest, beside the state of now."""
    job = running_job(site, 3)
    job.append("progress", done=4, total=9)
    bar = Watching("async", site.url, token=site.token(), replay="snapshot")
    while not bar.seen:
        time.sleep(0.02)
    job.succeed()
    bar.ends()
    rest = Watching("async", site.url, token=site.token(), last_event_id=bar.seen[0].id).ends()

    assert [("snapshot", 4, "A title"), ("succeeded", 4, "A title")] == [
        (event.type, event.state["done"], event.state["title"]) for event in bar.seen
    ]
    assert ["succeeded"] == [event.type for event in rest]
    assert [] == Watching("async", site.url, token=site.token(), last_event_id=rest[0].id).ends()


def test_too_many_streams_are_followed_by_polling(serve: Any) -> None:
    """The job's state is told meanwhile; its end is not missed."""
    site = serve(max_streams_per_owner=1)
    job = running_job(site)
    holding = Watching("async", site.url, token=site.token())
    holding.until_number(2)
    watching = Watching("async", site.url, token=site.token())
    while not watching.seen:
        time.sleep(0.05)
    job.append("progress", done=5, total=9)
    job.succeed()
    seen = watching.ends()

    assert ("snapshot", "running") == (seen[0].type, seen[0].state["state"])
    assert "succeeded" == seen[-1].state["state"]
    holding.ends()


def test_a_server_without_streams_is_polled(serve: Any) -> None:
    """STREAMING=false: the states that are seen, and the last one."""
    site = serve(streaming=False)
    job = running_job(site)
    watching = Watching("sync", site.url, token=site.token())
    while not watching.seen:
        time.sleep(0.05)
    job.append("progress", done=5, total=9)
    while len(watching.seen) < 2:
        time.sleep(0.05)
    job.succeed({"rows": 1})
    seen = watching.ends()

    assert {"snapshot"} == {event.type for event in seen}
    assert [None, 5] == [event.state["done"] for event in seen[:2]]
    assert ("succeeded", {"rows": 1}) == (seen[-1].state["state"], seen[-1].state["result"])


def test_a_redis_that_drops_its_clients_is_not_noticed(site: Site) -> None:
    """The server mends that by itself."""
    job = running_job(site)
    watching = Watching("async", site.url, token=site.token())
    watching.until_number(2)
    site.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    job.append()
    watching.until_number(3)
    job.succeed()

    assert [1, 2, 3, 4] == [int(event.id.partition("-")[2]) for event in watching.ends()]
