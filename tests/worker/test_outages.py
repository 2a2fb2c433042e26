"""Redis goes away, comes back, comes back as another one. The actor notices nothing."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from progress_stream import current_job, report, track
from progress_stream.settings import Settings
from tests.support.redis import RedisServer
from tests.worker.conftest import Eyes, Stack, until


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """The store alone: the broker stays up."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def frail(own_server: RedisServer, settings: Settings, broker_url: str) -> Iterator[Stack]:
    made = Stack(settings.model_copy(update={"redis_url": own_server.url()}), broker_url)
    yield made
    made.stop()


@pytest.mark.parametrize("fault", ["stopped", "killed"])
def test_an_actor_is_not_slowed_by_a_redis_that_is_away(
    frail: Stack, own_server: RedisServer, fault: str
) -> None:
    """Five seconds: no report waits, no log line is lost, and the end is told when Redis is back."""
    slowest: list[float] = []

    @frail.actor()
    def work() -> int:
        job = current_job()
        job.event("ready", None)
        for number in track(range(350)):
            began = time.monotonic()
            if number % 10 == 0:
                job.log(f"line {number}")
            job.advance(0)
            slowest.append(time.monotonic() - began)
            time.sleep(0.02)
        return 350

    message = work.send()
    frail.work()
    until(lambda: frail.events(message.message_id, "ready"))
    if fault == "stopped":
        own_server.sigstop()
        time.sleep(5)
        own_server.sigcont()
    else:
        own_server.kill9()
        time.sleep(5)
        own_server.start()
    until(lambda: frail.state(message.message_id)["state"] == "succeeded", 30)
    state = frail.state(message.message_id)

    # A busy machine holds up one call or another; those that waited for Redis would be many, and take its timeouts.
    assert sorted(slowest)[-4] < 0.25
    assert max(slowest) < 1
    assert (350, 350) == (state["done"], state["result"])
    assert [f"line {n}" for n in range(0, 350, 10)] == [
        e["message"] for e in frail.events(message.message_id, "log")
    ]


def test_a_job_that_starts_while_redis_is_away_takes_its_attempt_later(
    frail: Stack, own_server: RedisServer
) -> None:
    """The send waits a second, the start not again; nothing that was said meanwhile is lost."""
    own_server.kill9()

    @frail.actor()
    def work() -> None:
        current_job().log(f"attempt {current_job().attempt}")
        time.sleep(1)

    began = time.monotonic()
    message = work.send_with_options(owner="alice")
    sent = time.monotonic() - began
    frail.work()
    time.sleep(0.5)
    own_server.start()
    until(lambda: frail.state(message.message_id)["state"] == "succeeded", 30)

    assert sent < 1.6
    assert "alice" == frail.state(message.message_id)["owner"]
    assert ["attempt None"] == [e["message"] for e in frail.events(message.message_id, "log")]
    assert 1 == frail.events(message.message_id, "log")[0]["attempt"]


def test_an_outage_is_waited_for_once_and_not_for_each_message(frail: Stack, own_server: RedisServer) -> None:
    """Ten messages into a Redis that is known to be away take about one wait, not ten."""

    @frail.actor()
    def idle() -> None: ...

    own_server.kill9()
    began = time.monotonic()
    for _ in range(10):
        idle.send()

    assert time.monotonic() - began < 3


def test_an_emptied_redis_gets_its_running_job_back(frail: Stack, own_server: RedisServer) -> None:
    """FLUSHALL in the middle: the reporter sends the header again, and the whole state; ids go on above the old ones."""

    @frail.actor()
    def work() -> None:
        job = current_job()
        job.update(done=5, total=10, message="half")
        job.event("ready", None)
        while not job.cancel_requested:
            time.sleep(0.01)
            if flushed:
                job.update(done=10)
                return

    flushed: list[bool] = []
    message = work.send_with_options(owner="alice", title="T")
    frail.work()
    until(lambda: frail.events(message.message_id, "ready"))
    before = frail.look(message.message_id).record
    with own_server.client() as client:
        client.flushall()
    flushed.append(True)
    state = frail.ended(message.message_id)
    after = frail.look(message.message_id).record

    assert before is not None
    assert after is not None
    assert ("succeeded", "alice", "T", 10, "half") == tuple(
        state[k] for k in ("state", "owner", "title", "done", "message")
    )
    assert after.control.last > before.control.last
    assert after.control.born.epoch > before.control.last.epoch
    assert after.control.born.n > before.control.last.n


def test_the_end_is_offered_again_to_a_redis_that_was_emptied(frail: Stack, own_server: RedisServer) -> None:
    """For a minute after the end, as long as the process lives."""

    @frail.actor()
    def work() -> str:
        return "done"

    message = work.send()
    frail.work()
    frail.ended(message.message_id)
    other = Eyes(frail.settings)
    time.sleep(6)  # the marker is looked at each five seconds
    with own_server.client() as client:
        client.flushall()
    # Another job keeps the process looking.
    with report("other", settings=frail.settings):
        until(lambda: other.state(message.message_id)["state"] == "succeeded", 20)

    assert "done" == other.state(message.message_id)["result"]


def test_a_promoted_replica_gets_what_it_lacks_under_the_old_numbers(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A replica without the last events takes the primary's place: the reporter fills the hole, each event once, in order."""
    caplog.set_level(logging.WARNING)
    with RedisServer(tmp_path / "a") as primary, RedisServer(tmp_path / "b") as replica:
        port = primary.port
        known = settings.model_copy(update={"redis_url": primary.url()})
        with report("etl", settings=known) as job:
            for number in range(10):
                job.event("line", number)
            eyes = Eyes(known)
            until(lambda: len(eyes.events(job.id, "line")) == 10)
            replica.replicate(primary)
            replica.cut_off()
            for number in range(10, 15):
                job.event("line", number)
            until(lambda: len(eyes.events(job.id, "line")) == 15)
            primary.kill9()
            replica.promote()
            replica.stop()
            replica.port = port
            replica.start()
            job.event("line", 15)
            until(
                lambda: eyes.events(job.id, "line")[-1:] and eyes.events(job.id, "line")[-1]["data"] == 15, 30
            )

        until(lambda: eyes.state(job.id)["state"] == "succeeded")

        assert list(range(16)) == [event["data"] for event in eyes.events(job.id, "line")]


def test_the_end_is_waited_for_once_redis_answers_again(own_server: RedisServer, settings: Settings) -> None:
    """What was kept is still on its way when the job ends: it is no outage any more, and the job ends in Redis first."""
    known = settings.model_copy(update={"redis_url": own_server.url(), "terminal_wait_ms": 3_000})
    with report("etl", settings=known) as job:
        own_server.kill9()
        for number in range(500):
            job.event("line", {"number": number, "text": "x" * 8_000})
        time.sleep(3)
        own_server.start()
        eyes = Eyes(known)
        until(lambda: eyes.events(job.id, "line"), 30)

    assert "succeeded" == eyes.state(job.id)["state"]


def test_a_promoted_replica_that_lacks_the_start_gets_the_attempt_again(
    tmp_path: Path, settings: Settings, broker_url: str
) -> None:
    """It knows the job as queued: that is no later attempt, and the reporter is not superseded by it."""
    with RedisServer(tmp_path / "a") as primary, RedisServer(tmp_path / "b") as replica:
        stack = Stack(settings.model_copy(update={"redis_url": primary.url()}), broker_url)
        port, go = primary.port, []

        @stack.actor()
        def work() -> str:
            job = current_job()
            for number in range(5):
                job.event("line", number)
            while not go:
                time.sleep(0.01)
            job.event("line", 5)
            return "done"

        message = work.send()
        replica.replicate(primary)
        replica.cut_off()
        stack.work()
        until(lambda: len(stack.events(message.message_id, "line")) == 5)
        primary.kill9()
        replica.promote()
        replica.stop()
        replica.port = port
        replica.start()
        go.append(True)
        state = until(lambda: (s := stack.state(message.message_id))["state"] == "succeeded" and s, 30)
        stack.stop()

        assert ("done", 1) == (state["result"], state["attempt"])
        assert list(range(6)) == [event["data"] for event in stack.events(message.message_id, "line")]
