"""How many messages each queue holds, as a scraper is told: what workers are scaled by."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Collection, Mapping

import pytest
import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker

from progress_stream import metrics
from progress_stream.api import queues
from progress_stream.settings import Settings
from tests.support.server import Site
from tests.worker.conftest import until

from .test_metrics import free_port, numbers_at

QUEUE = ("queue_messages", "default")


@pytest.fixture
def broker(settings: Settings, redis_client: redis.Redis) -> RedisBroker:
    """The worker's side of the same broker."""
    broker = RedisBroker(url=settings.effective_broker_url, namespace=settings.broker_namespace)
    broker.declare_queue("default")
    return broker


def submit(site: Site, count: int) -> str:
    """The last job's address; its queue is known to the server."""
    site.announce()
    with site.client() as client:
        for _ in range(count):
            answer = client.post("/jobs", json={"actor": "personalize", "args": {}})
            assert 201 == answer.status_code
    until(lambda: QUEUE in numbers_at(site.url))
    return answer.headers["location"]


@pytest.mark.contract("GET /metrics")
def test_a_message_counts_until_its_work_is_done(site: Site, broker: RedisBroker) -> None:
    """A worker that is busy is not to be scaled away; what is to be done much later needs none yet."""
    submit(site, 2)
    assert 2 == numbers_at(site.url)[QUEUE]

    consumer = broker.consume("default", prefetch=1, timeout=1_000)
    taken = next(consumer)
    assert taken is not None and 2 == numbers_at(site.url)[QUEUE]
    consumer.ack(taken)
    consumer.close()
    later: Message[None] = Message("default", "personalize", (), {}, {})
    broker.enqueue(later, delay=3_600_000)

    assert 1 == numbers_at(site.url)[QUEUE]


def test_a_queue_is_told_of_after_its_last_worker_has_gone(site: Site, redis_client: redis.Redis) -> None:
    """That is when it grows."""
    job = submit(site, 1)
    redis_client.delete(site.store.commands.keys.actors())
    with site.client() as client:
        until(lambda: client.get(job).json()["waiting_for"] is not None)

    assert 1 == numbers_at(site.url)[QUEUE]


def test_a_broker_that_is_away_makes_no_number(serve: Callable[..., Site]) -> None:
    """And takes no other number away."""
    site = serve(broker_url=f"redis://127.0.0.1:{free_port()}/0")
    site.announce()
    until(lambda: QUEUE in numbers_at(site.url))
    numbers = numbers_at(site.url)

    assert math.isnan(numbers[QUEUE])
    assert ("watchers",) in numbers


async def test_a_broker_that_does_not_answer_is_asked_once_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each scrape would leave another thread behind."""
    monkeypatch.setattr(queues, "LOOK_SECONDS", 0.05)
    answers, asked = threading.Event(), []

    async def announced() -> Mapping[str, bytes]:
        return {"a": b'{"queue": "slow"}', "just-submitted": b"", "odd": b"[]"}

    def sizes(places: Collection[queues.Place]) -> Mapping[str, int]:
        asked.append(places)
        answers.wait(20)
        return {"slow": 7}

    looked = queues.Queues(announced, sizes)
    await looked.measure()
    await looked.measure()

    assert [{(None, "slow")}] == asked
    assert math.isnan(_told("slow"))
    answers.set()
    await asyncio.sleep(0)
    monkeypatch.setattr(queues, "LOOK_SECONDS", 20)
    await looked.measure()
    assert 7 == _told("slow")


def _told(queue: str) -> float:
    value = metrics.known().registry.get_sample_value("progress_stream_queue_messages", {"queue": queue})
    assert value is not None
    return value
