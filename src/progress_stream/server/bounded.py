"""uvicorn's HTTP protocol with the limits it lacks: how many bytes and lines a request's head has, and how long it takes.

Refuses with a problem where somebody may still read it, and cuts where nobody should. Knows nothing of streams: `push.py`
adds the hand-over.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from .. import metrics
from .wheel import Stall, Wheel

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application
    from uvicorn.config import Config
    from uvicorn.server import ServerState

logger = logging.getLogger(__name__)

#: Header lines of a request, as many as Apache allows. Each costs far more memory than its bytes.
MAX_HEADERS: Final = 100
#: A request's body has this many seconds, and one more for each so many bytes that came: else it is a slow attack.
BODY_SECONDS: Final = 30.0
#: Bytes a second; GPRS brings more.
BODY_RATE: Final = 1_024
#: Seconds to read on after a refusal: closing with bytes unread resets the connection, and the client sees no answer.
LINGER_SECONDS: Final = 2.0
#: Bytes of a body that are read and dropped after its answer, so that a client which only writes comes to see the answer. Who sends
#: more is not read on: a gigabyte for a 413 would cost the network all the same.
REST_BYTES: Final = 8 * 2**20

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost. The first three are settings of the same names."""

    header_bytes: int = 32_768
    header_seconds: float = 10.0
    write_stall_seconds: float = 60.0
    max_headers: int = MAX_HEADERS
    body_seconds: float = BODY_SECONDS
    body_rate: int = BODY_RATE


class _HeadTooLarge(Exception):
    """Stops the parser from inside a callback."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection, bounded in bytes and in time. `running` is the request that is being answered.

    That is not uvicorn's `cycle`, the last one parsed: of a client that pipelined, these are two.
    """

    limits: ClassVar[Limits] = Limits()
    _wheel: ClassVar[Wheel | None] = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.running: RequestResponseCycle | None = None
        self.deadlines = self._wheel_for(self.loop)
        self._stall: Stall | None = None
        self._deaf = False
        self._in_head = False
        self._head_bytes = 0
        self._head_lines = 0
        self._unparsed = 0
        self._body_bytes = 0
        self._body_since: float | None = None
        self._leaving = False

    @classmethod
    def _wheel_for(cls, loop: asyncio.AbstractEventLoop) -> Wheel:
        """One for all connections of a loop; a process has one loop."""
        if cls._wheel is None or cls._wheel.loop is not loop:
            cls._wheel = Wheel(loop)
        return cls._wheel

    # The connection's life.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.deadlines.watch(self._head_overdue, self.limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadlines()
        super().connection_lost(exc)
        # uvicorn tells the last request parsed only; one that runs before it would wait for ever.
        _disconnect(self.running)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._drop_stall()
        self._stall = Stall(self.deadlines, self.transport, self.limits.write_stall_seconds)

    def resume_writing(self) -> None:
        self._drop_stall()
        super().resume_writing()

    def leave(self) -> None:
        """Say `Connection: close` with the next answer: what this client asks after it is for another process."""
        self._leaving = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    @property
    def has_asked(self) -> bool:
        """A request's head has come whole, at some time."""
        return self.cycle is not None

    def _forget_deadlines(self) -> None:
        for deadline in (self._head_overdue, self._body_overdue, self._linger_over):
            self.deadlines.forget(deadline)
        self._drop_stall()

    def _drop_stall(self) -> None:
        if self._stall is not None:
            self._stall.drop()
            self._stall = None

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        self._deaf = True  # the connection has another protocol now, and none of our deadlines
        self._forget_deadlines()

    # A request's head: how much, how many, how long.

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            self._unparsed += len(data)
            super().data_received(data)
            self._after_data()

    def _after_data(self) -> None:
        if self._deaf or self.transport.is_closing():
            return
        # httptools collects one huge value, or a trailer, without any callback.
        if self._unparsed > self.limits.header_bytes:
            self._refuse()
        elif self._idle and self._head_overdue not in self.deadlines:
            # These bytes began no request, but ended uvicorn's own timer: they buy no more than this.
            self.deadlines.watch(self._head_overdue, self.limits.header_seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._head_lines = 0
        self.deadlines.watch(self._head_overdue, self.limits.header_seconds)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        # RFC 9110 §5.5: white space after a value is no part of it; the parser takes away only what stands before.
        super().on_header(name, value.rstrip(b" \t"))
        self._head_lines += 1
        self._count(len(name) + len(value) + 4)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._over_limit:
            raise _HeadTooLarge

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unparsed = 0
        self.deadlines.forget(self._head_overdue)
        self._body_bytes = self._rest_bytes = 0
        self._body_since = self.loop.time()
        self.deadlines.watch(self._body_overdue, self.limits.body_seconds)
        app = self.app
        self.app = cast("ASGI3Application", _Running(self, app))
        try:
            super().on_headers_complete()
        finally:
            self.app = app  # the connection must not hold what holds the connection
        if self._leaving and self.cycle is not None:
            self.cycle.keep_alive = False

    async def answer(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Here and not around the application, so that no middleware stands outside."""
        await app(scope, receive, send)

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        self._body_bytes += len(body)
        if not self.cycle.response_complete:
            super().on_body(body)
        elif not self._deaf:
            self._rest_bytes += len(body)
            if self._rest_bytes > REST_BYTES:
                self._stop_reading()

    def _stop_reading(self) -> None:
        """RFC 9112 §9.6: close our side first, so that the client can read the answer before the connection is cut."""
        self._deaf = True
        self.flow.pause_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._body_since = None
        self.deadlines.forget(self._body_overdue)
        self.deadlines.watch(self._linger_over, LINGER_SECONDS)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        self._body_since = None
        self.deadlines.forget(self._body_overdue)
        super().on_message_complete()

    @property
    def _idle(self) -> bool:
        """No request is being read and none is being answered."""
        in_body = self._body_since is not None
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not (self._in_head or in_body)

    @property
    def _answering(self) -> bool:
        return self.running is not None and not self.running.response_complete

    # Deadlines.

    def _head_overdue(self) -> None:
        if self._answering:  # a half request behind one that is being answered: that answer is not at fault
            self.deadlines.watch(self._head_overdue, self.limits.header_seconds)
        else:
            self.transport.close()

    def _body_overdue(self) -> None:
        if self._body_since is None:
            return
        now = self.loop.time()
        if self.flow.read_paused:  # we are the slow side
            self._body_since, self._body_bytes = now, 0
        allowed = self._body_since + self.limits.body_seconds + self._body_bytes / self.limits.body_rate
        if now < allowed:
            self.deadlines.watch(self._body_overdue, allowed - now)
        else:
            self.transport.abort()

    def _linger_over(self) -> None:
        self.transport.abort()

    # Refusals.

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this for what the parser refused, and so for what `_count` refused inside it."""
        if self._over_limit:
            self._refuse()
        elif self._may_still_answer():
            problem = _problem(400, "Bad Request", msg, self.server_state.default_headers)
            self.transport.write(problem)
            self.transport.close()

    @property
    def _over_limit(self) -> bool:
        return self._head_lines > self.limits.max_headers or self._head_bytes > self.limits.header_bytes

    def _refuse(self) -> None:
        """Answer 431 (RFC 6585 §5) and read on for a moment, so that the client sees it."""
        if not self._may_still_answer():
            return
        logger.info("A request with a head over the limit was refused")
        metrics.refused("head_too_large")
        self.transport.write(_answer_431(self.limits, self.server_state.default_headers))
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.deadlines.watch(self._linger_over, LINGER_SECONDS)

    def _may_still_answer(self) -> bool:
        """Stop listening and answering. False where an answer has begun: another inside it would be read as its part."""
        self._deaf = True
        if self.running is not None and self.running.response_started and self._answering:
            self.transport.abort()
            return False
        self.pipeline.clear()
        for cycle in (self.running, self.cycle):
            _disconnect(cycle)
        return True


def _disconnect(cycle: RequestResponseCycle | None) -> None:
    """Tell a request that nobody waits for its answer; what it still sends falls."""
    if cycle is not None and not cycle.response_complete:
        cycle.disconnected = True
        cycle.message_event.set()


class _Running:
    """The application for one request: tells the connection which one runs."""

    __slots__ = ("_app", "_protocol")

    def __init__(self, protocol: BoundedProtocol, app: ASGI3Application) -> None:
        self._protocol = protocol
        self._app = cast(App, app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = getattr(send, "__self__", None)
        if isinstance(cycle, RequestResponseCycle):
            self._protocol.running = cycle
        await self._protocol.answer(self._app, scope, receive, send)


def _answer_431(limits: Limits, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    detail = f"larger than HEADER_BYTES allows ({limits.header_bytes} bytes), or of more than {limits.max_headers} lines"
    return _problem(431, "Request Header Fields Too Large", detail, default_headers)


def _problem(status: int, title: str, detail: str, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """RFC 9457, as all errors are: there is no application yet that could say it."""
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
    headers = [
        *default_headers,
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    return b"".join([STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body])
