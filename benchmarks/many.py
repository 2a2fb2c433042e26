"""What does an event cost that one watcher of 1,000 jobs gets, where nothing can be shared; and how late is it?

2,000 events a second over 1,000 jobs with a watcher each. CPU seconds of the server (from /proc) per million events: by the
hand-over, by plain ASGI `send`, and by nchan with its messages in Redis. Beside them, twenty times a second, an event of one
more job whose time from its append to its arrival is taken (milliseconds); and the same with nobody else about, a hundred times
a second.

What would fool the reader:
- Ours are appended by the reporters' script in pipelines, nchan's are posted in pipelines: what comes in together comes out so.
- The times include the sender's and the reader's Python, alike for all ways; all of that is one core, with Redis.
- nchan takes its messages by HTTP, which is in its figure.
- 10,000 a second (`--rate 10000`) is more than Redis, the sender and the reader do together on one slow core: what is reached is
  shown. The lower rate is the harder one for us, for at the higher one more is heard and written in one turn of the loop.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import count, cycle, islice
from statistics import median, quantiles
from typing import Final

from progress_stream.auth.verify import sign
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore

from .connect import head
from .support import nchan
from .support.attempt import Attempt, load_scripts, send
from .support.load import OWNER, SECRET
from .support.stage import MESSAGE, Stage, Way, private_redis, stage
from .support.table import figure, table

JOBS: Final = 1_000
RATE: Final = 2_000
SECONDS: Final = 4
#: Between two handfuls; and handfuls between two probes.
STEP_SECONDS: Final = 0.01
PROBE_EVERY: Final = 5
QUIET_PROBES: Final = 300
CPU_GOAL, LATE_GOAL, QUIET_GOAL = 0.75, 4.0, 2.0


class Writers:
    """So many jobs, and how their events are written, by whichever way."""

    def __init__(self, ground: Stage, jobs: int, data: bytes | None = None) -> None:
        """`data`: what each event carries; else what all benchmarks' events do."""
        self._ground = ground
        self._data = data
        self._store = SyncStore(sync_client(ground.settings.redis_url or "", connections=1), ground.settings)
        load_scripts(self._store)
        self._attempts = [Attempt(self._store) for _ in range(jobs)]
        self.ids = [attempt.job for attempt in self._attempts]
        self._turn = cycle(self._attempts)
        if ground.way == "nchan":
            ground.publish([(job, MESSAGE) for job in self.ids])

    def write(self, events: int) -> None:
        some = islice(self._turn, events)
        if self._ground.way == "nchan":
            self._ground.publish([(attempt.job, MESSAGE) for attempt in some])
        else:
            send(self._store, (attempt.call(data=self._data) for attempt in some))

    def write_one(self, number: int, data: bytes) -> None:
        attempt = self._attempts[number]
        if self._ground.way == "nchan":
            self._ground.publish([(attempt.job, data)])
        else:
            send(self._store, [attempt.call(data=data)])


class Probe:
    """One more watcher, which is looked at closely."""

    def __init__(self, ground: Stage, writers: Writers, number: int) -> None:
        self._writers = writers
        self._number = number
        self._socket = socket.create_connection(("127.0.0.1", int(ground.url.rpartition(":")[2])))
        self._socket.settimeout(10)
        self._socket.sendall(
            head(f"/jobs/{writers.ids[number]}/events", sign(SECRET, OWNER, "jobs:read", 3_600))
        )
        time.sleep(0.5)
        self._socket.recv(65_536)
        self.milliseconds: list[float] = []

    def once(self) -> None:
        mark = b'{"probe":%d}' % time.monotonic_ns()
        began = time.monotonic()
        self._writers.write_one(self._number, mark)
        seen = b""
        while mark not in seen:
            data = self._socket.recv(65_536)
            if not data:
                raise RuntimeError("the probe's stream ended")
            seen = seen[-100:] + data
        self.milliseconds.append((time.monotonic() - began) * 1000)


def loaded(ground: Stage, rate: int) -> tuple[float, list[float], float]:
    """(CPU seconds per million events, milliseconds of each probe, events a second that were reached)."""
    events = rate * SECONDS
    writers = Writers(ground, JOBS)
    with ground.crowd() as crowd:
        crowd.open(JOBS, ground.ids_at_start, *(f"/jobs/{job}/events" for job in writers.ids))
        own = Writers(ground, 1)
        probe = Probe(ground, own, 0)
        cpu, began = ground.cpu_seconds(), time.monotonic()
        at_rate(rate, events, writers.write, beside=probe.once)
        crowd.until(ground.ids_at_start + events // JOBS)
        reached = events / (time.monotonic() - began)
        return (ground.cpu_seconds() - cpu) * 1e6 / events, probe.milliseconds, reached


def at_rate(
    rate: int, events: int, write: Callable[[int], object], *, beside: Callable[[], object] | None = None
) -> None:
    """So many a second, in handfuls; and something else after each few of them."""
    began, sent = time.monotonic(), 0
    for step in count(1):
        due = min(events, int((time.monotonic() - began) * rate))
        write(due - sent)
        sent = due
        if beside is not None and step % PROBE_EVERY == 0:
            beside()
        if sent == events:
            return
        time.sleep(STEP_SECONDS)


def quiet(ground: Stage) -> list[float]:
    probe = Probe(ground, Writers(ground, 1), 0)
    for _ in range(QUIET_PROBES):
        probe.once()
        time.sleep(0.01)
    return probe.milliseconds


def late(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rate", type=int, default=RATE, help="events a second over all jobs")
    options = parser.parse_args()
    ways: list[Way] = ["hand-over", "send"]
    if nchan.module() is None:
        print(nchan.MISSING)
    else:
        ways.append("nchan")
    reached: defaultdict[Way, list[float]] = defaultdict(list)
    cpus: defaultdict[Way, list[float]] = defaultdict(list)
    times: defaultdict[tuple[Way, str], list[float]] = defaultdict(list)
    with private_redis() as url:
        for _ in range(options.repeats):
            for way in ways:
                with stage(way, url) as ground:
                    cpu, found, rate = loaded(ground, options.rate)
                    reached[way].append(rate)
                    cpus[way].append(cpu)
                    times[way, "loaded"] += found
                    times[way, "quiet"] += quiet(ground)
    table(
        ("way", "", "CPU s a million", "events/s", "p50 ms loaded", "p99", "p50 ms quiet", "p99", "runs"),
        [
            (
                way, "", f"{median(cpus[way]):.1f}", f"{median(reached[way]):,.0f}",
                *(f"{of(times[way, when]):.2f}" for when in ("loaded", "quiet") for of in (median, late)), len(cpus[way]),
            )
            for way in ways
        ],
    )  # fmt: skip
    figure("many_send", median(cpus["send"]), "CPU-s/million", median(cpus["hand-over"]), "hand-over")
    if "nchan" in cpus:
        figure(
            "many_jobs", median(cpus["hand-over"]), "CPU-s/million", median(cpus["nchan"]), "nchan", CPU_GOAL
        )
        _late("many_p99", late, times["hand-over", "loaded"], times["nchan", "loaded"], LATE_GOAL)
        _late("quiet_p50", median, times["hand-over", "quiet"], times["nchan", "quiet"], QUIET_GOAL)


def _late(
    name: str, of: Callable[[list[float]], float], ours: list[float], theirs: list[float], goal: float
) -> None:
    figure(name, of(ours), "ms", of(theirs), "nchan", goal)


if __name__ == "__main__":
    main()
