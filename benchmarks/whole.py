"""How long is an event's whole way, from the actor's call to the parsed event at a client in another process?

A Dramatiq worker runs an actor that reports an event every 10 ms and, right after it, publishes the same moment to a bare Redis
channel. This process follows the job with `progress_stream.client.watch` and listens to the channel; each way is the time from
the call to the parsed event (milliseconds, one clock). The bare way has no history, no ids, no proof of who asks: it is the
floor.

What would fool the reader:
- Worker, Redis and this process share one core, the server has the other: with a core for each both ways are shorter.
- The reporter sends what is not urgent in handfuls; an event of an own type leaves at once where nothing was sent a moment
  before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from statistics import median
from typing import Final

import redis.asyncio

from progress_stream.auth.verify import sign
from progress_stream.client.watch import watch

from .many import late
from .support.load import OWNER, SECRET
from .support.moments import CHANNEL, EVENTS, URL
from .support.stage import Stage, private_redis, stage
from .support.table import figure, table

GOAL: Final = 4.0


async def follow(ground: Stage, job: str) -> list[float]:
    found = []
    async for event in watch(ground.url, job, token=sign(SECRET, OWNER, "jobs:read", 3_600)):
        if event.type == "tick":
            found.append((time.monotonic_ns() - event.data["data"]) / 1e6)
    return found


async def listen(url: str) -> list[float]:
    found: list[float] = []
    async with redis.asyncio.Redis.from_url(url) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        async for message in pubsub.listen():
            if message["type"] == "message":
                found.append((time.monotonic_ns() - int(message["data"])) / 1e6)
                if len(found) == EVENTS:
                    break
    return found


def send() -> str:
    """The job's id."""
    from .support.ticking import tick

    return tick.send_with_options(owner=OWNER).message_id


async def both(ground: Stage, url: str) -> tuple[list[float], list[float]]:
    bare = asyncio.create_task(listen(url))
    await asyncio.sleep(0.3)
    job = await asyncio.to_thread(send)
    ours, theirs = await asyncio.gather(follow(ground, job), bare)
    return ours, theirs


def one(ground: Stage, url: str) -> tuple[list[float], list[float]]:
    """Milliseconds of each event, our way and the bare one."""
    os.environ[URL] = url
    words = [
        sys.executable,
        "-m",
        "dramatiq",
        "benchmarks.support.ticking",
        "--processes",
        "1",
        "--threads",
        "1",
    ]
    worker = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return asyncio.run(asyncio.wait_for(both(ground, url), 60))
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    ours: list[float] = []
    theirs: list[float] = []
    with private_redis() as url:
        for _ in range(options.repeats):
            with stage("hand-over", url) as ground:
                some, bare = one(ground, url)
                ours += some
                theirs += bare
    table(
        ("way", "", "p50 ms", "p99", "events"),
        [
            (name, "", f"{median(v):.2f}", f"{late(v):.2f}", len(v))
            for name, v in (("whole", ours), ("bare", theirs))
        ],
    )
    figure("whole_way_p50", median(ours), "ms", median(theirs), "bare PUBLISH", GOAL)
    figure("whole_way_p99", late(ours), "ms", late(theirs), "bare PUBLISH", GOAL)


if __name__ == "__main__":
    main()
