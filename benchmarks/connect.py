"""What does it cost the server to open a stream whose token is proved, beside a plain "hello" from the same uvicorn?

CPU of the server (from /proc) for each connection that opens, sends one request, reads the answer's head and first bytes, and
closes. Ours: a JWT of the asker (a new one every 200 requests), the job looked up, access judged, a position, the history of a
short job, the watcher entered and left. The yardstick: Starlette's `PlainTextResponse("hello")`, no middleware, under the same
uvicorn with uvloop and httptools. Sixteen connections are under way at a time.

What would fool the reader:
- A token is proved once and remembered by its hash until it expires: the first request with it costs more, and is in the figure.
- The kernel's work for connecting and closing is in both, and is a third of the yardstick.
- All streams follow one job: its look-ups share reads where they come together, as they do when a page comes back.
"""

from __future__ import annotations

import argparse
import select
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import cycle
from statistics import median
from typing import Final

from progress_stream.auth.verify import sign

from .support.load import OWNER, SECRET
from .support.stage import Stage, Way, private_redis, stage
from .support.table import figure, table

REQUESTS: Final = 4_000
TOKENS: Final = 20
_AT_ONCE: Final = 16
_WAIT_SECONDS: Final = 20
GOAL: Final = 2.0


def ask(port: int, requests: Iterator[bytes], ready: Callable[[bytes], bool], count: int) -> None:
    """So many connections, each left once what came is enough."""
    poll = select.epoll()
    open_: dict[int, tuple[socket.socket, bytes]] = {}
    begun = done = 0
    while done < count:
        while len(open_) < _AT_ONCE and begun < count:
            one = socket.create_connection(("127.0.0.1", port))
            one.sendall(next(requests))
            open_[one.fileno()] = one, b""
            poll.register(one, select.EPOLLIN)
            begun += 1
        found = poll.poll(_WAIT_SECONDS)
        if not found:
            raise TimeoutError("the server answers no more")
        for number, _ in found:
            one, seen = open_[number]
            data = one.recv(65_536)
            seen += data
            if not data and not ready(seen):
                raise RuntimeError(f"an answer that is none: {seen[:200]!r}")
            open_[number] = one, seen
            if ready(seen):
                poll.unregister(one)
                one.close()
                del open_[number]
                done += 1
    poll.close()


def head(path: str, token: str = "") -> bytes:
    """A browser's, more or less."""
    lines = [
        f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: text/event-stream", "Cache-Control: no-cache",
        "Accept-Encoding: gzip, deflate, br", "Accept-Language: en", "User-Agent: bench",
    ]  # fmt: skip
    return "\r\n".join([*lines, *([f"Authorization: Bearer {token}"] if token else []), "", ""]).encode()


def one(ground: Stage) -> float:
    """CPU microseconds of the server for each connection."""
    port = int(ground.url.rpartition(":")[2])
    with ground.job() as job:
        time.sleep(0.5)  # for its first events to be written
        if ground.way == "hello":
            requests, ready = cycle([head("/")]), lambda seen: seen.endswith(b"hello")
        else:
            tokens = [sign(SECRET, OWNER, "jobs:read", 3_600 + n) for n in range(TOKENS)]
            heads = [head(f"/jobs/{job.id}/events", token) for token in tokens]
            requests = cycle([words for words in heads for _ in range(REQUESTS // TOKENS)])
            ready = lambda seen: b"event: started" in seen and seen.endswith(b"\n\n\r\n")  # noqa: E731
        ask(port, requests, ready, 200)
        before = ground.cpu_seconds()
        ask(port, requests, ready, REQUESTS)
        return (ground.cpu_seconds() - before) * 1e6 / REQUESTS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ways: tuple[Way, ...] = ("hand-over", "hello")
    seen: defaultdict[Way, list[float]] = defaultdict(list)
    with private_redis() as url:
        for _ in range(options.repeats):
            for way in ways:
                with stage(way, url) as ground:
                    seen[way].append(one(ground))
    table(
        ("way", "", "CPU µs an opening", "least", "most", "runs"),
        [(way, "", f"{median(v):.0f}", f"{min(v):.0f}", f"{max(v):.0f}", len(v)) for way, v in seen.items()],
    )
    figure("connect", median(seen["hand-over"]), "CPU-µs/opening", median(seen["hello"]), "hello", GOAL)


if __name__ == "__main__":
    main()
