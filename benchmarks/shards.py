"""What does it cost three Redis primaries to append what one bore, and is it spread evenly?

CPU of all Redis processes (from /proc) per event, over 300 jobs, one event a call, in pipelines: at one server, and at a Cluster of
three primaries without replicas; and the busiest primary's share of it. Beside each other, the same writer.

What would fool the reader:
- All of them share one core here: what is shown is the sum of the work and how it is spread, and not how much faster three are.
- A job's partition decides where it lies: of few jobs one primary may get more than its share.
- In a Cluster each wake-up goes out as `SPUBLISH`, which stays in its shard; with PUBLISH each node would hear all of them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from progress_stream.settings import load
from progress_stream.store.calls import script
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore
from tests.support.cluster import PRIMARIES, clustered
from tests.support.redis import RedisServer

from .support import machine
from .support.attempt import Attempt, send
from .support.table import absolute, figure, table

JOBS: Final = 300
EVENTS: Final = 12_000


class Cost(NamedTuple):
    """Of an event: at all servers together; and what part of it the busiest one bears."""

    microseconds: float
    share: float


def cost(url: str, servers: Sequence[RedisServer], folder: Path) -> Cost:
    settings = load(redis_url=url, broker_url="redis://127.0.0.1:1/0", data=folder)
    store = SyncStore(sync_client(url, connections=1), settings)
    # A pipeline cannot fall back to EVAL for one of its lines.
    for server in servers:
        with server.client() as client:
            client.script_load(script("append").source)
    attempts = [Attempt(store) for _ in range(JOBS)]
    before = [machine.cpu_seconds(server.pid) for server in servers]
    send(store, (attempt.call() for attempt in islice(cycle(attempts), EVENTS)))
    spent = [machine.cpu_seconds(server.pid) - first for server, first in zip(servers, before, strict=True)]
    store.client.close()
    return Cost(sum(spent) * 1e6 / EVENTS, max(spent) / sum(spent))


def one_server(folder: Path) -> Cost:
    with RedisServer(folder / "one", persistent=False) as server:
        return cost(server.url(0), [server], folder)


def cluster(folder: Path) -> Cost:
    with clustered(folder, replicas=False) as nodes:
        return cost(nodes.url, nodes.servers, folder)


WAYS: Final = {1: one_server, PRIMARIES: cluster}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    machine.pin(machine.OTHER_CORE)
    found: dict[int, list[Cost]] = {count: [] for count in WAYS}
    for _ in range(options.repeats):
        for count, measure in WAYS.items():
            with tempfile.TemporaryDirectory(prefix="progress-stream-") as folder:
                found[count].append(measure(Path(folder)))
    costs = {count: Cost(*map(median, zip(*some, strict=True))) for count, some in found.items()}
    table(
        ("primaries", "", "Redis CPU µs an event", "busiest one's part", "runs"),
        [
            (count, "", f"{one.microseconds:.1f}", f"{one.share:.0%}", options.repeats)
            for count, one in costs.items()
        ],
    )
    figure(
        f"shards_{PRIMARIES}_append",
        costs[PRIMARIES].microseconds,
        "µs/event",
        costs[1].microseconds,
        "one server",
    )
    absolute(f"shards_{PRIMARIES}_busiest", costs[PRIMARIES].share * PRIMARIES, "of-a-third")


if __name__ == "__main__":
    main()
