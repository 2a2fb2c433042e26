"""What does it cost Redis to append an event, beside the least that a stream with a wake-up can cost?

CPU of the Redis process (from /proc) per event, through the script that reporters use (fencing, sequence, state, expiry, list,
wake-up), one event a call and twenty; beside XADD and PUBLISH of the same bytes, once for each event. Both are sent in pipelines of
100 calls, so that what a round trip costs is in neither. Nobody watches.

What would fool the reader:
- The state travels with each call, once for all its events, and its size is in the figure: here that of a running job.
- XADD trims (`MAXLEN ~ 1000`) in both; both streams are full when the measuring begins.
- /proc counts in ticks of 10 ms: each figure is over half a second of Redis' CPU or more.
- A reporter sends up to 20 of its events a call when it is in a hurry, and one when it is not: both figures are somebody's.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from statistics import median

from progress_stream.settings import load
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore

from .support import machine
from .support.attempt import Attempt, Words, load_scripts, send
from .support.load import TYPE
from .support.stage import private_server
from .support.table import figure, table

#: Of one measurement.
EVENTS = 40_000
HISTORY = 1_000
#: At most so many times the bare cost, by events a call.
GOALS = {1: 5.0, 20: 2.5}


def bare(attempt: Attempt, count: int) -> Iterator[Words]:
    """What is appended, without anything around it."""
    for _ in range(count):
        yield ("XADD", f"bare:{attempt.job}", "MAXLEN", "~", HISTORY, "*", "t", TYPE, "d", attempt.data)
        yield ("PUBLISH", f"bare:{attempt.job}", attempt.data)


def calls(attempt: Attempt, count: int, together: int) -> Iterator[Words]:
    """So many events, so many a call."""
    return (attempt.call(together) for _ in range(count // together))


@contextmanager
def measured(pid: int, into: list[float], count: int) -> Iterator[None]:
    before = machine.cpu_seconds(pid)
    yield
    into.append((machine.cpu_seconds(pid) - before) * 1e6 / count)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    seen: defaultdict[str, list[float]] = defaultdict(list)
    with private_server() as server:
        settings = load(redis_url=server.url(), history_events=HISTORY)
        store = SyncStore(sync_client(server.url(), connections=1), settings)
        attempt = Attempt(store)
        ways: dict[str, Callable[[], Iterator[Words]]] = {
            "bare": lambda: bare(attempt, EVENTS),
            "1 a call": lambda: calls(attempt, EVENTS, 1),
            "20 a call": lambda: calls(attempt, EVENTS, 20),
        }
        load_scripts(store)
        for way in ways.values():
            send(store, islice(way(), 2 * HISTORY))
        for _ in range(options.repeats):
            for name, way in ways.items():
                with measured(server.pid, seen[name], EVENTS):
                    send(store, way())
        store.close()
    table(
        ("way", "", "Redis CPU µs an event", "least", "most", "runs"),
        [
            (name, "", f"{median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}", len(values))
            for name, values in seen.items()
        ],
    )
    least = median(seen["bare"])
    for together, goal in GOALS.items():
        figure(f"append_{together}", median(seen[f"{together} a call"]), "µs/event", least, "bare", goal)


if __name__ == "__main__":
    main()
