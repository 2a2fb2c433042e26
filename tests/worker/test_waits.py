"""The only waits of a job on Redis are bounded by settings; so is how long a job without a worker is kept as running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from progress_stream.jobs import Header
from progress_stream.settings import Settings
from progress_stream.store.sweep import Sweeper
from tests.support.redis import RedisServer

from .conftest import Stack, until


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", persistent=False) as server:
        yield server


def stack_on(server: RedisServer, settings: Settings, broker_url: str, **changed: object) -> Stack:
    return Stack(settings.model_copy(update={"redis_url": server.url(), **changed}), broker_url)


@pytest.mark.contract("ENQUEUE_WAIT_MS")
@pytest.mark.parametrize("milliseconds", [0, 400])
def test_sending_waits_for_enqueue_wait_ms_and_no_longer(
    own_server: RedisServer, settings: Settings, broker_url: str, milliseconds: int
) -> None:
    """On a Redis that hangs. The message goes to the broker all the same."""
    stack = stack_on(own_server, settings, broker_url, enqueue_wait_ms=milliseconds)
    work = stack.actor(actor_name="work")(lambda: None)
    own_server.sigstop()
    try:
        began = time.monotonic()
        message = work.send()
        took = time.monotonic() - began
    finally:
        own_server.sigcont()

    assert milliseconds / 1000 * 0.9 <= took < milliseconds / 1000 + 0.3
    stack.work()
    assert "succeeded" == stack.ended(message.message_id)["state"]
    stack.stop()


@pytest.mark.contract("START_WAIT_MS")
@pytest.mark.parametrize("milliseconds", [100, 1_200])
def test_a_start_waits_for_start_wait_ms_and_no_longer(
    own_server: RedisServer, settings: Settings, broker_url: str, milliseconds: int
) -> None:
    """The actor runs then, and takes its attempt later."""
    stack = stack_on(own_server, settings, broker_url, enqueue_wait_ms=0, start_wait_ms=milliseconds)
    ran: list[float] = []
    work = stack.actor(actor_name="work")(lambda: ran.append(time.monotonic()))
    stack.work()
    time.sleep(0.3)
    own_server.sigstop()
    try:
        began = time.monotonic()
        message = work.send()
        until(lambda: ran, 10)
    finally:
        own_server.sigcont()

    # Its consumer may take as long to hear of the message.
    assert milliseconds / 1000 * 0.9 <= ran[0] - began < milliseconds / 1000 + 0.8
    assert "succeeded" == stack.ended(message.message_id)["state"]
    stack.stop()


@pytest.mark.contract("TERMINAL_WAIT_MS")
@pytest.mark.parametrize("milliseconds", [100, 1_200])
def test_an_end_waits_for_terminal_wait_ms_and_no_longer(
    own_server: RedisServer, settings: Settings, broker_url: str, milliseconds: int
) -> None:
    """The thread is free for the next message then; Redis hears of the end when it can."""
    stack = stack_on(own_server, settings, broker_url, start_wait_ms=1_000, terminal_wait_ms=milliseconds)
    ended: list[float] = []
    free: list[float] = []

    def stop() -> None:
        own_server.sigstop()
        ended.append(time.monotonic())

    first = stack.actor(actor_name="first")(stop)
    stack.actor(actor_name="second", progress=False)(lambda: free.append(time.monotonic()))
    stack.work(threads=1)
    try:
        message = first.send()
        until(lambda: ended)
        stack.broker.actors["second"].send()
        until(lambda: free, 10)
    finally:
        own_server.sigcont()

    assert milliseconds / 1000 * 0.9 <= free[0] - ended[0] < milliseconds / 1000 + 0.8
    assert "succeeded" == stack.ended(message.message_id)["state"]
    stack.stop()


@pytest.mark.contract("REPLICA_WAIT_MS")
def test_replica_wait_ms_waits_for_a_replica_and_no_longer(
    own_server: RedisServer, settings: Settings, broker_url: str
) -> None:
    """With none there, a start and an end take so much longer each; the job comes to no harm."""
    stack = stack_on(own_server, settings, broker_url, replica_wait_ms=400)
    work = stack.actor(actor_name="work")(lambda: None)
    message = work.send()
    stack.work()
    state = stack.ended(message.message_id)
    with own_server.client() as client:
        waits = until(
            lambda: (
                (found := client.info("commandstats").get("cmdstat_wait")) and found["calls"] == 2 and found
            )
        )
    stack.stop()

    assert "succeeded" == state["state"]
    assert 2 == waits["calls"]


@pytest.mark.contract("STALLED_SECONDS")
def test_a_silent_job_gives_three_signs_within_the_shortest_stalled_seconds(
    settings: Settings, broker_url: str
) -> None:
    """Or a worker that is well would be called stalled between two of them."""
    stack = Stack(settings.model_copy(update={"stalled_seconds": 1}), broker_url)
    over = threading.Event()

    @stack.actor()
    def think() -> None:
        over.wait(60)

    job = think.send().message_id
    stack.work()
    signs: set[str] = set()

    def seen() -> bool:
        signs.add(stack.state(job).get("seen_at", ""))
        return len(signs) > 5

    try:
        until(lambda: stack.state(job)["state"] == "running")
        began = time.monotonic()
        until(seen)
        took = time.monotonic() - began
    finally:
        over.set()
    stack.ended(job)
    stack.stop()

    # A sign each five seconds would have taken twenty.
    assert took < 10


@pytest.mark.contract("ABANDONED_SECONDS")
def test_a_job_without_a_worker_is_lost_after_abandoned_seconds(settings: Settings, broker_url: str) -> None:
    """It ends as `failed` then, and not before: every job ends."""
    chosen = settings.model_copy(update={"stalled_seconds": 1, "abandoned_seconds": 3})
    stack = Stack(chosen, broker_url)
    message = stack.actor(actor_name="work")(lambda: None).send()
    # A worker that was killed right after its start.
    commands, header = stack.store.commands, header_of(message)
    started = {"job": header.id, "type": "started", "at": "2026-01-01T00:00:00.000Z"}
    stack.store.send(commands.start(header, started, "nonce", may_create=False))
    began = time.monotonic()
    sweeper = Sweeper(stack.store, chosen, lambda job: None)

    def swept() -> bool:
        sweeper.run_once()
        return bool(stack.state(header.id)["state"] == "failed")

    until(swept)

    assert 2.9 < time.monotonic() - began
    assert "Lost" == stack.state(header.id)["error"]["type"]


def header_of(message: dramatiq.Message[Any]) -> Header:
    """As a worker reads it."""
    return Header.from_options(message.message_id, message.actor_name, "default", message.options)
