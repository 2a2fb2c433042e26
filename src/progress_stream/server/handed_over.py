"""A connection after the hand-over: a bare protocol that carries bytes between one socket and one stream.

Everything of HTTP is over but the chunks. Kept small on purpose, for there are thousands: slots, no task, no timer of
its own, no dictionary. What happened before is `push.py`'s; what is written, the hub's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, cast

from ..streaming.sink import Attach, Ended, Stream
from .wheel import Stall, Wheel, untaken

logger = logging.getLogger(__name__)

#: Bytes. Above the high mark the stream waits, below the low one it goes on. uvloop's own low mark would be 16 bytes:
#: the socket would run dry between two writes.
HIGH_WATER: Final = 65_536
LOW_WATER: Final = 16_384
#: Pieces from so many bytes on (a history) are written as they are, not copied into a chunk: thousands who are slow to take it wait
#: for the same piece, and the event loop holds it once. For smaller ones two more buffers cost more: 16 % of a flood.
SHARED_BYTES: Final = 32_768
#: Bytes a client may send after its request. It has nothing to say; a few are a pipelined request or a stray newline.
MAX_CLIENT_BYTES: Final = 65_536
#: Seconds for a client to take the last bytes. Below uvicorn's graceful shutdown: a stalled client must not hold it up.
CLOSE_SECONDS: Final = 5.0

#: What was made a chunk last, and the chunk: a round of writes brings thousands the same piece.
_last: tuple[bytes, bytes] = (b"", b"")


def _chunk_of(data: bytes) -> bytes:
    """RFC 9112 §7.1."""
    global _last
    piece, chunk = _last
    if piece is not data:
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        _last = data, chunk
    return chunk


class HandedOver(asyncio.Protocol):
    """Implements `Sink`. Stands in uvicorn's set of connections until it is gone, so that a shutdown reaches it."""

    __slots__ = (
        "_began",
        "_chunked",
        "_connections",
        "_ended",
        "_ending",
        "_heard",
        "_paused",
        "_stall",
        "_stall_seconds",
        "_stream",
        "_transport",
        "_wheel",
        "_written",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        wheel: Wheel,
        connections: set[Any],
        stall_seconds: float,
        chunked: bool,
        ended: Ended | None,
    ) -> None:
        self._transport: asyncio.Transport | None = transport
        self._wheel = wheel
        self._connections = connections
        self._stall_seconds = stall_seconds
        self._chunked = chunked
        self._ended = ended
        self._stream: Stream | None = None
        self._stall: Stall | None = None
        self._paused = False
        self._ending = False
        self._heard = 0
        self._written = 0
        self._began = wheel.loop.time()

    def take_over(self, first: bytes, attach: Attach, *, paused: bool) -> None:
        """Begin: the transport speaks to this protocol from now on. Raises what `attach` raises, after cutting."""
        transport = cast(asyncio.Transport, self._transport)
        self._connections.add(self)
        transport.set_protocol(self)
        if paused:  # the transport does not say again what it said to its last protocol
            self.pause_writing()
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        self.write(first)
        try:
            self._stream = attach(self)
        except BaseException:
            self.abort()
            raise

    # What the hub may do.

    @property
    def ready(self) -> bool:
        transport = self._transport
        return transport is not None and not (self._paused or self._ending or transport.is_closing())

    @property
    def unsent(self) -> int:
        """Bytes that the client has not acknowledged."""
        return 0 if self._transport is None else untaken(self._transport)

    def write(self, data: bytes) -> None:
        transport = self._transport
        # uvloop raises for a write after the connection is lost; an empty chunk would end the response.
        if transport is None or self._ending or transport.is_closing() or not data:
            return
        self._written += len(data)
        if not self._chunked:
            transport.write(data)
        elif len(data) < SHARED_BYTES:
            transport.write(_chunk_of(data))
        else:
            transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))

    def end(self) -> None:
        if self._transport is None or self._ending:
            return
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        self._ending = True
        self._transport.close()
        # close() waits for the client to take the rest, for ever.
        self._watch(min(self._stall_seconds, CLOSE_SECONDS))

    def abort(self) -> None:
        self._ending = True
        if self._transport is not None:
            self._transport.abort()

    # What the event loop says.

    def pause_writing(self) -> None:
        self._paused = True
        if not self._ending:
            self._watch(self._stall_seconds)

    def resume_writing(self) -> None:
        self._paused = False
        if not self._ending:
            self._watch(None)
            self._tell("on_ready")

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard > MAX_CLIENT_BYTES:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = True
        self._transport = None
        self._watch(None)
        self._connections.discard(self)
        self._tell("on_lost")
        self._stream = None
        self._report()

    # What uvicorn says.

    def shutdown(self) -> None:
        """The server goes away. Called for each connection in uvicorn's set."""
        self._tell("on_shutdown")
        self.end()

    def _watch(self, seconds: float | None) -> None:
        """Replace the deadline for a socket that takes nothing; None: no deadline."""
        if self._stall is not None:
            self._stall.drop()
        transport = self._transport
        wanted = seconds is not None and transport is not None
        self._stall = Stall(self._wheel, transport, seconds) if wanted else None  # type: ignore[arg-type]

    def _tell(self, what: str) -> None:
        """Call the stream. What it raises must not reach the event loop, nor leave a stream half alive."""
        if self._stream is None:
            return
        call: Callable[[], None] = getattr(self._stream, what)
        try:
            call()
        except Exception:
            logger.exception("A stream failed in %s", what)
            self.abort()

    def _report(self) -> None:
        if self._ended is None:
            return
        try:
            self._ended(self._wheel.loop.time() - self._began, self._written)
        except Exception:
            logger.exception("The end of a stream could not be reported")
