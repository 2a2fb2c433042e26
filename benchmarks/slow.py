"""Do 200 watchers that never read hold up the other 800 of 1,000, and how much memory do they take?

One job, 25 events of 3 KB a second, followed by 800 watchers that read and 200 that never do; and by those 800 alone. Ten
times a second an event's time from its append to its arrival at one more watcher is taken (milliseconds); halfway and at
the end the server's resident memory. By then those who never read are owed about a megabyte each.

What would fool the reader:
- Those who never read have small receive buffers, so that it is our memory and not the kernel's that could grow.
- Readers, Redis and the writer share one core: with all on it the slowest arrival is often theirs, alike in both.
- A server that is not held up because it has cut the slow ones would look as good: it does so after WRITE_STALL_SECONDS,
  here 60 s.
"""

from __future__ import annotations

import argparse
import socket
import time
from contextlib import ExitStack
from statistics import median
from typing import Final

from progress_stream import events
from progress_stream.auth.verify import sign

from .connect import head
from .many import Probe, Writers, late
from .support.load import OWNER, SECRET
from .support.stage import Stage, private_redis, stage
from .support.table import absolute, figure, table

READERS: Final = 800
NEVER_READ: Final = 200
RATE: Final = 25
SECONDS: Final = 20.0
#: Bytes of each: those who never read are to be full soon, at a rate that leaves the readers' core air.
EVENT_BYTES: Final = 3_000
STEP_SECONDS: Final = 0.02
PROBE_EVERY: Final = 5
DATA_OF_AN_EVENT: Final = events.encode({"text": "x" * EVENT_BYTES})
#: Bytes: the least that a kernel takes.
RECEIVE_BUFFER: Final = 4_096
LATE_GOAL: Final = 1.5
#: MiB in the second half, for all of them: a page here and there.
GROWTH_GOAL: Final = 2.0


def silent(ground: Stage, job: str, stack: ExitStack) -> None:
    """One who asks and takes nothing."""
    one = stack.enter_context(socket.socket())
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    one.connect(("127.0.0.1", int(ground.url.rpartition(":")[2])))
    one.sendall(head(f"/jobs/{job}/events", sign(SECRET, OWNER, "jobs:read", 3_600)))


def one(ground: Stage, never_read: int) -> tuple[list[float], float]:
    """(milliseconds of each probe, MiB that the server grew by in the second half)."""
    writers = Writers(ground, 1, data=DATA_OF_AN_EVENT)
    (job,) = writers.ids
    with ExitStack() as stack:
        crowd = stack.enter_context(ground.crowd())
        crowd.open(READERS, ground.ids_at_start, f"/jobs/{job}/events")
        for _ in range(never_read):
            silent(ground, job, stack)
        probe = Probe(ground, writers, 0)
        sent = flood(writers, probe, SECONDS / 2)
        halfway = ground.resident_bytes()
        sent += flood(writers, probe, SECONDS / 2)
        grown = ground.resident_bytes() - halfway
        crowd.until(ground.ids_at_start + sent)
    return probe.milliseconds, grown / 2**20


def flood(writers: Writers, probe: Probe, seconds: float) -> int:
    """Events written, the probes among them."""
    began, sent, step, probes = time.monotonic(), 0, 0, len(probe.milliseconds)
    while (now := time.monotonic() - began) < seconds:
        due = int(now * RATE)
        writers.write(due - sent)
        sent = due
        step += 1
        if step % PROBE_EVERY == 0:
            probe.once()
        time.sleep(STEP_SECONDS)
    return sent + len(probe.milliseconds) - probes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    times: dict[int, list[float]] = {0: [], NEVER_READ: []}
    grown: dict[int, list[float]] = {0: [], NEVER_READ: []}
    with private_redis() as url:
        for _ in range(options.repeats):
            for never_read in times:
                with stage("hand-over", url) as ground:
                    milliseconds, growth = one(ground, never_read)
                    times[never_read] += milliseconds
                    grown[never_read].append(growth)
    table(
        ("never read", "", "p50 ms", "p99", "MiB more", "runs"),
        [
            (
                count, "", f"{median(times[count]):.2f}", f"{late(times[count]):.2f}", f"{median(grown[count]):.2f}",
                len(grown[count]),
            )
            for count in times
        ],
    )  # fmt: skip
    figure("slow_readers_p99", late(times[NEVER_READ]), "ms", late(times[0]), "without the slow", LATE_GOAL)
    absolute("slow_readers_memory", median(grown[NEVER_READ]), "MiB", GROWTH_GOAL)


if __name__ == "__main__":
    main()
