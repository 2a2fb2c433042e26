"""Many watchers in one cheap process: raw sockets that count events and understand nothing else.

As a program it takes orders on its standard input, a line each, and answers each with one line:
`open <how many> <ids each> <path>…` connects (the paths in turn) and waits until each has seen so many `id:` lines;
`storm` the same, all at once;
`until <ids>` waits until each has; `ended` waits until all streams are over. The answer is the least and the most ids seen.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from types import TracebackType
from typing import Final, Self

from .machine import OTHER_CORE, pin

#: Connections that are being opened at a time: a storm would be another question.
_WINDOW: Final = 50
#: Between two rounds over all sockets: a client that reads each write by itself would need more CPU than the server.
_ROUND_SECONDS: Final = 0.02
_LIMIT_SECONDS: Final = 50.0
_MARK: Final = b"\nid: "


class _Crowd:
    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        self._seen: dict[int, int] = {}
        self._over = 0
        self._buffer = bytearray(1024 * 1024)

    def open(self, count: int, ids: int, *paths: str, window: int = _WINDOW) -> None:
        waiting: set[int] = set()
        for path in islice(cycle(paths), count):
            waiting.add(self._connect(path))
            while len(waiting) >= window:
                self._round(0.0)
                waiting = {one for one in waiting if self._seen[one] < ids}
        self.until(ids)

    def _connect(self, path: str) -> int:
        one = socket.create_connection(("127.0.0.1", self._port))
        one.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n".encode()
        )
        one.setblocking(False)
        number = one.fileno()
        self._sockets[number], self._tails[number], self._seen[number] = one, b"", 0
        self._epoll.register(number, select.EPOLLIN)
        return number

    def until(self, ids: int) -> None:
        self._wait(lambda: min(self._seen.values()) >= ids)

    def ended(self) -> None:
        self._wait(lambda: self._over == len(self._sockets))

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _LIMIT_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{min(self._seen.values())} to {max(self._seen.values())} ids")
            self._round(_ROUND_SECONDS)

    def _round(self, pause: float) -> None:
        for number, _ in self._epoll.poll(0.5, 100_000):
            self._read(number)
        time.sleep(pause)

    def _read(self, number: int) -> None:
        size = self._sockets[number].recv_into(self._buffer)
        if not size:
            self._epoll.unregister(number)
            self._over += 1
            return
        seam = self._tails[number] + self._buffer[: len(_MARK) - 1]
        self._seen[number] += self._buffer.count(_MARK, 0, size) + seam.count(_MARK)
        self._tails[number] = bytes(self._buffer[max(0, size - len(_MARK) + 1) : size])

    def answer(self) -> str:
        return f"{min(self._seen.values())} {max(self._seen.values())}"


class Crowd:
    """The program, from outside."""

    def __init__(self, url: str, token: str) -> None:
        words = [sys.executable, "-m", __name__, url.rpartition(":")[2], token]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def open(self, count: int, ids: int, *paths: str) -> None:
        """Raises RuntimeError when a watcher has seen more or fewer than so many ids."""
        self._say(f"open {count} {ids} {' '.join(paths)}", ids)

    def storm(self, count: int, ids: int, *paths: str) -> None:
        """As `open`, but nobody waits for anybody."""
        self._say(f"storm {count} {ids} {' '.join(paths)}", ids)

    def until(self, ids: int) -> None:
        """Raises RuntimeError when a watcher has seen more."""
        self._say(f"until {ids}", ids)

    def ended(self, ids: int) -> None:
        self._say("ended", ids)

    def _say(self, order: str, ids: int) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(order + "\n")
        stdin.flush()
        answer = stdout.readline().strip()
        if answer != f"{ids} {ids}":
            raise RuntimeError(f"expected {ids} ids at each watcher; least and most: {answer or 'none'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    pin(OTHER_CORE)
    crowd = _Crowd(int(sys.argv[1]), sys.argv[2])
    for line in sys.stdin:
        match line.split():
            case ["open", count, ids, *paths]:
                crowd.open(int(count), int(ids), *paths)
            case ["storm", count, ids, *paths]:
                crowd.open(int(count), int(ids), *paths, window=int(count) + 1)
            case ["until", ids]:
                crowd.until(int(ids))
            case ["ended"]:
                crowd.ended()
        print(crowd.answer(), flush=True)


if __name__ == "__main__":
    main()
