"""Cancelling over HTTP, with real workers: what the actor sees, how the job ends, and what does not follow it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import httpx
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Interrupt
from pydantic import SecretStr

from progress_stream import ProgressMiddleware, current_job, report, track
from progress_stream.api.app import create_app
from progress_stream.errors import ProgressStreamError
from progress_stream.jobs import Header
from progress_stream.settings import Settings, load
from tests.support.server import SECRET, Site, serving
from tests.support.workers import Workers
from tests.worker.conftest import Eyes, Stack, until


@pytest.fixture
def settings(redis_url: str, broker_url: str, namespace: str, tmp_path: Path) -> Settings:
    return load(
        redis_url=redis_url, broker_url=broker_url, namespace=namespace, data=tmp_path, jwt_secret=SecretStr(SECRET),
        ready_seconds=0, drain_seconds=0, stalled_seconds=2,
    )  # fmt: skip


@pytest.fixture
def client(settings: Settings, redis_client: redis.Redis) -> Iterator[httpx.Client]:
    """An administrator's: the jobs here have no owner."""
    scopes = "jobs:read jobs:write jobs:admin"
    with (
        serving(create_app(settings), settings) as url,
        Site(url, settings, redis_client).client(scopes=scopes) as client,
    ):
        yield client


def cancel(client: httpx.Client, job: str) -> dict[str, Any]:
    answer = client.post(f"/jobs/{job}/cancel")
    assert 202 == answer.status_code, answer.text
    state: dict[str, Any] = answer.json()
    return state


def cancel_at_work(client: httpx.Client, stack: Stack, actor: Any, *args: Any) -> str:
    """Send the message, and cancel its job once the actor has said that it is ready; the job's id, after its end."""
    message = actor.send(*args)
    stack.work()
    until(lambda: stack.events(message.message_id, "ready"))
    cancel(client, message.message_id)
    assert "cancelled" == stack.ended(message.message_id)["state"]
    stack.broker.join("default")
    return str(message.message_id)


def check_ended_once(stack: Stack, job: str) -> None:
    """One end, the last word of all; not retried, not dead-lettered."""
    time.sleep(0.2)
    types = stack.types(job)
    assert 1 == sum(type in {"succeeded", "failed", "cancelled"} for type in types), types
    assert "cancelled" == types[-1]
    assert "retrying" not in types
    assert 0 == stack.dead_letters()


@pytest.mark.contract("POST /jobs/{id}/cancel")
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_actor_cleans_up_and_ends(stack: Stack, client: httpx.Client, kind: str) -> None:
    """`finally` runs, with reports that raise no more than any other."""
    cleaned: list[str] = []

    def work() -> None:
        current_job().event("ready")
        try:
            for _ in track(iter(int, 1)):
                time.sleep(0.001)
        finally:
            cleaned.append("yes")

    async def work_async() -> None:
        current_job().event("ready")
        try:
            while True:
                await asyncio.sleep(0.001)
                current_job().advance()
        finally:
            await asyncio.sleep(0.01)
            cleaned.append("yes")

    actor = stack.actor(max_retries=3)(work if kind == "plain" else work_async)
    job = cancel_at_work(client, stack, actor)

    assert ["yes"] == cleaned
    check_ended_once(stack, job)


@pytest.mark.parametrize("then", ["report", "return", "raise"])
def test_an_actor_that_swallows_it_is_cancelled_all_the_same(
    stack: Stack, client: httpx.Client, then: str
) -> None:
    """Raised again at each further report; and if there is none, what comes back is no result of a cancelled job."""

    def swallow() -> str:
        job = current_job()
        job.event("ready")
        try:
            while True:
                time.sleep(0.001)
                job.advance()
        except Exception:
            if then == "raise":
                raise ValueError("another error") from None
        if then == "report":
            job.log("once more")
        return "done"

    job = cancel_at_work(client, stack, stack.actor(max_retries=3)(swallow))

    assert stack.state(job)["result"] is None
    check_ended_once(stack, job)


@pytest.mark.contract("POST /jobs/{id}/cancel")
@pytest.mark.parametrize("swallows", [False, True])
def test_its_pipeline_stops(
    stack: Stack, client: httpx.Client, swallows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The next message is not sent, whether the actor passes it on or comes back as if nothing had been; nor is what its actor
    wants to be told of each success or failure."""
    followed: list[int] = []

    @stack.actor()
    def told(message: dict[str, Any], outcome: Any) -> None:
        followed.append(0)

    @stack.actor(on_success="told", on_failure="told")
    def first() -> int:
        job = current_job()
        job.event("ready")
        try:
            while True:
                time.sleep(0.001)
                job.advance()
        except Exception:
            if not swallows:
                raise
        return 1

    @stack.actor()
    def second(value: int) -> None:
        followed.append(value)

    @stack.actor()
    def other(value: int) -> None:
        followed.append(-value)

    pipeline = dramatiq.pipeline([first.message(), second.message()], broker=stack.broker)
    pipeline.run()
    job = pipeline.messages[0].message_id
    stack.work()
    until(lambda: stack.events(job, "ready"))
    cancel(client, job)
    assert "cancelled" == stack.ended(job)["state"]
    other.send(2)
    until(lambda: followed)
    stack.broker.join("default")

    assert [-2] == followed
    # Dramatiq logs what a hook raises: a callback that was to be sent and could not be.
    assert [] == [record for record in caplog.records if record.levelno >= logging.ERROR]
    check_ended_once(stack, job)


def test_a_queued_job_never_starts(stack: Stack, client: httpx.Client) -> None:
    """Its message is acknowledged without the actor; deleted meanwhile or not."""
    ran: list[str] = []

    @stack.actor(max_retries=3)
    def never(name: str) -> None:
        ran.append(name)

    kept, deleted, last = never.send("kept"), never.send("deleted"), never.send("last")
    for message in (kept, deleted):
        assert "cancelled" == cancel(client, message.message_id)["state"]
    assert 204 == client.delete(f"/jobs/{deleted.message_id}").status_code
    stack.work(threads=1)
    stack.ended(last.message_id)
    stack.broker.join("default")

    assert ["last"] == ran
    assert ["queued", "cancelled"] == stack.types(kept.message_id)
    assert 0 == stack.dead_letters()
    assert stack.look(deleted.message_id).tombstone


def test_a_job_that_waits_for_its_retry_never_starts_again(stack: Stack, client: httpx.Client) -> None:
    """Ended at once; when its message comes, it is acknowledged."""
    runs: list[int] = []

    @stack.actor(max_retries=3, min_backoff=1_500, max_backoff=1_500)
    def fail() -> None:
        runs.append(1)
        raise ValueError("no")

    message = fail.send()
    stack.work()
    until(lambda: stack.state(message.message_id)["state"] == "retrying")
    assert "cancelled" == cancel(client, message.message_id)["state"]
    time.sleep(2.5)
    stack.broker.join("default")

    assert [1] == runs
    assert ["queued", "started", "retrying", "cancelled"] == stack.types(message.message_id)
    assert 0 == stack.dead_letters()


def test_a_cancel_that_its_worker_never_heard_of_is_heard_by_the_next(
    stack: Stack, client: httpx.Client
) -> None:
    """The worker died after the request: the redelivery ends the job without the actor."""
    ran: list[int] = []

    @stack.actor(max_retries=3)
    def once() -> None:
        ran.append(1)

    message = once.send()
    start = {"job": message.message_id, "type": "started", "at": "2026-01-01T00:00:00.000Z"}
    header = Header(message.message_id, "once", created_at=message.message_timestamp)
    stack.store.send(stack.store.commands.start(header, start, "dead", may_create=False))
    assert "running" == cancel(client, message.message_id)["state"]
    stack.work()
    stack.ended(message.message_id)

    assert [] == ran
    assert ["queued", "started", "cancelling", "started", "cancelled"] == stack.types(message.message_id)
    check_ended_once(stack, message.message_id)


@pytest.mark.contract("POST /jobs/{id}/cancel")
@pytest.mark.parametrize("how", ["actor", "middleware"])
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_interrupt_mode_stops_code_that_never_reports(
    settings: Settings, broker_url: str, client: httpx.Client, how: str, kind: str
) -> None:
    """In the middle of a loop that knows nothing of us; `finally` runs, and a broad `except` does not hold it."""
    stack = Stack(settings, broker_url, interrupt=how == "middleware")
    cleaned: list[str] = []

    def deaf() -> None:
        current_job().event("ready")
        try:
            while True:
                try:
                    time.sleep(0.005)
                except Exception:
                    continue
        finally:
            cleaned.append("yes")

    async def deaf_async() -> None:
        current_job().event("ready")
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append("yes")

    options = {"interrupt": True} if how == "actor" else {}
    actor = stack.actor(max_retries=3, **options)(deaf if kind == "plain" else deaf_async)
    try:
        job = cancel_at_work(client, stack, actor)
    finally:
        stack.stop()

    assert ["yes"] == cleaned
    check_ended_once(stack, job)


def test_an_interrupt_never_reaches_another_message(
    settings: Settings, broker_url: str, client: httpx.Client
) -> None:
    """Cancelled around its very end, many times over: the thread and the messages after it know nothing of that."""
    stack = Stack(settings, broker_url)
    hits: list[str] = []

    @stack.actor(interrupt=True, max_retries=3)
    def short(seconds: float) -> None:
        current_job().event("ready")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pass

    @stack.actor(max_retries=3)
    def bystander() -> None:
        try:
            deadline = time.monotonic() + 0.02
            while time.monotonic() < deadline:
                pass
        except Interrupt:
            hits.append("hit")
            raise

    stack.work(threads=1)
    bystanders = []
    try:
        for number in range(25):
            message = short.send(0.01 + number % 5 * 0.004)
            bystanders.append(bystander.send().message_id)
            until(lambda job=message.message_id: stack.events(job, "ready"))
            client.post(f"/jobs/{message.message_id}/cancel")
            types = stack.types(message.message_id) if stack.ended(message.message_id) else []
            assert 1 == sum(type in {"succeeded", "failed", "cancelled"} for type in types), types
            assert "failed" not in types
        for job in bystanders:
            assert "succeeded" == stack.ended(job)["state"]
    finally:
        stack.stop()

    assert [] == hits
    assert 0 == stack.dead_letters()


def test_a_stalled_job_is_ended_for_its_worker(stack: Stack, client: httpx.Client) -> None:
    """The worker that comes back is refused at its next report, and the message goes nowhere."""
    reported = threading.Event()
    raised: list[str] = []

    @stack.actor(max_retries=3)
    def comes_back() -> None:
        job = current_job()
        job.event("ready")
        reported.wait(30)
        for _ in range(400):
            try:
                job.advance()
            except ProgressStreamError as error:
                raised.append(type(error).__name__)
                raise
            time.sleep(0.01)

    message = comes_back.send()
    stack.work()
    until(lambda: stack.events(message.message_id, "ready"))
    event = {
        "job": message.message_id,
        "type": "stalled",
        "at": "2026-01-01T00:00:00.000Z",
        "silent_seconds": 15,
    }
    call = stack.store.commands.intervene(
        message.message_id, event, statuses=("running",), field="stalled_at"
    )
    stack.store.send(call)
    assert "cancelled" == cancel(client, message.message_id)["state"]
    reported.set()
    stack.broker.join("default")

    assert ["Cancelled"] == raised
    assert "cancelled" == stack.types(message.message_id)[-1]
    assert 0 == stack.dead_letters()


def test_a_report_without_dramatiq_is_cancelled_too(settings: Settings, client: httpx.Client) -> None:
    """A script's job: the block is left by Cancelled, and if it is swallowed the job has been cancelled all the same."""
    eyes = Eyes(settings)
    with report("script", settings=settings) as job:
        job.event("ready")
        until(lambda: eyes.events(job.id, "ready"))
        cancel(client, job.id)
        with pytest.raises(ProgressStreamError):
            for _ in range(2_000):
                job.advance()
                time.sleep(0.005)

    assert "cancelled" == eyes.ended(job.id)["state"]


@pytest.mark.contract("POST /jobs/{id}/cancel")
def test_across_processes(settings: Settings, client: httpx.Client, broker_url: str, tmp_path: Path) -> None:
    """Web server and worker share Redis and nothing else."""
    eyes, workers = Eyes(settings), Workers(settings, tmp_path)
    broker = RedisBroker(url=broker_url)  # type: ignore[no-untyped-call]
    broker.add_middleware(ProgressMiddleware(settings))
    count: Any = dramatiq.actor(
        lambda seconds: None, broker=broker, actor_name="count", progress=True, max_retries=0
    )
    try:
        workers.start()
        job = count.send(60.0).message_id
        until(lambda: eyes.state(job)["done"], 30)
        began = time.monotonic()
        cancel(client, job)
        state = eyes.ended(job)
    finally:
        workers.end()

    assert "cancelled" == state["state"]
    assert time.monotonic() - began < 5
    assert ["queued", "started", "pid", "cancelling", "cancelled"] == eyes.types(job)
