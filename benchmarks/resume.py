"""How long until 2,000 watchers that all come back at once have what they missed: 1,000 events each, of 50 jobs?

Wall time from the first connection to the last event at the last watcher, and the server's CPU for each event that was sent again:
ours, with the whole history asked for by `Last-Event-ID`; the tutorials' way with a tenth of the watchers, by CPU alone; nchan with
its messages in Redis, where it is installed. Ours also says how often Redis was asked for history.

What would fool the reader:
- The watchers are one Python process on the other core, beside Redis: where the server is quick, they are what is waited for.
- nchan keeps messages in its own memory once it has them, which a first round sees to. Ours forgets a job that nobody watches, and
  reads it again.
- All connect within the time that the kernel takes for 2,000 handshakes; a storm from the net is spread wider.
"""

from __future__ import annotations

import argparse
import re
import urllib.request
from collections import defaultdict
from contextlib import ExitStack
from statistics import median
from time import monotonic
from typing import Final

from .support import nchan
from .support.load import DATA, TYPE
from .support.stage import MESSAGE, Stage, Way, private_redis, stage
from .support.table import absolute, figure, table

WATCHERS: Final = 2_000
JOBS: Final = 50
EVENTS: Final = 1_000
#: Of the tutorials' way: it would need minutes.
FEW: Final = 200
GOAL: Final = 0.15


def one(ground: Stage) -> tuple[float, float, int]:
    """(wall seconds, CPU seconds per million events, history reads of Redis)."""
    watchers = FEW if ground.way == "tutorial" else WATCHERS
    with ExitStack() as stack:
        jobs = [stack.enter_context(ground.job()) for _ in range(JOBS)]
        for job in jobs:
            if ground.way == "nchan":
                for _ in range(EVENTS // 100):
                    ground.publish([(job.id, MESSAGE)] * 100)
            else:
                for _ in range(EVENTS):
                    job.event(TYPE, DATA)
        ids = ground.ids_at_start + EVENTS
        paths = [f"/jobs/{job.id}/events" for job in jobs]
        with ground.crowd() as warm:
            warm.open(JOBS, ids, *paths)
        with ground.crowd() as crowd:
            reads, cpu, wall = _reads(ground), ground.cpu_seconds(), monotonic()
            crowd.storm(watchers, ids, *paths)
            wall = monotonic() - wall
            cpu = ground.cpu_seconds() - cpu
            return wall, cpu * 1e6 / (watchers * EVENTS), _reads(ground) - reads


def _reads(ground: Stage) -> int:
    """History reads so far, as the server counts them."""
    if ground.way != "hand-over":
        return 0
    with urllib.request.urlopen(f"{ground.url}/metrics") as response:
        found = re.search(
            r"^progress_stream_history_reads_total (\S+)$", response.read().decode(), re.MULTILINE
        )
    if found is None:
        raise RuntimeError("the server does not count its history reads")
    return int(float(found[1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    ways: list[Way] = ["hand-over"]
    if nchan.module() is None:
        print(nchan.MISSING)
    else:
        ways.append("nchan")
    walls: defaultdict[str, list[float]] = defaultdict(list)
    cpus: defaultdict[str, list[float]] = defaultdict(list)
    reads = []
    with private_redis() as url:
        for number in range(options.repeats):
            for way in (*ways, *(["tutorial"] if number == 0 else [])):
                with stage(way, url) as ground:  # type: ignore[arg-type]
                    wall, cpu, asked = one(ground)
                    walls[way].append(wall)
                    cpus[way].append(cpu)
                    if way == "hand-over":
                        reads.append(asked / JOBS)
    table(
        ("way", "", "seconds", "CPU s a million", "runs"),
        [
            (way, "", f"{median(walls[way]):.2f}", f"{median(cpus[way]):.2f}", len(walls[way]))
            for way in walls
        ],
    )
    if "nchan" in walls:
        figure("resume_storm", median(walls["hand-over"]), "s", median(walls["nchan"]), "nchan", GOAL)
        figure("resume_storm_cpu", median(cpus["hand-over"]), "CPU-s/million", median(cpus["nchan"]), "nchan")
    figure(
        "resume_tutorial", median(cpus["hand-over"]), "CPU-s/million", median(cpus["tutorial"]), "tutorial"
    )
    absolute("resume_history_reads", median(reads), "reads/job", 1)


if __name__ == "__main__":
    main()
