"""uvicorn's HTTP protocol with what it lacks: limits on a request's head, deadlines, and the hand-over of streams.

The hand-over: Starlette routes, checks and decides as ever; then the connection changes its protocol, as it does for
a WebSocket, and the request's task, scope, headers and parser are let go. What may be written is the hub's, the bare
socket `handed_over.py`'s.

It departs from the obvious on purpose, each time because the obvious broke:
- The switch waits for the first body message in the outermost `send`, so that every middleware's headers are in, and
  one that rebuilds messages keeps its connection the ordinary way.
- The request that runs is `send.__self__`. `self.cycle` is the last one parsed: of a client that pipelined, another.
- uvicorn lets go by its own `connection_lost`, with an exception: without one it would close the transport.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..streaming.sink import EXTENSION, Attach, Handover
from .handed_over import HandedOver
from .wheel import Stall, Wheel

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from ..settings import Settings

logger = logging.getLogger(__name__)

#: Header lines of a request, as many as Apache allows. Each costs far more memory than its bytes.
MAX_HEADERS: Final = 100
#: A request's body must begin within this many seconds, and then come at the rate below, or it is a slow attack.
BODY_SECONDS: Final = 30.0
#: Bytes a second; a third of what the slowest mobile network brings.
BODY_RATE: Final = 1_024
#: Seconds to read on after a refusal: closing with bytes unread resets the connection, and the client sees no answer.
LINGER_SECONDS: Final = 2.0

#: What the hand-over touches inside uvicorn: looked for once, before the first offer.
TOUCHED: Final = {
    "protocol": ("connection_lost", "connections", "flow", "pipeline", "server_state", "transport"),
    "cycle": (
        "body",
        "chunked_encoding",
        "disconnected",
        "flow",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
        "send",
        "transport",
    ),
    "flow": ("resume_reading", "write_paused"),
    "server_state": ("connections", "default_headers", "total_requests"),
}

_HANDED_OVER: Final = ConnectionError("the connection was handed over")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost. Three of them are settings of the same names."""

    header_bytes: int = 32_768
    header_seconds: float = 10.0
    write_stall_seconds: float = 60.0
    max_headers: int = MAX_HEADERS
    body_seconds: float = BODY_SECONDS
    body_rate: int = BODY_RATE


class _HeadTooLarge(Exception):
    """Stops the parser from inside a callback."""


class StreamProtocol(HttpToolsProtocol):
    """For uvicorn's `http=`. Make it with `stream_protocol()`, or take it as it is for the default limits."""

    limits: ClassVar[Limits] = Limits()
    _wheel: ClassVar[Wheel | None] = None
    _can_hand_over: ClassVar[bool | None] = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.running: RequestResponseCycle | None = None
        self._deadlines = self._wheel_for(self.loop)
        self._stall: Stall | None = None
        self._refused = False
        self._in_head = False
        self._head_bytes = 0
        self._head_lines = 0
        self._unparsed = 0
        self._body_bytes = 0
        self._body_since: float | None = None

    @classmethod
    def _wheel_for(cls, loop: asyncio.AbstractEventLoop) -> Wheel:
        """One for all connections of a loop; a process has one loop."""
        if cls._wheel is None or cls._wheel.loop is not loop:
            cls._wheel = Wheel(loop)
        return cls._wheel

    # The connection's life.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadlines.watch(self._head_overdue, self.limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        for deadline in (self._head_overdue, self._body_overdue, self._linger_over):
            self._deadlines.forget(deadline)
        self._drop_stall()
        super().connection_lost(exc)
        # uvicorn tells the last request parsed only; one that runs before it would wait for ever.
        if self.running is not None and not self.running.response_complete:
            self.running.disconnected = True
            self.running.message_event.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._drop_stall()
        self._stall = Stall(self._deadlines, self.transport, self.limits.write_stall_seconds)

    def resume_writing(self) -> None:
        self._drop_stall()
        super().resume_writing()

    def _drop_stall(self) -> None:
        if self._stall is not None:
            self._stall.drop()
            self._stall = None

    # A request's head: how much, how many, how long.

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            self._unparsed += len(data)
            super().data_received(data)
            self._after_data()

    def _after_data(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        # httptools collects one huge value, or a trailer, without any callback.
        if self._unparsed > self.limits.header_bytes:
            self._refuse()
        elif self._idle and self._head_overdue not in self._deadlines:
            # These bytes began no request, but ended uvicorn's own timer: they buy no more than this.
            self._deadlines.watch(self._head_overdue, self.limits.header_seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._head_lines = 0
        self._deadlines.watch(self._head_overdue, self.limits.header_seconds)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_lines += 1
        self._count(len(name) + len(value) + 4)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._over_limit:
            raise _HeadTooLarge

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unparsed = 0
        self._deadlines.forget(self._head_overdue)
        self._body_bytes = 0
        self._body_since = self.loop.time()
        self._deadlines.watch(self._body_overdue, self.limits.body_seconds)
        app = self.app
        self.app = cast("ASGI3Application", _Request(self, app))
        try:
            super().on_headers_complete()
        finally:
            self.app = app  # the connection must not hold what holds the connection

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        self._body_since = None
        self._deadlines.forget(self._body_overdue)
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
            self._deadlines.watch(self._head_overdue, self.limits.header_seconds)
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
            self._deadlines.watch(self._body_overdue, allowed - now)
        else:
            self.transport.abort()

    def _linger_over(self) -> None:
        self.transport.abort()

    # Refusals.

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this for what the parser refused, and so for what `_count` refused inside it."""
        if self._over_limit:
            self._refuse()
        elif self._answering:
            self._refused = True
            self.transport.abort()  # an answer inside another would be read as part of it
        else:
            super().send_400_response(msg)

    @property
    def _over_limit(self) -> bool:
        return self._head_lines > self.limits.max_headers or self._head_bytes > self.limits.header_bytes

    def _refuse(self) -> None:
        """Answer 431 (RFC 6585 §5) and read on for a moment, so that the client sees it."""
        self._refused = True
        if self._answering:
            self.transport.abort()
            return
        logger.info("A request's head over the limit was refused")
        self.transport.write(_answer_431(self.limits, self.server_state.default_headers))
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._deadlines.watch(self._linger_over, LINGER_SECONDS)

    # The hand-over.

    def can_hand_over(self, cycle: RequestResponseCycle) -> bool:
        """Whether this uvicorn has all that the hand-over touches. Asked once; said once where it has not."""
        if StreamProtocol._can_hand_over is None:
            missing = _missing(self, cycle)
            StreamProtocol._can_hand_over = not missing
            if missing:
                logger.warning("Streams stay with uvicorn: it has no %s", ", ".join(missing))
        return StreamProtocol._can_hand_over

    def hand_over(self, first: bytes, handover: Handover, attach: Attach, *, chunked: bool) -> HandedOver:
        """Let go of the connection, in one step of the loop, right after the head of the response was written."""
        sink = HandedOver(
            self.transport,
            wheel=self._deadlines,
            connections=self.connections,
            stall_seconds=self.limits.write_stall_seconds,
            chunked=chunked,
            ended=handover.ended,
        )
        paused = self.flow.write_paused
        self.pipeline.clear()  # `Connection: close` was answered: RFC 9112 §9.6 lets later requests fall
        self.flow.resume_reading()
        self.server_state.total_requests += 1
        handover.taken = True
        self.connection_lost(_HANDED_OVER)
        sink.take_over(first, attach, paused=paused)
        return sink


class _Request:
    """The application for one request: offers the hand-over where it can be, and knows which request runs."""

    __slots__ = ("_app", "_protocol")

    def __init__(self, protocol: StreamProtocol, app: ASGI3Application) -> None:
        self._protocol = protocol
        self._app = cast(App, app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = getattr(send, "__self__", None)
        if not isinstance(cycle, RequestResponseCycle):
            await self._app(scope, receive, send)
            return
        self._protocol.running = cycle
        if not (_could_stream(scope) and self._protocol.can_hand_over(cycle)):
            await self._app(scope, receive, send)
            return
        offer = _Offer(self._protocol, cycle)
        scope.setdefault("extensions", {})[EXTENSION] = offer.handover
        await offer.run(self._app, scope, receive)


class _Offer:
    """One request's outermost `send`: watches for the first body message that takes the offer."""

    __slots__ = ("_cycle", "_held", "_protocol", "_sink", "handover")

    def __init__(self, protocol: StreamProtocol, cycle: RequestResponseCycle) -> None:
        self.handover = Handover()
        self._protocol = protocol
        self._cycle = cycle
        self._held: Message | None = None
        self._sink: HandedOver | None = None

    async def run(self, app: App, scope: Scope, receive: Receive) -> None:
        try:
            await app(scope, receive, self.send)
            await self._release()
        except BaseException:
            # uvicorn leaves the socket alone by now: a stream whose request failed would be nobody's.
            if self._sink is not None:
                self._sink.abort()
            raise

    async def send(self, message: Message) -> None:
        if self._held is None:
            if _could_be_a_streams(message):
                self._held = message
            else:
                await self._pass(message)
            return
        attach = self.handover.untouched(message)
        if attach is None or self._cycle.more_body or self._cycle.body:
            await self._release()
            await self._pass(message)
        else:
            await self._switch(self._held, message["body"], attach)

    async def _pass(self, message: Message) -> None:
        await self._cycle.send(message)  # type: ignore[arg-type]

    async def _release(self) -> None:
        start, self._held = self._held, None
        if start is not None:
            await self._pass(start)

    async def _switch(self, start: Message, first: bytes, attach: Attach) -> None:
        cycle = self._cycle
        self._held = None
        chunked = cycle.scope["http_version"] != "1.0"  # RFC 9112 §6.1: no transfer coding for HTTP/1.0
        if not chunked:
            cycle.chunked_encoding = False
        cycle.keep_alive = False  # so that uvicorn, which writes the head, says `Connection: close`
        await self._pass({**start, "headers": _without_connection(start)})
        if not (cycle.disconnected or cycle.transport.is_closing()):
            self._sink = self._protocol.hand_over(first, self.handover, attach, chunked=chunked)


def _could_stream(scope: Scope) -> bool:
    """A GET without a body."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    headers = scope["headers"]
    return not any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
        for name, value in headers
    )


def _could_be_a_streams(message: Message) -> bool:
    """A start message whose body may be framed by us, as nobody has said how it is framed or encoded."""
    if message["type"] != "http.response.start" or message["status"] != 200:
        return False
    names = {bytes(name).lower() for name, _ in message.get("headers", ())}
    return names.isdisjoint((b"content-encoding", b"content-length", b"transfer-encoding"))


def _without_connection(start: Message) -> list[tuple[bytes, bytes]]:
    """The headers without `Connection: keep-alive`, which sse-starlette sets and a stream cannot keep."""
    return [(name, value) for name, value in start.get("headers", ()) if bytes(name).lower() != b"connection"]


def _missing(protocol: StreamProtocol, cycle: RequestResponseCycle) -> list[str]:
    owners = {
        "protocol": protocol,
        "cycle": cycle,
        "flow": getattr(protocol, "flow", None),
        "server_state": getattr(protocol, "server_state", None),
    }
    return [
        f"{owner}.{name}"
        for owner, names in TOUCHED.items()
        for name in names
        if not hasattr(owners[owner], name)
    ]


def _answer_431(limits: Limits, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    body = json.dumps(
        {
            "type": "about:blank",
            "title": "Request Header Fields Too Large",
            "status": 431,
            "detail": f"allowed: {limits.header_bytes} bytes of headers in {limits.max_headers} lines",
        }
    ).encode()
    headers = [
        *default_headers,
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    return b"".join([STATUS_LINE[431], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body])


def stream_protocol(settings: Settings) -> type[StreamProtocol]:
    """The protocol class bound to these settings, for uvicorn's `http=`."""
    limits = Limits(
        header_bytes=settings.header_bytes,
        header_seconds=settings.header_seconds,
        write_stall_seconds=settings.write_stall_seconds,
    )
    return type("StreamProtocol", (StreamProtocol,), {"limits": limits})
