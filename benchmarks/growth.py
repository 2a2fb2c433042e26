"""How do the costs grow with the work: each figure at three sizes, with its exponent?

The flood by its watchers (10, 100, 1,000: CPU of the server), idle streams by their number (100, 1,000, 10,000: its
memory), a storm of resumes by its watchers (20, 200, 2,000: its CPU), an append by the events of a call (1, 10, 100: CPU of
Redis), one bar by its parts is `spread`'s, pages of a list `listing`'s. An exponent of 1 is a cost that grows as its work
does, below 1 the larger is cheaper by the piece; 1.1 is what a noisy machine is given.

What would fool the reader:
- At the smallest size a fixed cost (a beat of the loop, a read of history) is most of what is measured, and lowers the
  exponent.
- Between two sizes only the ends are joined: the middle one is shown so that a bend would be seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from progress_stream.settings import load
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore

from .append import calls
from .idle import idle_jobs
from .support import machine
from .support.attempt import Attempt, load_scripts, send
from .support.load import DATA, TYPE
from .support.stage import Stage, private_redis, private_server, stage
from .support.table import absolute, table

GOAL: Final = 1.1
FLOOD_EVENTS: Final = 1_500
FLOOD_RATE: Final = 500
STORM_EVENTS: Final = 200
APPEND_EVENTS: Final = 40_000
SETTLE_SECONDS: Final = 1.0


def flood(ground: Stage, watchers: int) -> float:
    """CPU seconds of all deliveries."""
    with ground.crowd() as crowd, ground.job() as job:
        crowd.open(watchers, ground.ids_at_start, f"/jobs/{job.id}/events")
        before = ground.cpu_seconds()
        ground.flood(job, FLOOD_EVENTS, FLOOD_RATE)
        crowd.until(ground.ids_at_start + FLOOD_EVENTS)
        return ground.cpu_seconds() - before


def storm(ground: Stage, watchers: int) -> float:
    """CPU seconds until all have what they missed."""
    with ground.job() as job:
        for _ in range(STORM_EVENTS):
            job.event(TYPE, DATA)
        path, ids = f"/jobs/{job.id}/events", ground.ids_at_start + STORM_EVENTS
        with ground.crowd() as warm:
            warm.open(1, ids, path)
        with ground.crowd() as crowd:
            before = ground.cpu_seconds()
            crowd.storm(watchers, ids, path)
            return ground.cpu_seconds() - before


def idle(ground: Stage, watchers: int) -> float:
    """KiB resident more than before them."""
    (job,) = idle_jobs(ground, 1)
    path = f"/jobs/{job}/events"
    with ground.crowd() as crowd:
        crowd.open(100, 2, path)
        time.sleep(SETTLE_SECONDS)
        before = ground.resident_bytes()
        crowd.open(watchers, 2, path)
        time.sleep(SETTLE_SECONDS)
        return max(ground.resident_bytes() - before, 4_096) / 1024


def append(together: int) -> float:
    """Redis' CPU milliseconds of so many calls, each with so many events."""
    with private_server() as server:
        store = SyncStore(sync_client(server.url(), connections=1), load(redis_url=server.url()))
        load_scripts(store)
        attempt = Attempt(store)
        many = max(APPEND_EVENTS // 10 // together, 400)
        before = machine.cpu_seconds(server.pid)
        send(store, calls(attempt, many * together, together))
        cost = (machine.cpu_seconds(server.pid) - before) * 1000 / many
        store.close()
        return cost


def measured(url: str, what: Callable[[Stage, int], float], sizes: tuple[int, ...]) -> list[float]:
    values = []
    for size in sizes:
        with stage("hand-over", url) as ground:
            values.append(what(ground, size))
    return values


def exponent(sizes: tuple[int, ...], values: list[float]) -> float:
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])


def main() -> None:
    found: list[tuple[str, str, tuple[int, ...], list[float]]] = []
    with private_redis() as url:
        for name, unit, what, sizes in (
            ("flood", "CPU s", flood, (10, 100, 1_000)),
            ("storm", "CPU s", storm, (20, 200, 2_000)),
            ("idle", "KiB", idle, (100, 1_000, 10_000)),
        ):
            found.append((name, unit, sizes, measured(url, what, sizes)))
    sizes = (1, 10, 100)
    found.append(("append", "CPU ms", sizes, [append(size) for size in sizes]))
    table(
        ("cost", "unit", "sizes", "least", "middle", "most", "exponent"),
        [
            (
                name, unit, " ".join(f"{size:,}" for size in sizes), *(f"{value:.3g}" for value in values),
                f"{exponent(sizes, values):.2f}",
            )
            for name, unit, sizes, values in found
        ],
    )  # fmt: skip
    for name, _, sizes, values in found:
        absolute(f"growth_{name}", exponent(sizes, values), "exponent", GOAL)


if __name__ == "__main__":
    main()
