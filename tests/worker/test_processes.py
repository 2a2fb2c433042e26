"""Workers as processes that are killed, stopped and continued."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker

from progress_stream import ProgressMiddleware
from progress_stream.settings import Settings
from tests.support.workers import Workers
from tests.worker.conftest import Eyes, until


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(settings, tmp_path)
    yield made
    made.end()


def send(settings: Settings, broker_url: str, seconds: float) -> str:
    broker = RedisBroker(url=broker_url)
    broker.add_middleware(ProgressMiddleware(settings))
    message: dramatiq.Message[Any] = dramatiq.Message("default", "count", (seconds,), {}, {"progress": True})
    return str(broker.enqueue(message).message_id)


def pid_of(eyes: Eyes, job: str, attempt: int) -> int:
    def found() -> int | None:
        return next((e["data"] for e in eyes.events(job, "pid") if e["attempt"] == attempt), None)

    return int(until(found, 60))


def test_a_job_whose_worker_was_killed_runs_again_as_attempt_2(
    settings: Settings, broker_url: str, workers: Workers
) -> None:
    """kill -9 in the middle: Dramatiq gives the message to another worker, which takes the job over and ends it."""
    eyes = Eyes(settings)
    job = send(settings, broker_url, 2)
    workers.start()
    os.kill(pid_of(eyes, job, 1), signal.SIGKILL)
    workers.start()
    pid_of(eyes, job, 2)
    state = eyes.ended(job)

    assert ("succeeded", 2, 100) == (state["state"], state["attempt"], state["done"])
    assert ["queued", "started", "pid", "started", "pid", "succeeded"] == eyes.types(
        job, without=frozenset({"progress", "stalled"})
    )


def test_a_worker_that_was_only_stopped_cannot_write_any_more(
    settings: Settings, broker_url: str, workers: Workers
) -> None:
    """SIGSTOP, taken over, SIGCONT: the zombie's reports are refused, it is told, and it says so in its log."""
    eyes = Eyes(settings)
    job = send(settings, broker_url, 3)
    log = workers.start()
    zombie = pid_of(eyes, job, 1)
    os.kill(zombie, signal.SIGSTOP)
    workers.start()
    pid_of(eyes, job, 2)
    os.kill(zombie, signal.SIGCONT)
    until(lambda: "superseded by a later attempt" in log.read_text(), 30)
    state = eyes.ended(job)

    assert ("succeeded", 2) == (state["state"], state["attempt"])
    first = [i for i, event in enumerate(eyes.events(job)) if event.get("attempt") == 1]
    second = [i for i, event in enumerate(eyes.events(job)) if event.get("attempt") == 2]
    assert max(first) < min(second)


@pytest.mark.contract("STALLED_SECONDS")
def test_a_silent_worker_is_stalled_until_it_reports_again(
    settings: Settings, broker_url: str, workers: Workers
) -> None:
    """Another process' sweep says so once; the first sign of life clears it."""
    quick = settings.model_copy(update={"stalled_seconds": 6})
    workers._settings = quick
    eyes = Eyes(quick)
    # Only one worker takes messages of this queue's broker, so nobody takes the job over meanwhile.
    broker = RedisBroker(url=broker_url, heartbeat_timeout=60_000)
    middleware = ProgressMiddleware(quick)
    broker.add_middleware(middleware)
    job = send(quick, broker_url, 4)
    workers.start()
    worker = pid_of(eyes, job, 1)
    os.kill(worker, signal.SIGSTOP)
    sweeping = dramatiq.Worker(broker, worker_threads=1)
    sweeping.start()
    try:
        until(lambda: eyes.events(job, "stalled"), 25)
        stalled = eyes.state(job)
        os.kill(worker, signal.SIGCONT)
        until(lambda: not eyes.state(job)["stalled"], 15)
    finally:
        sweeping.stop()
    state = eyes.ended(job)

    assert stalled["stalled"]
    assert ("succeeded", 1, False) == (state["state"], state["attempt"], state["stalled"])
    assert 1 == len(eyes.events(job, "stalled"))


def test_a_worker_that_ends_in_good_order_has_said_everything(
    settings: Settings, broker_url: str, workers: Workers
) -> None:
    """SIGTERM in the middle: the job is finished first, and its last event is in Redis."""
    eyes = Eyes(settings)
    job = send(settings, broker_url, 1)
    workers.start()
    pid_of(eyes, job, 1)
    os.kill(workers.started[0].pid, signal.SIGTERM)
    until(lambda: not workers.started[0].running, 30)
    time.sleep(0.1)

    assert "succeeded" == eyes.state(job)["state"]
