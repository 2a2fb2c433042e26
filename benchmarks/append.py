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
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from progress_stream import events, jobs
from progress_stream.settings import load
from progress_stream.store.calls import script
from progress_stream.store.commands import Started
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore

from .support import machine
from .support.load import DATA, OWNER, TYPE
from .support.stage import private_server
from .support.table import figure, table

#: Calls of one pipeline, and events of one measurement.
PIPELINE = 100
EVENTS = 40_000
HISTORY = 1_000
#: At most so many times the bare cost, by events a call.
GOALS = {1: 5.0, 20: 2.5}


class Attempt:
    """A running job, written to as its reporter would."""

    def __init__(self, store: SyncStore) -> None:
        self._store = store
        header = jobs.Header(str(uuid.uuid4()), "bench", owner=OWNER, created_at=int(time.time() * 1000))
        self.job = header.id
        queued = events.make(self.job, "queued", at=events.now_text())
        store.send(store.commands.create(header, queued, confirmed=True))
        begun = events.make(self.job, "started", at=events.now_text())
        started = store.send(store.commands.start(header, begun, "nonce", may_create=False))
        assert isinstance(started, Started)
        self.state = jobs.fold(jobs.new(header), {**begun, "attempt": 1})
        self.data = events.encode(events.make(self.job, TYPE, at=events.now_text(), data=DATA, attempt=1))
        self._sequence = 1

    def calls(self, count: int, together: int) -> Iterator[tuple[Any, ...]]:
        """So many events, so many a call, each as the words that are sent."""
        for _ in range(count // together):
            call = self._store.commands.append(
                self.job, 1, "nonce", self._sequence, [(TYPE, self.data)] * together, self.state
            )
            self._sequence += together
            yield ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)

    def bare(self, count: int) -> Iterator[tuple[Any, ...]]:
        for _ in range(count):
            yield ("XADD", f"bare:{self.job}", "MAXLEN", "~", HISTORY, "*", "t", TYPE, "d", self.data)
            yield ("PUBLISH", f"bare:{self.job}", self.data)


def sent(store: SyncStore, words: Iterator[tuple[Any, ...]]) -> None:
    """In pipelines; raises what Redis answered to any of them."""
    while True:
        pipeline = store.client.pipeline(transaction=False)
        for one in (word for word, _ in zip(words, range(PIPELINE), strict=False)):
            pipeline.execute_command(*one)  # type: ignore[no-untyped-call]
        if not len(pipeline):
            return
        pipeline.execute()


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
        ways: dict[str, Callable[[], Iterator[tuple[Any, ...]]]] = {
            "bare": lambda: attempt.bare(EVENTS),
            "1 a call": lambda: attempt.calls(EVENTS, 1),
            "20 a call": lambda: attempt.calls(EVENTS, 20),
        }
        store.client.script_load(script("append").source)
        for way in ways.values():
            sent(store, (word for word, _ in zip(way(), range(2 * HISTORY), strict=False)))
        for _ in range(options.repeats):
            for name, way in ways.items():
                with measured(server.pid, seen[name], EVENTS):
                    sent(store, way())
        store.close()
    table(
        ("way", "", "Redis CPU µs an event", "least", "most", "runs"),
        [
            (name, "", f"{median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}", len(values))
            for name, values in seen.items()
        ],
    )
    bare = median(seen["bare"])
    for together, goal in GOALS.items():
        figure(f"append_{together}", median(seen[f"{together} a call"]), "µs/event", bare, "bare", goal)


if __name__ == "__main__":
    main()
