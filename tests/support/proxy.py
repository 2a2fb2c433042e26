"""What stands between a client and the server, at its worst: cuts answers anywhere, keeps them back, answers 502, loses headers."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

END_OF_HEAD = b"\r\n\r\n"
#: As proxies say it: for people.
APOLOGY = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    % len(APOLOGY)
) + APOLOGY


class Proxy:
    """Forwards to the server at `url`, one request a connection, and misbehaves as it is told to."""

    def __init__(self, url: str, *, seed: int = 1) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._carrying: set[socket.socket] = set()
        self._random = random.Random(seed)
        #: Every answer is cut after a number of bytes drawn from this range.
        self.cut_after: tuple[int, int] | None = None
        #: A stream's bytes are kept until it has ended, those of any other answer are not.
        self.buffers = False
        #: Answers 502 itself, with HTML.
        self.away = False
        #: Forwards no `Last-Event-ID`.
        self.eats_position = False
        #: Lets an answer live so many seconds.
        self.caps_at: float | None = None
        #: The first lines of all requests, in order.
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def streams(self) -> list[str]:
        """The requests for streams."""
        return [line for line in list(self.asked) if _is_stream(line)]

    def polls(self) -> list[str]:
        return [line for line in list(self.asked) if "wait=" in line]

    def carrying(self) -> int:
        """How many streams are open."""
        with self._lock:
            return len(self._carrying)

    def cut(self) -> int:
        """End everything that is open, in the middle; gives how many streams were among it."""
        with self._lock:
            cut, self._open = self._open, set()
            streams, self._carrying = self._carrying, set()
        for each in cut:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return len(streams)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head, rest = _head_of(client)
            first = head.partition(b"\r\n")[0].decode("latin-1")
            self.asked.append(first)
            is_stream = _is_stream(first)
            server = None if self.away else self._reach()
            if server is None:
                client.sendall(BAD_GATEWAY)
                return
            with server:
                ends = {client, server}
                with self._lock:
                    self._open |= ends
                    self._carrying |= {server} if is_stream else set()
                server.sendall(self._rewritten(head) + rest)
                threading.Thread(target=_pump, args=(client, server), daemon=True).start()
                try:
                    self._answer(server, client, keep=self.buffers and is_stream)
                finally:
                    with self._lock:
                        self._open -= ends
                        self._carrying.discard(server)
                # Closing alone would wait for the thread that still reads from it.
                client.shutdown(socket.SHUT_RDWR)

    def _reach(self) -> socket.socket | None:
        try:
            return socket.create_connection(self._upstream)
        except OSError:
            return None

    def _rewritten(self, head: bytes) -> bytes:
        dropped = rb"connection|last-event-id" if self.eats_position else rb"connection"
        head = re.sub(rb"\r\n(?:" + dropped + rb"):[^\r\n]*", b"", head, flags=re.IGNORECASE)
        return head.removesuffix(END_OF_HEAD) + b"\r\nConnection: close" + END_OF_HEAD

    def _answer(self, server: socket.socket, client: socket.socket, *, keep: bool) -> None:
        left = None if self.cut_after is None else self._random.randint(*self.cut_after)
        until = None if self.caps_at is None else time.monotonic() + self.caps_at
        kept = b""
        while True:
            server.settimeout(None if until is None else max(until - time.monotonic(), 0.001))
            data = server.recv(65_536)
            if not data:
                break
            if keep:
                kept += data
                continue
            client.sendall(data if left is None else data[:left])
            if left is not None and (left := left - len(data)) <= 0:
                return
        client.sendall(kept)


def _is_stream(first: str) -> bool:
    return re.search(r"/events[ ?]", first) is not None and "wait=" not in first


def _head_of(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while END_OF_HEAD not in data:
        more = client.recv(65_536)
        if not more:
            raise ConnectionError("the client left")
        data += more
    head, _, rest = data.partition(END_OF_HEAD)
    return head + END_OF_HEAD, rest


def _pump(client: socket.socket, server: socket.socket) -> None:
    """A request's body; and a client that leaves takes the server's connection with it."""
    with suppress(OSError):
        while data := client.recv(65_536):
            server.sendall(data)
    with suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)
