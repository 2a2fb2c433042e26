"""A small ASGI application that offers the hand-over, and keeps what its streams were told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import State

from progress_stream.streaming.sink import EXTENSION, Handover, Sink

FIRST = b"retry: 100\nevent: position\ndata: {}\n\n"
FRAMES = [b"id: 1-1\ndata: one\n\n", b"id: 1-2\ndata: " + b"x" * 20_000 + b"\n\n", b"data: last\n\n"]
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store, no-transform")]
BLOCK = b"data: " + b"y" * 65_000 + b"\n\n"


class Recorded:
    """A stream's side of one connection. `calls` holds what it was told, in order."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.calls: list[str] = []
        self.ready_at_first = sink.ready

    def on_ready(self) -> None:
        self.calls.append("ready")

    def on_lost(self) -> None:
        self.calls.append("lost")

    def on_shutdown(self) -> None:
        self.calls.append("shutdown")
        self.sink.write(b"event: draining\ndata: {}\n\n")


class Finite(Recorded):
    """Writes the frames and ends."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        for frame in FRAMES:
            sink.write(frame)
        sink.end()


class Flood(Recorded):
    """Writes whenever it may, and leaves the loop to others in between."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self.fill()

    def on_ready(self) -> None:
        super().on_ready()
        self.fill()

    def fill(self) -> None:
        for _ in range(32):
            if not self.sink.ready:
                return
            self.sink.write(BLOCK)
        asyncio.get_running_loop().call_soon(self.fill)


class Failing(Recorded):
    """A stream whose hub is broken."""

    def on_shutdown(self) -> None:
        raise RuntimeError("broken on purpose")


class Application:
    """`/finite`, `/open`, `/flood`, `/failing`: streams. `/padded`: one behind a head of 8 MiB. `/late`, `/deaf`: busy at first."""

    def __init__(self) -> None:
        self.state = State()
        self.streams: list[Any] = []
        self.taken: list[bool | None] = []
        self.ended: list[tuple[float, int]] = []
        self.disconnects = 0
        self.started = threading.Event()
        self.kinds: dict[str, Callable[[Sink], Recorded]] = {
            "/finite": Finite,
            "/open": Recorded,
            "/padded": Recorded,
            "/flood": Flood,
            "/failing": Failing,
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif scope["path"] in self.kinds:
            await self.stream(scope, receive, send)
        elif scope["path"] == "/ticking":
            await self.tick(receive, send)
        elif scope["path"] == "/raises":
            await self.offer(scope, send, Recorded)
            raise RuntimeError("raised after the hand-over, on purpose")
        elif scope["path"] == "/late":
            await asyncio.sleep(1.5)
            await self.plain(receive, send)
        elif scope["path"] == "/deaf":
            await asyncio.sleep(0.5)
            await self.reply(b"never read", send)
        else:
            await self.plain(receive, send)

    async def live(self, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async def stream(self, scope: Any, receive: Any, send: Any) -> None:
        taken = await self.offer(scope, send, self.kinds[scope["path"]])
        self.taken.append(taken)
        if not taken:
            for frame in FRAMES:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def offer(self, scope: Any, send: Any, kind: Callable[[Sink], Recorded]) -> bool | None:
        padding = [(b"x-padding", b"p" * 2**23)] if scope["path"] == "/padded" else []
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS + padding})
        handover: Handover | None = scope.get("extensions", {}).get(EXTENSION)
        if handover is None:
            await send({"type": "http.response.body", "body": FIRST, "more_body": True})
            return None
        await send(handover.first(FIRST, lambda sink: self.attach(kind, sink), self.note_end))  # type: ignore[arg-type]
        return handover.taken

    def attach(self, kind: Callable[[Sink], Recorded], sink: Sink) -> Recorded:
        stream = kind(sink)
        self.streams.append(stream)
        return stream

    def note_end(self, seconds: float, size: int) -> None:
        self.ended.append((seconds, size))

    async def tick(self, receive: Any, send: Any) -> None:
        """An endless answer the ordinary way, until the server says that the client left."""
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        left = asyncio.create_task(receive())
        self.started.set()
        while not left.done():
            await send({"type": "http.response.body", "body": b": tick\n", "more_body": True})
            await asyncio.sleep(0.02)
        self.disconnects += left.result()["type"] == "http.disconnect"

    async def plain(self, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await self.reply(b"plain %d" % size, send)

    async def reply(self, body: bytes, send: Any) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The condition's value as soon as it is true; fails after so many seconds."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError("did not happen in time")
        time.sleep(0.01)
    return value
