"""A serving process of its own, for real signals: `python -m tests.server.process [drain|hang|none|line]`."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import sys

import sse_starlette  # noqa: F401  importing it patches uvicorn's signal handler: the worst case

from progress_stream.server.run import serve
from progress_stream.settings import Settings

from .application import Application


class Interrupted(io.RawIOBase):
    """Standard error whose writing is interrupted by SIGTERM, once, where a line says so."""

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        text = bytes(data)  # type: ignore[call-overload]
        if b"interrupt me" in text:
            signal.raise_signal(signal.SIGTERM)
        return os.write(2, text)


def main() -> None:
    app = Application()

    async def drain() -> None:
        print("draining", flush=True)
        if sys.argv[1] == "hang":
            await asyncio.sleep(3_600)
        for stream in app.streams:
            stream.sink.write(b"event: draining\ndata: {}\n\n")
            stream.sink.end()
        print("drained", flush=True)

    if sys.argv[1] != "none":
        app.state.drain = drain

    def on_listening(url: str) -> None:
        print(url, flush=True)
        if sys.argv[1] == "line":
            sys.stderr = io.TextIOWrapper(io.BufferedWriter(Interrupted()), line_buffering=True)
            logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
            print("interrupt me", file=sys.stderr)

    serve(app, Settings(), "127.0.0.1", 0, on_listening=on_listening)
    print("returned", flush=True)


if __name__ == "__main__":
    main()
