"""What do a second and a fourth web process cost, where the same 1,000 watchers are spread over them?

CPU of all web processes together and of Redis (from /proc), by two loads: all watchers follow one job (1,000 events a second, so
that each process reads each event once and hands it to its own watchers), and each follows a job of its own (2,000 events a second
over all, each of which one process reads). By one process, by two and by four.

What would fool the reader:
- All web processes share one core here: what is shown is what each adds to the sum, and not how much faster many are. With a core
  for each, a process has that core for its share.
- The first load is the dear one for Redis: it sends each event to each process that has a watcher of the job. A balancer that
  brings a job's watchers to few processes would save that, and is not needed for anything else.
- Resident memory is of all processes; what they share of the interpreter is counted for each.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Final, NamedTuple

from . import many
from .support import machine
from .support.crowd import Crowd
from .support.stage import Stage, private_server, stage
from .support.table import absolute, figure, table

COUNTS: Final = (1, 2, 4)
WATCHERS: Final = 1_000
SECONDS: Final = 4
#: Events a second: of one job, and over all jobs.
SHARED_RATE, OWN_RATE = 1_000, 2_000


class Cost(NamedTuple):
    """Of one load by so many processes."""

    #: Of all web processes, for a million deliveries.
    web_seconds: float
    #: For an event.
    redis_microseconds: float
    mebibytes: float


class Group:
    """So many web processes, with an equal share of the watchers each."""

    def __init__(self, grounds: Sequence[Stage], crowds: Sequence[Crowd], redis_pid: int) -> None:
        self.grounds = grounds
        self._crowds = crowds
        self._redis_pid = redis_pid

    def open(self, paths: Sequence[str]) -> None:
        """A path for each watcher, or one for all."""
        share = WATCHERS // len(self._crowds)
        for number, (ground, crowd) in enumerate(zip(self.grounds, self._crowds, strict=True)):
            own = paths if len(paths) == 1 else paths[number * share : (number + 1) * share]
            crowd.open(share, ground.ids_at_start, *own)

    def until(self, events: int) -> None:
        for ground, crowd in zip(self.grounds, self._crowds, strict=True):
            crowd.until(ground.ids_at_start + events)

    def cpu(self) -> tuple[float, float]:
        """Seconds so far: of all web processes, and of Redis."""
        return sum(ground.cpu_seconds() for ground in self.grounds), machine.cpu_seconds(self._redis_pid)

    def mebibytes(self) -> float:
        return sum(ground.resident_bytes() for ground in self.grounds) / 2**20


@contextmanager
def group(count: int, url: str, redis_pid: int) -> Iterator[Group]:
    with ExitStack() as stack:
        grounds = [stack.enter_context(stage("hand-over", url)) for _ in range(count)]
        crowds = [stack.enter_context(ground.crowd()) for ground in grounds]
        yield Group(grounds, crowds, redis_pid)


def shared(made: Group) -> Cost:
    """One job, followed by everybody."""
    ground, events = made.grounds[0], SHARED_RATE * SECONDS
    with ground.job() as job:
        made.open([f"/jobs/{job.id}/events"])
        before = made.cpu()
        ground.flood(job, events, SHARED_RATE)
        made.until(events)
        return _cost(made, before, events, events * WATCHERS)


def own(made: Group) -> Cost:
    """A job for each watcher."""
    events = OWN_RATE * SECONDS
    writers = many.Writers(made.grounds[0], WATCHERS)
    made.open([f"/jobs/{job}/events" for job in writers.ids])
    before = made.cpu()
    many.at_rate(OWN_RATE, events, writers.write)
    made.until(events // WATCHERS)
    return _cost(made, before, events, events)


def _cost(made: Group, before: tuple[float, float], events: int, deliveries: int) -> Cost:
    web, redis = (after - first for after, first in zip(made.cpu(), before, strict=True))
    return Cost(web * 1e6 / deliveries, redis * 1e6 / events, made.mebibytes())


LOADS: Final = {"shared": shared, "own": own}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    found: defaultdict[tuple[str, int], list[Cost]] = defaultdict(list)
    with private_server() as server:
        for _ in range(options.repeats):
            for count in COUNTS:
                for load, measure in LOADS.items():
                    with group(count, server.url(), server.pid) as made:
                        found[load, count].append(measure(made))
    costs = {key: Cost(*map(median, zip(*runs, strict=True))) for key, runs in found.items()}
    table(
        ("load", "processes", "CPU s a million", "Redis CPU µs an event", "MiB", "runs"),
        [
            (
                load,
                count,
                f"{cost.web_seconds:.2f}",
                f"{cost.redis_microseconds:.1f}",
                f"{cost.mebibytes:.0f}",
                options.repeats,
            )
            for (load, count), cost in sorted(costs.items(), reverse=True)
        ],
    )
    absolute("processes_memory", costs["own", 1].mebibytes, "MiB")
    for load in LOADS:
        one = costs[load, 1]
        for count in COUNTS[1:]:
            cost = costs[load, count]
            name = f"processes_{load}_{count}"
            figure(name, cost.web_seconds, "CPU-s/million", one.web_seconds, "one process")
            figure(
                f"{name}_redis", cost.redis_microseconds, "µs/event", one.redis_microseconds, "one process"
            )


if __name__ == "__main__":
    main()
