"""Actors for workers that are processes of their own: `python -m dramatiq tests.worker.actors`. Configured by the environment."""

import logging
import os
import time

import dramatiq
from dramatiq import Broker
from dramatiq.brokers.redis import RedisBroker

from progress_stream import ProgressMiddleware, broker_client, current_job, load


def _broker(url: str) -> Broker:
    """Of Redis' a dead worker's messages come back after a second instead of a minute or ten; RabbitMQ's do at once."""
    if url.startswith("amqp"):
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        return RabbitmqBroker(url=url, confirm_delivery=True)
    return RedisBroker(  # type: ignore[no-untyped-call]
        client=broker_client(load()), heartbeat_timeout=1_500, maintenance_chance=1_000_000
    )


broker = _broker(os.environ["PROGRESS_STREAM_BROKER_URL"])
broker.add_middleware(ProgressMiddleware())
dramatiq.set_broker(broker)
logging.getLogger("progress_stream").setLevel(logging.INFO)


@dramatiq.actor(progress=True, max_retries=0)
def count(seconds: float) -> None:
    """One item each 20 ms, and first of all who counts."""
    job = current_job()
    job.event("pid", os.getpid())
    total = int(seconds * 50)
    for done in range(total):
        job.update(done=done + 1, total=total)
        time.sleep(0.02)


@dramatiq.actor(progress=True, max_retries=5, min_backoff=50, max_backoff=200)
def lines(count: int, seconds: float) -> None:
    """The events 1…count of an own type, spread over some seconds: each attempt from the beginning."""
    job = current_job()
    for number in range(1, count + 1):
        job.event("line", number)
        time.sleep(seconds / count)


@dramatiq.actor(progress=True, max_retries=5, min_backoff=50, max_backoff=200)
def rows_of(number: int, rows: int) -> None:
    """A part: every tenth fails at its first attempt, four of 200 for good, each after half of its rows."""
    job = current_job()
    for done in range(rows):
        job.update(done=done + 1, total=rows, unit="rows")
        time.sleep(0.01)
        if done + 1 == rows // 2 and (number % 50 == 7 or (number % 10 == 3 and job.attempt == 1)):
            raise ValueError("as it was told to")


@dramatiq.actor(progress=True)
def merged(job: str) -> str:
    """What follows: how many have come to their end."""
    return "merged 196" if current_job().id == f"{job}~0" else "not this"


@dramatiq.actor(progress=True, max_retries=5, min_backoff=50, max_backoff=200)
def spread_rows(parts: int, rows: int) -> None:
    """Over so many parts of so many rows each."""
    job = current_job()
    messages = [
        rows_of.message_with_options(args=(number, rows), **({"max_retries": 0} if number % 50 == 7 else {}))
        for number in range(1, parts + 1)
    ]
    job.spread(messages, then=merged.message(job.id), weights=[rows] * parts, on_failure="continue")
