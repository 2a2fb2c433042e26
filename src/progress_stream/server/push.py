"""The hand-over: a stream leaves HTTP behind and keeps the socket alone.

Starlette routes, checks and decides as ever; then the connection changes its protocol, as it does for a WebSocket,
and the request's task, scope, headers and parser are let go. What is written from then on is the hub's, the bare
socket `handed_over.py`'s; what a request may cost before it, `bounded.py`'s.

It departs from the obvious on purpose, each time because the obvious broke:
- The switch waits for the first body message in the outermost `send`, so that every middleware's headers are in, and
  one that rebuilds messages keeps its connection the ordinary way.
- The request that runs is `send.__self__`. `self.cycle` is the last one parsed: of a client that pipelined, another.
- uvicorn lets go by its own `connection_lost`, with an exception: without one it would close the transport.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from ..streaming.sink import EXTENSION, Attach, Handover
from .bounded import App, BoundedProtocol, Limits, Message, Receive, Scope, Send
from .handed_over import HandedOver

if TYPE_CHECKING:
    from ..settings import Settings

logger = logging.getLogger(__name__)

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


class StreamProtocol(BoundedProtocol):
    """For uvicorn's `http=`. Make it with `stream_protocol()`, or take it as it is for the default limits."""

    _can_hand_over: ClassVar[bool | None] = None

    async def answer(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = getattr(send, "__self__", None)
        if isinstance(cycle, RequestResponseCycle) and _could_stream(scope) and self.can_hand_over(cycle):
            offer = _Offer(self, cycle)
            scope.setdefault("extensions", {})[EXTENSION] = offer.handover
            await offer.run(app, scope, receive)
        else:
            await app(scope, receive, send)

    def can_hand_over(self, cycle: RequestResponseCycle) -> bool:
        """Whether this uvicorn has all that the hand-over touches. Asked once; said once where it has not."""
        if StreamProtocol._can_hand_over is None:
            missing = _missing(self, cycle)
            StreamProtocol._can_hand_over = not missing
            if missing:
                logger.warning("Streams stay with uvicorn: it has no %s", ", ".join(missing))
        return StreamProtocol._can_hand_over

    def hand_over(self, first: bytes, handover: Handover, attach: Attach, *, chunked: bool) -> None:
        """Let go of the connection, in one step of the loop, right after the head of the response was written."""
        sink = HandedOver(
            self.transport,
            wheel=self.deadlines,
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


class _Offer:
    """One request's outermost `send`: watches for the first body message that takes the offer."""

    __slots__ = ("_cycle", "_held", "_protocol", "handover")

    def __init__(self, protocol: StreamProtocol, cycle: RequestResponseCycle) -> None:
        self.handover = Handover()
        self._protocol = protocol
        self._cycle = cycle
        self._held: Message | None = None

    async def run(self, app: App, scope: Scope, receive: Receive) -> None:
        await app(scope, receive, self.send)
        await self._release()

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
            self._protocol.hand_over(first, self.handover, attach, chunked=chunked)


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


def stream_protocol(settings: Settings) -> type[StreamProtocol]:
    """The protocol class bound to these settings, for uvicorn's `http=`."""
    limits = Limits(
        header_bytes=settings.header_bytes,
        header_seconds=settings.header_seconds,
        write_stall_seconds=settings.write_stall_seconds,
    )
    return type("StreamProtocol", (StreamProtocol,), {"limits": limits})
