"""A worker's numbers: what it counts, and where a scraper finds them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from progress_stream import current_job, metrics
from progress_stream.reporting.flusher import PUBLISH_SECONDS
from progress_stream.reporting.housekeeping import Housekeeper
from progress_stream.reporting.showing import Shown
from progress_stream.settings import Settings
from tests.support.redis import RedisServer

from .conftest import Stack, until


def numbers_at(port: int) -> dict[str, float]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return {
        sample.name.removeprefix(metrics.PREFIX): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def settled(port: int) -> dict[str, float]:
    """The numbers are the process': what other tests' jobs still had to say is counted before a test of its own begins.

    What waits for a Redis that ended with its test waits for ever, so that `worker_buffered_events` need not begin at nothing.
    """

    def ours() -> dict[str, float]:
        return {name: value for name, value in numbers_at(port).items() if name.startswith("worker_")}

    numbers: dict[str, float] = {}
    while numbers != (newer := ours()):
        numbers = newer
        time.sleep(1.5 * PUBLISH_SECONDS)
    return numbers


@pytest.fixture
def shown() -> Iterator[Shown]:
    one = Shown(0)
    one.open()
    yield one
    one.close()


def test_what_a_job_says_is_counted(stack: Stack, shown: Shown) -> None:
    """What Redis took, what a newer report replaced, and what was too much to log."""

    @stack.actor(actor_name="talker")
    def talker() -> None:
        job = current_job()
        for done in range(1_000):
            job.update(done=done, total=1_000)
        for line in range(250):
            job.log(f"line {line}")

    before = settled(shown.port or 0)
    stack.work()
    message = talker.send()
    stack.ended(message.message_id)
    told = numbers_at(shown.port or 0)
    grown = {name: told[name] - before[name] for name in before}
    in_stream = len(stack.events(message.message_id, None)) - len(stack.events(message.message_id, "queued"))

    # `started` is no append.
    assert in_stream - 1 == grown["worker_appended_events_total"]
    assert 900 < grown["worker_coalesced_events_total"] < 1_000
    assert 40 < grown["worker_dropped_events_total"] <= 50
    assert 0 == grown["worker_buffered_events"] == grown["worker_superseded_attempts_total"]


def test_what_waits_for_redis_is_shown(settings: Settings, broker_url: str, shown: Shown, tmp_path) -> None:
    """While Redis hangs; and no more once it is back."""
    before = settled(shown.port or 0)["worker_buffered_events"]

    def waiting() -> float:
        return numbers_at(shown.port or 0)["worker_buffered_events"] - before

    with RedisServer(tmp_path / "own", persistent=False) as own:
        stack = Stack(settings.model_copy(update={"redis_url": own.url()}), broker_url)

        @stack.actor(actor_name="teller")
        def teller() -> None:
            own.sigstop()
            for number in range(30):
                current_job().event("line", {"number": number})
            until(lambda: waiting() == 30)
            own.sigcont()

        stack.work()
        message = teller.send()
        try:
            assert "succeeded" == stack.ended(message.message_id)["state"]
            until(lambda: waiting() == 0)
        finally:
            own.sigcont()
            stack.stop()


def test_one_process_has_the_port_and_another_takes_over(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others say once what to set, and go on."""
    monkeypatch.delenv(metrics.FOLDER, raising=False)
    first = Shown(0)
    first.open()
    second = Shown(first.port or 0)
    second.open()
    second.open()

    assert second.port is None
    assert 1 == caplog.text.count(metrics.FOLDER)

    first.close()
    second.open()

    assert "worker_buffered_events" in numbers_at(second.port or 0)
    assert 404 == httpx.get(f"http://127.0.0.1:{second.port}/jobs").status_code
    second.close()


def test_admin_port_shows_them_while_the_worker_runs(settings: Settings) -> None:
    """From its boot to its shutdown."""
    keeper = Housekeeper(settings.model_copy(update={"admin_port": 0}), dict)
    keeper.start()
    shown = keeper.shown
    assert shown is not None
    port = until(lambda: shown.port)
    numbers_at(port)
    keeper.stop(5)
    time.sleep(0.1)

    with pytest.raises(httpx.ConnectError):
        numbers_at(port)
