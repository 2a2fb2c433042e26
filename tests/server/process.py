"""A serving process of its own, for real signals: `python -m tests.server.process [drain|hang|none]`."""

from __future__ import annotations

import asyncio
import sys

import sse_starlette  # noqa: F401  importing it patches uvicorn's signal handler: the worst case

from progress_stream.server.run import serve
from progress_stream.settings import Settings

from .application import Application


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
    serve(app, Settings(), "127.0.0.1", 0, on_listening=lambda url: print(url, flush=True))
    print("returned", flush=True)


if __name__ == "__main__":
    main()
