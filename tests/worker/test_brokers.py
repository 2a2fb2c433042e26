"""Dramatiq's broker elsewhere than the store, on a Redis of its own and on RabbitMQ: what is redelivered, delayed, counted."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import dramatiq
import httpx
import pytest
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.errors import BrokerRefused
from progress_stream.reporting.middleware import ProgressMiddleware
from progress_stream.settings import Settings, load
from progress_stream.submitting import Submission, Submitter
from tests.conftest import STORE_DB
from tests.support.rabbitmq import RabbitServer
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Site, serving
from tests.support.workers import Workers
from tests.worker.conftest import Eyes, until

#: One node of RabbitMQ for all, and real workers.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("brokers")]
DELAY_MS = 2_000
#: A worker's start, a takeover and the job, on a busy machine.
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def elsewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The broker's URL."""
    folder = tmp_path_factory.mktemp("broker")
    server = RedisServer(folder) if request.param == "redis" else RabbitServer(folder)
    with server:
        yield server.url() if isinstance(server, RedisServer) else server.url


@pytest.fixture
def settings(redis_server: RedisServer, elsewhere: str, namespace: str, tmp_path: Path) -> Settings:
    return load(
        redis_url=redis_server.url(STORE_DB), broker_url=elsewhere, namespace=namespace, data=tmp_path,
        jwt_secret=SecretStr(SECRET), ready_seconds=0, drain_seconds=0,
    )  # fmt: skip


@pytest.fixture
def eyes(settings: Settings) -> Iterator[Eyes]:
    eyes = Eyes(settings)
    yield eyes
    eyes.store.close()


@pytest.fixture
def submitter(settings: Settings, eyes: Eyes) -> Iterator[Submitter]:
    submitter = Submitter(settings, eyes.store)
    yield submitter
    submitter.close()


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(settings, tmp_path)
    yield workers
    workers.end()


def sending(settings: Settings) -> dramatiq.Broker:
    """As an application makes it."""
    url = str(settings.effective_broker_url)
    broker = RabbitmqBroker(url=url) if url.startswith("amqp") else RedisBroker(url=url)
    broker.add_middleware(ProgressMiddleware(settings))
    return broker


def count_of(broker: dramatiq.Broker) -> dramatiq.Actor[..., None]:
    """The name under which `tests.worker.actors` counts."""
    return dramatiq.actor(actor_name="count", broker=broker, progress=True)(lambda seconds: None)


def test_a_killed_worker_s_job_is_redelivered_and_comes_to_its_end(
    settings: Settings, workers: Workers, eyes: Eyes
) -> None:
    """With SIGKILL, in the middle: a second attempt, from the beginning, and one end."""
    workers.start()
    broker = sending(settings)
    job = count_of(broker).send(4).message_id
    broker.close()
    until(lambda: eyes.events(job, "progress"), PATIENCE_SECONDS)
    workers.signal(workers.started[0], signal.SIGKILL)
    workers.start()
    until(lambda: eyes.state(job)["state"] in ("succeeded", "failed"), PATIENCE_SECONDS)

    assert ("succeeded", 2) == (eyes.state(job)["state"], eyes.state(job)["attempt"])
    assert [1, 2] == [event["attempt"] for event in eyes.events(job, "started")]
    assert 2 == len({event["data"] for event in eyes.events(job, "pid")})
    assert 200 == eyes.events(job, "progress")[-1]["done"]
    assert 1 == len(eyes.events(job, "succeeded"))


def test_a_delayed_message_is_begun_in_its_time_and_told_of_before(
    settings: Settings, workers: Workers, eyes: Eyes
) -> None:
    """`send_with_options(delay=…)` in an application."""
    broker = sending(settings)
    workers.start()
    sent_at = time.time()
    job = count_of(broker).send_with_options(args=(0.1,), delay=DELAY_MS).message_id
    queued = eyes.state(job)
    until(lambda: eyes.state(job)["state"] == "succeeded", PATIENCE_SECONDS)
    broker.close()

    assert "queued" == queued["state"]
    assert queued["run_at"] is not None
    (started,) = eyes.events(job, "started")
    assert started["at"] > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(sent_at + DELAY_MS / 1000 - 1))
    assert 1 == eyes.state(job)["attempt"]


def test_the_worker_program_works_there(
    settings: Settings, submitter: Submitter, eyes: Eyes, workers: Workers
) -> None:
    """`dramatiq workers`, as the manifests start it."""
    workers.start(program="workers")
    until(lambda: "countdown" in [actor.name for actor in submitter.actors()], PATIENCE_SECONDS)
    job = submitter.submit(Submission("countdown", {"seconds": 1})).job

    until(lambda: eyes.state(job)["state"] == "succeeded", PATIENCE_SECONDS)


def test_messages_that_wait_are_counted(
    settings: Settings, elsewhere: str, redis_server: RedisServer
) -> None:
    """By /metrics, with no worker there; a queue that nobody has made yet has no number that could be read as one."""
    queue = f"q{uuid4().hex[:8]}"
    with ExitStack() as open_now:
        client = open_now.enter_context(redis_server.client(STORE_DB))
        url = open_now.enter_context(serving(create_app(settings), settings))
        site = Site(url, settings, client)
        described = f'{{"name": "wait", "queue": "{queue}", "title": null, "schema": {{"type": "object"}}}}'
        site.store.send(site.store.commands.announce({"wait": described.encode()}, 60))
        submitter = Submitter(settings, site.store)
        for _ in range(3):
            submitter.submit(Submission("wait", {}))
        submitter.close()
        pattern = rf'^progress_stream_queue_messages{{queue="{queue}"}} 3\.0$'
        until(lambda: re.search(pattern, httpx.get(f"{url}/metrics").text, re.MULTILINE))


def test_a_rabbitmq_that_is_away_is_said_and_leaves_no_job(
    redis_server: RedisServer, namespace: str, tmp_path: Path
) -> None:
    """In the time that a client waits."""
    settings = load(
        redis_url=redis_server.url(STORE_DB),
        broker_url="amqp://127.0.0.1:1",
        namespace=namespace,
        data=tmp_path,
    )
    eyes = Eyes(settings)
    submitter = Submitter(settings, eyes.store)
    described = b'{"name": "wait", "queue": "default", "title": null, "schema": {"type": "object"}}'
    eyes.store.send(eyes.store.commands.announce({"wait": described}, 60))
    began = time.monotonic()
    with pytest.raises(BrokerRefused):
        submitter.submit(Submission("wait", {}, job="job-1"))
    with pytest.raises(BrokerRefused):
        submitter.queue_sizes([(None, "default")])
    eyes.store.close()

    assert time.monotonic() - began < 20
    assert eyes.look("job-1").record is None
