"""What does reporting cost the worker's process, an event, over 100 jobs at a time?

CPU of the process itself (user and system, all threads) per event: 2,000 events a second of own types, round robin over 100 open
jobs, through the buffer and the flusher's thread to a real Redis; and 2,000 calls a second that move the jobs' bars, of which at
most ten a second and job leave the process. Beside them the same loop that calls nothing.

What would fool the reader:
- A job at work reports seldom and has a core of its own for it: here one thread does nothing but report, and shares the core with
  the flusher, Redis and the yardstick.
- The fewer events come together, the more calls are made for them: at 2,000 a second about ten leave in one round trip.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count, cycle
from statistics import median
from typing import Final

from progress_stream import report
from progress_stream.reporting.job import Job
from progress_stream.settings import load

from .many import at_rate
from .support.load import DATA, OWNER, TYPE
from .support.stage import private_redis
from .support.table import figure, table

JOBS: Final = 100
RATE: Final = 2_000
SECONDS: Final = 4


def seconds(jobs: list[Job], call: Callable[[Job, int], object]) -> float:
    """CPU of this process for a million calls."""
    turn, number = cycle(jobs), count(1)
    before = time.process_time()

    def write(many: int) -> None:
        for _ in range(many):
            call(next(turn), next(number))

    at_rate(RATE, RATE * SECONDS, write)
    time.sleep(0.5)  # what was said last leaves too
    return (time.process_time() - before) * 1e6 / (RATE * SECONDS)


CALLS: Final[dict[str, Callable[[Job, int], object]]] = {
    "nothing": lambda job, number: None,
    "event": lambda job, number: job.event(TYPE, DATA),
    "update": lambda job, number: job.update(done=number, total=RATE * SECONDS),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    found: defaultdict[str, list[float]] = defaultdict(list)
    with private_redis() as url:
        settings = load(redis_url=url)
        for _ in range(options.repeats):
            for name, call in CALLS.items():
                with ExitStack() as stack:
                    jobs = [
                        stack.enter_context(report("bench", owner=OWNER, settings=settings))
                        for _ in range(JOBS)
                    ]
                    found[name].append(seconds(jobs, call))
    costs = {name: median(values) for name, values in found.items()}
    table(
        ("call", "", "CPU µs a call", "runs"),
        [(name, "", f"{cost:.0f}", options.repeats) for name, cost in costs.items()],
    )
    for name in ("event", "update"):
        figure(f"report_{name}", costs[name], "µs/call", costs["nothing"], "the loop alone")


if __name__ == "__main__":
    main()
