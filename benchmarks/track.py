"""What does `track()` cost an iteration, beside tqdm and beside nothing?

A loop with an empty body over a list, in one process: bare, with `track()` in a job that reports to a real Redis, and with
tqdm. Repeats are interleaved, the median counts. `track` may cost at most what tqdm costs (contract, "Python"); the goal is
half of it.

What would fool the reader:
- An empty body makes the overhead look large: a body that does anything takes microseconds, and hides both.
- tqdm writes to /dev/null. On a terminal it draws ten times a second, as it does here; the terminal's time is not in it.
- tqdm asks for the time every so many items and guesses how many; a loop of uneven items makes it guess worse than this
  one.
- `track` leaves the work to another thread, which wakes ten times a second and takes the interpreter's lock for it: that is
  in the figure, as both threads run here. With one item a second neither costs anything that can be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from statistics import median
from typing import Final, TextIO

from tqdm import tqdm  # type: ignore[import-untyped]
from tqdm.asyncio import tqdm as tqdm_async  # type: ignore[import-untyped]

from progress_stream import report, track
from progress_stream.settings import load

from .support import machine
from .support.stage import private_redis
from .support.table import figure, table

Loop = Callable[[list[int]], None]


def bare(items: list[int]) -> None:
    for _ in items:
        pass


def tracked(items: list[int]) -> None:
    for _ in track(items):
        pass


def by_tqdm(items: list[int]) -> None:
    with open(os.devnull, "w") as nowhere:
        for _ in tqdm(items, file=nowhere):
            pass


async def _each(items: list[int]) -> AsyncIterator[int]:
    for item in items:
        yield item


def bare_async(items: list[int]) -> None:
    async def run() -> None:
        async for _ in _each(items):
            pass

    asyncio.run(run())


def by_tqdm_async(items: list[int]) -> None:
    async def run(nowhere: TextIO) -> None:
        async for _ in tqdm_async(_each(items), total=len(items), file=nowhere):
            pass

    with open(os.devnull, "w") as nowhere:
        asyncio.run(run(nowhere))


def tracked_async(items: list[int]) -> None:
    async def run() -> None:
        async for _ in track(_each(items), total=len(items)):
            pass

    asyncio.run(run())


#: Of tqdm's overhead.
GOAL: Final = 0.5

LOOPS: dict[str, Loop] = {
    "bare": bare, "track": tracked, "tqdm": by_tqdm, "bare_async": bare_async, "track_async": tracked_async,
    "tqdm_async": by_tqdm_async,
}  # fmt: skip


def nanoseconds(loop: Loop, items: list[int]) -> float:
    began = time.perf_counter_ns()
    loop(items)
    return (time.perf_counter_ns() - began) / len(items)


def measure(repeats: int, items: list[int]) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {name: [] for name in LOOPS}
    with private_redis() as url:
        machine.pin(machine.SERVER_CORE)
        with report("bench", owner="bench", settings=load(redis_url=url)):
            for _ in range(repeats):
                for name, loop in LOOPS.items():
                    seen[name].append(nanoseconds(loop, items))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--items", type=int, default=2_000_000)
    options = parser.parse_args()
    seen = measure(options.repeats, list(range(options.items)))
    middle = {name: median(values) for name, values in seen.items()}
    overhead = {
        name: middle[name] - middle["bare_async" if name.endswith("_async") else "bare"]
        for name in LOOPS
        if not name.startswith("bare")
    }
    table(
        ("loop", "", "ns an item", "least", "most", "over bare"),
        [
            (
                name,
                "",
                f"{middle[name]:.1f}",
                f"{min(values):.1f}",
                f"{max(values):.1f}",
                f"{overhead.get(name, 0):.1f}",
            )
            for name, values in seen.items()
        ],
    )
    for name, yardstick in (("track", "tqdm"), ("track_async", "tqdm_async")):
        figure(name, overhead[name], "ns/iteration", overhead[yardstick], yardstick, GOAL)


if __name__ == "__main__":
    main()
