"""Actors for workers that are processes of their own: `python -m dramatiq tests.worker.actors`. Configured by the environment."""

import logging
import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from progress_stream import ProgressMiddleware, current_job

#: A dead worker's messages come back after a second instead of a minute or ten.
broker = RedisBroker(
    url=os.environ["PROGRESS_STREAM_BROKER_URL"], heartbeat_timeout=1_500, maintenance_chance=1_000_000
)
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
