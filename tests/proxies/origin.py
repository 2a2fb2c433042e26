"""A server of two streams on loopback: one of the smallest events there are, and one that falls silent.

It shows what a proxy does by itself: ours has no event of under fifty bytes, and never falls silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

#: The path of each, as those of a job's events.
SMALL: Final = "/jobs/small/events"
SILENT: Final = "/jobs/silent/events"
EVENTS: Final = 12
SPACING_SECONDS: Final = 0.5
#: Longer than any time-out that is tried.
SILENT_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 10.0

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store, no-transform\r\n"
    b"X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
READY: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def event(n: int) -> bytes:
    """Twenty bytes or so."""
    return b"id: 1-%d\ndata: %d\n\n" % (n, n)


@contextmanager
def origin() -> Iterator[str]:
    """The URL of the server; every other path is a health check, and is well."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(_serve, "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(PATIENCE_SECONDS)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_hang_up(server), loop).result(PATIENCE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_SECONDS)


async def _hang_up(server: asyncio.Server) -> None:
    server.close()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        # A forward proxy may leave the whole address in it.
        stream = next((frames for end, frames in STREAMS.items() if path.endswith(end)), None)
        writer.write(HEAD if stream else READY)
        if stream is not None:
            async for frame in stream():
                writer.write(b"%x\r\n%b\r\n" % (len(frame), frame))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        await writer.drain()
    writer.close()


async def _small() -> AsyncIterator[bytes]:
    """Each leaves at the same moment on all streams, under the same id: at every half second by the clock."""
    first = int(time.monotonic() / SPACING_SECONDS) + 1
    for n in range(first, first + EVENTS):
        await asyncio.sleep(n * SPACING_SECONDS - time.monotonic())
        yield event(n)


async def _silent() -> AsyncIterator[bytes]:
    yield event(1)
    await asyncio.sleep(SILENT_SECONDS)


STREAMS: Final = {SMALL: _small, SILENT: _silent}
