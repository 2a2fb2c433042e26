"""An event stream's client on a bare socket, with every byte in sight: what no HTTP library lets a test see or cut.

`Response` is pure, and serves plain and asyncio clients alike. It reads what our servers send, not all that HTTP allows.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from progress_stream.frames.sse import Frame, Parser
from tests.support.server import PATIENCE_SECONDS, Site

EVENT_STREAM = "text/event-stream"


def request(
    path: str, host: str, headers: Mapping[str, str], *, method: str = "GET", version: str = "1.1"
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class Response:
    """One HTTP/1.1 answer, fed in any cuts. What arrived of a chunk counts at once, as in a browser."""

    def __init__(self, *, has_body: bool = True) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        #: The whole body so far, and its chunks as the server framed them; the last one may be incomplete.
        self.body = bytearray()
        self.chunks: list[bytearray] = []
        self.frames: list[Frame] = []
        #: It ended as its own framing says: not by a cut.
        self.complete = False
        self._has_body = has_body
        self._parser = Parser()
        self._raw = bytearray()
        self._left = 0
        self._step = self._head

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete."""
        before = len(self.frames)
        self._raw += data
        while not self.complete and self._step():
            pass
        return self.frames[before:]

    @property
    def rest(self) -> bytes:
        """What came behind the end: the next answer's, where several were asked for on one connection."""
        return bytes(self._raw) if self.complete else b""

    # Each step takes one part of the answer, and says whether there may be more to take.

    def _head(self) -> bool:
        head = self._up_to(b"\r\n\r\n")
        if head is None:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        parts = [line.partition(":") for line in lines]
        self.headers = {name.lower(): value.strip() for name, _, value in parts}
        chunked = self.headers.get("transfer-encoding") == "chunked"
        self._left = int(self.headers.get("content-length", "-1"))
        self._step = self._size if chunked else self._plain
        self.complete = not self._has_body or self.status in {204, 304} or self._left == 0
        return True

    def _size(self) -> bool:
        line = self._up_to(b"\r\n")
        if line is None:
            return False
        self._left = int(line, 16)
        if self._left:
            self.chunks.append(bytearray())
        self._step = self._data if self._left else self._end
        return True

    def _data(self) -> bool:
        piece = bytes(self._raw[: self._left])
        del self._raw[: len(piece)]
        self._left -= len(piece)
        self.chunks[-1] += piece
        self._take(piece)
        if not self._left:
            self._step = self._after_data
        return bool(piece)

    def _after_data(self) -> bool:
        self._step = self._size if (done := self._up_to(b"\r\n") is not None) else self._after_data
        return done

    def _end(self) -> bool:
        self.complete = self._up_to(b"\r\n") is not None
        return False

    def _plain(self) -> bool:
        piece = bytes(self._raw if self._left < 0 else self._raw[: self._left - len(self.body)])
        del self._raw[: len(piece)]
        self._take(piece)
        self.complete = len(self.body) == self._left
        return False

    def _up_to(self, end: bytes) -> bytes | None:
        before, found, after = self._raw.partition(end)
        if not found:
            return None
        self._raw = after
        return bytes(before)

    def _take(self, piece: bytes) -> None:
        self.body += piece
        self.frames += self._parser.feed(piece)


class Stream:
    """One request on a socket of its own, read as far as the test wants."""

    def __init__(
        self,
        url: str,
        path: str,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        receive_buffer: int | None = None,
    ) -> None:
        where = urlsplit(url)
        host, port = where.hostname or "", where.port or 0
        self.response = Response(has_body=method != "HEAD")
        self.gone = False
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.connect((host, port))
        self._socket.sendall(request(path, f"{host}:{port}", headers, method=method))

    # What has come

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> dict[str, str]:
        return self.response.headers

    @property
    def body(self) -> bytes:
        return bytes(self.response.body)

    @property
    def frames(self) -> list[Frame]:
        return self.response.frames

    @property
    def position(self) -> dict[str, Any]:
        """What the first frame says."""
        assert "position" == self.frames[0].event
        return data_of(self.frames[0])

    @property
    def events(self) -> list[Frame]:
        """Without what the server adds."""
        return [frame for frame in self.frames if frame.event not in ADDED]

    @property
    def types(self) -> list[str]:
        return [frame.event for frame in self.frames]

    @property
    def ids(self) -> list[str]:
        return [frame.id for frame in self.events]

    @property
    def numbers(self) -> list[int]:
        return [int(id.partition("-")[2]) for id in self.ids]

    @property
    def ended(self) -> bool:
        """Ended cleanly: told so by the server, not cut."""
        return self.response.complete

    # Reading

    def until(self, condition: Callable[[Stream], bool], seconds: float = PATIENCE_SECONDS) -> Self:
        """Read on until it holds. Raises AssertionError when the answer ends before, TimeoutError when nothing comes."""
        deadline = time.monotonic() + seconds
        while not condition(self):
            assert not (self.ended or self.gone), f"ended with {self.status} {self.body[-300:]!r}"
            self._read(deadline)
        return self

    def until_number(self, n: int) -> Self:
        """Read on until the event `n` is there."""
        return self.until(lambda stream: bool(stream.events) and n <= stream.numbers[-1])

    def until_type(self, type: str, seconds: float = PATIENCE_SECONDS) -> Self:
        return self.until(lambda stream: type in stream.types, seconds)

    def to_end(self, seconds: float = PATIENCE_SECONDS) -> Self:
        """Read on until the server ended the answer, cleanly or not."""
        deadline = time.monotonic() + seconds
        while not (self.ended or self.gone):
            self._read(deadline)
        return self

    def for_seconds(self, seconds: float) -> Self:
        """Read whatever comes in this time."""
        deadline = time.monotonic() + seconds
        while not (self.ended or self.gone):
            try:
                self._read(deadline)
            except TimeoutError:
                break
        return self

    def is_closed_by_server(self) -> bool:
        """After the end: the connection too is over."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _read(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"nothing more after {self.body[-300:]!r}")
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(65_536)
        except ConnectionResetError:
            data = b""
        if data:
            self.response.feed(data)
        else:
            self.gone = True

    # Leaving

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """As a client that vanishes: RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


#: What the server adds to a response, in no stream.
ADDED = frozenset({"position", "snapshot", "busy", "expired", "draining", "ping"})


def follow(
    site: Site,
    job: str = "job-1",
    query: str = "",
    *,
    position: str | None = None,
    accept: str | None = EVENT_STREAM,
    subject: str = "alice",
    token: str | None = None,
    method: str = "GET",
    receive_buffer: int | None = None,
) -> Stream:
    """Ask for a job's stream as EventSource does (or with another `accept`); `position` is the header's."""
    headers = {"Authorization": f"Bearer {token or site.token(subject)}"}
    if accept is not None:
        headers["Accept"] = accept
    if position is not None:
        headers["Last-Event-ID"] = position
    path = f"/jobs/{job}/events{query and '?' + query}"
    return Stream(site.url, path, headers, method=method, receive_buffer=receive_buffer)


def follow_to_end(site: Site, job: str = "job-1", query: str = "", **options: Any) -> Stream:
    with follow(site, job, query, **options) as stream:
        return stream.to_end()


def data_of(frame: Frame) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(frame.data)
    return body


def only(frames: Iterable[Frame], type: str) -> list[Frame]:
    return [frame for frame in frames if frame.event == type]
