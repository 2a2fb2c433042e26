"""What does one more idle watcher cost in the server's memory, at 2,000 of them and at 10,000?

Resident memory of the server process (from /proc), as the slope between 500 and 2,500 open streams: by the hand-over, by
plain ASGI `send`, and by the way that tutorials show. All of one job; by the hand-over also each of a job of its own, and the
slope between 500 and 10,500.

What would fool the reader:
- Memory from opening (requests, tasks, parsers) is given back to the allocator and not to the system; without the first
  500 streams it would be counted as the watchers', and with many opened at once there is more of it. 50 are opened at a time.
- Kernel memory of sockets is in no process' figure; it is the same for all ways, some kilobytes each.
- The tutorials' way also keeps a connection to Redis for each watcher, whose other end costs Redis memory that is not here.
- Pages, not bytes, are resident: one run differs from the next by a few per cent. Idle means a second after
  the last came.
"""

from __future__ import annotations

import argparse
import time
import uuid
from statistics import median

from progress_stream import events, jobs
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore

from .support.load import OWNER
from .support.stage import Stage, Way, private_redis, stage
from .support.table import absolute, figure, table

FIRST = 500
MORE = 2_000
TEN_THOUSAND = 10_000
#: KiB for each of them.
GOAL = 5.0
SETTLE_SECONDS = 1.0


def one(ground: Stage, jobs_each: int, more: int = MORE) -> float:
    """KiB for each of the later watchers; they follow so many jobs in all."""
    paths = [f"/jobs/{job}/events" for job in idle_jobs(ground, jobs_each)]
    ids = 1 + (ground.way != "tutorial")  # the position, and `queued`
    with ground.crowd() as crowd:
        crowd.open(FIRST, ids, *paths[:FIRST])
        time.sleep(SETTLE_SECONDS)
        before = ground.resident_bytes()
        crowd.open(more, ids, *paths[-more:])
        time.sleep(SETTLE_SECONDS)
        return (ground.resident_bytes() - before) / more / 1024


def idle_jobs(ground: Stage, count: int) -> list[str]:
    store = SyncStore(sync_client(ground.settings.redis_url or "", connections=1), ground.settings)
    ids = [str(uuid.uuid4()) for _ in range(count)]
    for id in ids:
        header = jobs.Header(id, "bench", owner=OWNER, created_at=int(time.time() * 1000))
        queued = events.make(id, "queued", at=events.now_text())
        store.send(store.commands.create(header, queued, confirmed=True))
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    asked: dict[str, tuple[Way, int, int]] = {
        "hand-over": ("hand-over", 1, MORE),
        "hand-over_10_000": ("hand-over", 1, TEN_THOUSAND),
        "hand-over_own_jobs": ("hand-over", FIRST + MORE, MORE),
        "send": ("send", 1, MORE),
        "tutorial": ("tutorial", 1, MORE),
    }
    seen: dict[str, list[float]] = {name: [] for name in asked}
    with private_redis() as url:
        for _ in range(options.repeats):
            for name, (way, count, more) in asked.items():
                with stage(way, url) as ground:
                    seen[name].append(one(ground, count, more))
    table(
        ("way", "", "KiB a watcher", "least", "most", "runs"),
        [
            (name, "", f"{median(values):.1f}", f"{min(values):.1f}", f"{max(values):.1f}", len(values))
            for name, values in seen.items()
        ],
    )
    middle = {name: median(values) for name, values in seen.items()}
    absolute("idle_10_000", middle["hand-over_10_000"], "KiB/watcher", GOAL)
    figure("idle_hand-over", middle["hand-over"], "KiB/watcher", middle["send"], "send")
    figure(
        "idle_hand-over_own_jobs",
        middle["hand-over_own_jobs"],
        "KiB/watcher",
        middle["hand-over"],
        "hand-over",
    )
    figure("idle_send", middle["send"], "KiB/watcher", middle["hand-over"], "hand-over")
    figure("idle_tutorial", middle["tutorial"], "KiB/watcher", middle["hand-over"], "hand-over")


if __name__ == "__main__":
    main()
