"""What the hub and a connection promise each other, and how a response offers its connection to the hub.

Holds no I/O: `server/` implements it on a bare socket, `api/` on an ordinary ASGI `send`.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final, Protocol

#: In an ASGI scope's `extensions`: a `Handover`. In the first body message: an `Attach`.
EXTENSION: Final = "progress_stream.handover"


class Sink(Protocol):
    """One connection that takes bytes. Nothing here waits, and nothing raises because the client left.

    Not promised: that what was written arrives. Only the next request's `Last-Event-ID` tells.
    """

    @property
    def ready(self) -> bool:
        """May take more now: neither paused nor ending nor gone."""
        ...

    @property
    def unsent(self) -> int:
        """Bytes that wait here or in the kernel for the client to take them."""
        ...

    def write(self, data: bytes) -> None:
        """Send whole frames. Also kept while not ready, for last words; whoever writes history then grows memory."""
        ...

    def end(self) -> None:
        """End the response cleanly after all that was written. A client that takes nothing is cut soon after."""
        ...

    def abort(self) -> None:
        """Cut the connection at once."""
        ...


class Stream(Protocol):
    """The hub's side of one connection. What it raises ends this connection and no other."""

    def on_ready(self) -> None:
        """The sink takes bytes again after a pause."""
        ...

    def on_lost(self) -> None:
        """The connection is gone: never write again. Once, and always last, whoever ended it."""
        ...

    def on_shutdown(self) -> None:
        """The server goes away now: say last words. The sink ends itself if this does not."""
        ...


Attach = Callable[[Sink], Stream]

#: Called once when a handed-over connection is gone: its life in seconds, and the bytes of frames written to it.
Ended = Callable[[float, int], None]


class Handover:
    """A server's offer, in the scope of one request, to take the connection over from the response.

    The response sends what `first()` makes as its first body message. If it arrives unchanged at the server, `taken`
    is true once that `send` returns: then the connection is the stream's, and the response returns and sends no more.
    """

    __slots__ = ("body", "ended", "taken")

    def __init__(self) -> None:
        self.taken = False
        self.body: bytes | None = None
        self.ended: Ended | None = None

    def first(self, body: bytes, attach: Attach, ended: Ended | None = None) -> MutableMapping[str, Any]:
        """The first body message. `ended` serves an access line: servers write none for a connection taken over."""
        self.body, self.ended = body, ended
        return {"type": "http.response.body", "body": body, "more_body": True, EXTENSION: attach}

    def untouched(self, message: MutableMapping[str, Any]) -> Attach | None:
        """What the message offers, if nobody between the response and the server changed its bytes."""
        attach: Attach | None = message.get(EXTENSION)
        changed = self.body is not None and self.body != message.get("body")
        return None if changed or not message.get("more_body") else attach
