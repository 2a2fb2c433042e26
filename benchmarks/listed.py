"""What does an open page of the list cost the server, beside one that asks again every two seconds; and how late is it?

100 pages of one owner with 20 running jobs, each of which moves twice a second. CPU milliseconds of the server for each page
and second: by the list's stream, and by `GET /jobs?limit=20` on kept connections. Beside the streams, twice a second, a
change's time until one more stream has it (milliseconds).

What would fool the reader:
- Forty changes a second are a busy owner's. A list that rests costs its stream a heartbeat, and the page that asks the same as
  before.
- A page that asks shows a change after a second in the middle. A job's frames in a list are 0.3 s apart by design: the probe's job
  moves more rarely.
- Asking with `If-None-Match` would save bytes, and no CPU of the server's: it makes the page to know its tag.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from contextlib import ExitStack
from itertools import count
from statistics import median
from typing import Final

from progress_stream.auth.verify import sign
from progress_stream.reporting.job import Job

from .connect import head
from .many import late
from .support.load import OWNER, SECRET
from .support.stage import Stage, private_redis, stage
from .support.table import absolute, figure, table

PAGES: Final = 100
JOBS: Final = 20
SECONDS: Final = 12.0
MOVES_A_SECOND: Final = 2
POLL_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 0.45
#: What the page does without a stream is what is replaced: nothing may cost more.
COST_GOAL: Final = 1.0


class Movers:
    """Jobs that move in a thread of their own, until told to stop."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._move, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _move(self) -> None:
        for done in count(1):
            for job in self._jobs:
                job.update(done, 1_000_000)
                if self._over.wait(1 / MOVES_A_SECOND / len(self._jobs)):
                    return


def connected(ground: Stage, stack: ExitStack) -> socket.socket:
    one = stack.enter_context(socket.create_connection(("127.0.0.1", int(ground.url.rpartition(":")[2]))))
    one.settimeout(10)
    return one


def token() -> str:
    return sign(SECRET, OWNER, "jobs:read", 3_600)


def drain(sockets: list[socket.socket], over: threading.Event) -> None:
    """Take what comes, so that nobody is slow."""
    for one in sockets:
        one.setblocking(False)
    while not over.wait(0.02):
        for one in sockets:
            try:
                while one.recv(1 << 20):
                    pass
            except BlockingIOError:
                continue


def streams(ground: Stage, jobs: list[Job], mark: Job) -> tuple[float, list[float]]:
    """(CPU ms a page and second, milliseconds of each probe)."""
    with ExitStack() as stack:
        sockets = [connected(ground, stack) for _ in range(PAGES)]
        for one in sockets:
            one.sendall(head("/jobs/events", token()))
        probe = connected(ground, stack)
        probe.sendall(head("/jobs/events", token()))
        over = threading.Event()
        reading = threading.Thread(target=drain, args=(sockets, over), daemon=True)
        reading.start()
        stack.enter_context(Movers(jobs))
        time.sleep(1)
        cpu, began, found = ground.cpu_seconds(), time.monotonic(), []
        for number in count(1):
            if time.monotonic() - began > SECONDS:
                break
            found.append(_probe(probe, mark, number))
            time.sleep(PROBE_SECONDS)
        took = time.monotonic() - began
        cost = (ground.cpu_seconds() - cpu) * 1000 / PAGES / took
        over.set()
        reading.join()
        return cost, found


def _probe(one: socket.socket, mark: Job, number: int) -> float:
    wanted, seen = b'"done":%d' % (7_000_000 + number), b""
    began = time.monotonic()
    mark.update(7_000_000 + number, 9_000_000)
    while wanted not in seen:
        data = one.recv(1 << 20)
        if not data:
            raise RuntimeError("the list's stream ended")
        seen = seen[-100:] + data
    return (time.monotonic() - began) * 1000


def asking(ground: Stage, jobs: list[Job]) -> float:
    """CPU ms a page and second."""
    words = head(f"/jobs?limit={JOBS}", token()).replace(b"text/event-stream", b"application/json")
    with ExitStack() as stack:
        sockets = [connected(ground, stack) for _ in range(PAGES)]
        stack.enter_context(Movers(jobs))
        _ask_in_turn(sockets, words, POLL_SECONDS)
        cpu, began = ground.cpu_seconds(), time.monotonic()
        _ask_in_turn(sockets, words, SECONDS)
        return (ground.cpu_seconds() - cpu) * 1000 / PAGES / (time.monotonic() - began)


def _ask_in_turn(sockets: list[socket.socket], words: bytes, seconds: float) -> None:
    """Each every two seconds, evenly spread."""
    began = time.monotonic()
    for number in range(int(seconds / POLL_SECONDS * PAGES)):
        time.sleep(max(0.0, began + number * POLL_SECONDS / PAGES - time.monotonic()))
        one = sockets[number % PAGES]
        one.sendall(words)
        whole = b""
        while b"\r\n\r\n" not in whole or len(whole) < _length(whole):
            whole += one.recv(1 << 20)
        if not whole.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"an answer that is none: {whole[:200]!r}")


def _length(answer: bytes) -> int:
    top, _, _ = answer.partition(b"\r\n\r\n")
    return len(top) + 4 + int(top.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    costs: dict[str, list[float]] = {"stream": [], "asking": []}
    times: list[float] = []
    with private_redis() as url:
        for _ in range(options.repeats):
            with stage("hand-over", url) as ground, ExitStack() as stack:
                jobs = [stack.enter_context(ground.job()) for _ in range(JOBS)]
                mark = stack.enter_context(ground.job())
                cost, found = streams(ground, jobs, mark)
                costs["stream"].append(cost)
                times += found
                costs["asking"].append(asking(ground, jobs))
    table(
        ("way", "", "CPU ms a page and second", "least", "most", "runs"),
        [(way, "", f"{median(v):.3f}", f"{min(v):.3f}", f"{max(v):.3f}", len(v)) for way, v in costs.items()],
    )
    figure(
        "list_stream", median(costs["stream"]), "CPU-ms/page/s", median(costs["asking"]), "asking", COST_GOAL
    )
    absolute("list_stream_p50", median(times), "ms")
    absolute("list_stream_p99", late(times), "ms")


if __name__ == "__main__":
    main()
