"""What stands between a browser and the server, at its worst: cuts streams, answers 502, eats headers."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from typing import Self

END_OF_HEAD = b"\r\n\r\n"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Meddler:
    """A proxy that can be told to misbehave. Each connection carries one request, so that each is met alike."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream = ("127.0.0.1", upstream_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._streams: list[socket.socket] = []
        #: Answers every request with 502, as a proxy does while what is behind it is away.
        self.away = False
        #: Forwards no `Last-Event-ID`, as a CDN that only lets listed headers through.
        self.eats_position = False
        #: The first lines of the requests for streams, in order.
        self.asked: list[str] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def cut(self) -> int:
        """Ends every open stream in the middle; gives their number."""
        with self._lock:
            cut, self._streams = self._streams, []
        for stream in cut:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        return len(cut)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
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
            is_stream = "/events" in first
            if is_stream:
                self.asked.append(first)
            server = None if self.away else self._reach()
            if server is None:
                client.sendall(BAD_GATEWAY)
                return
            with server:
                if is_stream:
                    with self._lock:
                        self._streams.append(server)
                server.sendall(self._rewritten(head) + rest)
                threading.Thread(target=_pump, args=(client, server), daemon=True).start()
                _pump(server, client)

    def _reach(self) -> socket.socket | None:
        try:
            return socket.create_connection(self._upstream)
        except OSError:
            return None

    def _rewritten(self, head: bytes) -> bytes:
        dropped = rb"connection|last-event-id" if self.eats_position else rb"connection"
        head = re.sub(rb"\r\n(?:" + dropped + rb"):[^\r\n]*", b"", head, flags=re.IGNORECASE)
        return head.removesuffix(END_OF_HEAD) + b"\r\nConnection: close" + END_OF_HEAD


def _head_of(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while END_OF_HEAD not in data:
        more = client.recv(65_536)
        if not more:
            raise ConnectionError("the client left")
        data += more
    head, _, rest = data.partition(END_OF_HEAD)
    return head + END_OF_HEAD, rest


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)
