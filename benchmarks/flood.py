"""What does it cost the server to bring a flood of one job's events to 1,000 watchers?

CPU seconds of the server process (user and system, read from /proc) per million deliveries: by the hand-over, by plain ASGI
`send`, by the way that tutorials show (an XREAD BLOCK and a generator for each watcher), and by a bare asyncio server that
only writes the same bytes; and by nchan in nginx, where that is installed. Events of about 230 bytes come from the real
reporter at a steady rate.

What would fool the reader:
- The rate decides. At 1,000 events a second 20 of them share one write; at 40 a second each is a write of its own, and
  nearly all of the cost is the kernel's. Both are shown; figures of different rates do not compare.
- The kernel's work for loopback sockets (copying, waking the reader) counts for the server here; over a network card part
  of it would fall elsewhere.
- The tutorials' way falls behind the flood, and so reads many events at once: its cost an event is lower than it would be
  for a server that keeps up. It gets fewer events, for time's sake; it is measured until the last one has arrived.
- Redis, the reporter and the watchers are not in the figures. The tutorials' way makes Redis answer each watcher.
- nchan takes its messages by HTTP, pipelined, and that is in its figure; it writes each event by itself, whatever the rate.
- The bare server is no product: no positions, no Redis, no one who may be slow. It is the floor that the kernel sets.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from statistics import median
from time import monotonic

from .support import nchan
from .support.stage import Stage, Way, private_redis, stage
from .support.table import figure, table

WATCHERS = 1_000


class Load:
    """So many events a second, and how many of them."""

    def __init__(self, name: str, rate: int, seconds: float) -> None:
        self.name = name
        self.rate = rate
        self.count = int(rate * seconds)


FLOOD = Load("flood", 1_000, 1.5)
TRICKLE = Load("trickle", 40, 1.5)
#: The tutorials' way needs a minute for what the others do in a second.
SHORT_FLOOD = Load("flood", 1_000, 0.2)
SHORT_TRICKLE = Load("trickle", 40, 0.5)
YARDSTICKS: tuple[tuple[Way, Way], ...] = (
    ("hand-over", "bare"),
    ("send", "hand-over"),
)
#: Of a flood, in which we gather and they do not.
GOALS: dict[Way, float] = {"nchan": 1 / 20, "tutorial": 1 / 60}


def one(ground: Stage, load: Load) -> tuple[float, float]:
    """(CPU seconds, wall seconds) per million deliveries."""
    with ground.crowd() as crowd, ground.job() as job:
        ids = ground.ids_at_start
        crowd.open(WATCHERS, ids, f"/jobs/{job.id}/events")
        cpu, wall = ground.cpu_seconds(), monotonic()
        ground.flood(job, load.count, load.rate)
        crowd.until(ids + load.count)
        per = 1e6 / (WATCHERS * load.count)
        return (ground.cpu_seconds() - cpu) * per, (monotonic() - wall) * per


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    ways: list[Way] = ["hand-over", "send", "bare"]
    if nchan.module() is None:
        print(nchan.MISSING)
    else:
        ways.append("nchan")
    seen: defaultdict[tuple[str, Way], list[float]] = defaultdict(list)
    with private_redis() as url:
        for _ in range(options.repeats):  # interleaved: what else the machine does falls on all
            for way in ways:
                with stage(way, url) as ground:
                    for load in (FLOOD, TRICKLE):
                        seen[load.name, way].append(one(ground, load)[0])
        with stage("tutorial", url) as ground:
            for load in (SHORT_FLOOD, SHORT_TRICKLE):
                seen[load.name, "tutorial"].append(one(ground, load)[0])
    rows = [
        (name, way, f"{median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}", len(values))
        for (name, way), values in sorted(seen.items(), key=lambda item: (item[0][0], median(item[1])))
    ]
    table(("load", "way", "CPU s a million", "least", "most", "runs"), rows)
    for name in ("flood", "trickle"):
        for way, yardstick in YARDSTICKS:
            value, other = median(seen[name, way]), median(seen[name, yardstick])
            figure(f"{name}_{way}", value, "CPU-s/million", other, yardstick)
        for other_way, goal in GOALS.items():
            if seen[name, other_way]:
                figure(
                    f"{name}_vs_{other_way}", median(seen[name, "hand-over"]), "CPU-s/million", median(seen[name, other_way]),
                    other_way, goal if name == "flood" else None,
                )  # fmt: skip


if __name__ == "__main__":
    main()
