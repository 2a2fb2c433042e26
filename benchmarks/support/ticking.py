"""The actor of the benchmark `whole`, for a Dramatiq worker: its Redis is named by the environment."""

from __future__ import annotations

import os
import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from progress_stream import ProgressMiddleware, current_job, load

from .moments import CHANNEL, EVENTS, SPACING_SECONDS, URL

settings = load(redis_url=os.environ[URL])
broker = RedisBroker(url=os.environ[URL], namespace=settings.broker_namespace)
broker.add_middleware(ProgressMiddleware(settings))
dramatiq.set_broker(broker)


@dramatiq.actor(progress=True)
def tick() -> None:
    """Reports the moment, again and again, and publishes it bare."""
    with redis.Redis.from_url(os.environ[URL]) as bare:
        time.sleep(1)  # for those who want to follow it
        for _ in range(EVENTS):
            current_job().event("tick", time.monotonic_ns())
            bare.publish(CHANNEL, str(time.monotonic_ns()))
            time.sleep(SPACING_SECONDS)
