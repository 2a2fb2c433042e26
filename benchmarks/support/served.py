"""One way of serving a stream, as a process of its own: `python -m benchmarks.support.served WAY REDIS_URL FOLDER`.

hand-over  progress_stream as `progress-stream serve` runs it
send       the same application under uvicorn's own HTTP protocol
tutorial   Starlette, sse-starlette and an XREAD BLOCK for each watcher, as tutorials have it
hello      Starlette's shortest answer, under the same uvicorn: what a request costs before anything is done for it
bare       an asyncio protocol that writes the same frames on a timer: no HTTP, no Redis, no positions; a floor, no product
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import redis.asyncio
import uvicorn
import uvloop
from pydantic import SecretStr
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from progress_stream import events
from progress_stream.api.app import create_app
from progress_stream.frames import sse
from progress_stream.server.run import listen, make_server, url_of
from progress_stream.settings import Settings, load
from progress_stream.store.keys import Keys

from .load import DATA, SECRET, TYPE
from .machine import SERVER_CORE, pin

#: As the hub gathers.
_GATHER_SECONDS = 0.05


def _say(url: str) -> None:
    print(url, flush=True)


def _settings(url: str, folder: Path) -> Settings:
    """As by default, but for limits that the benchmark itself would hit. What is written straight to the store gives no signs of
    life; marking thousands of such jobs as stalled is not what is measured."""
    return load(
        redis_url=url, data=folder, jwt_secret=SecretStr(SECRET), max_streams_per_owner=1_000_000,
        ready_seconds=0, drain_seconds=0,
        stalled_seconds=3_600,
    )  # fmt: skip


def _ours(settings: Settings, **options: Any) -> None:
    server = make_server(create_app(settings), settings, on_listening=_say, **options)
    server.run(sockets=[listen("127.0.0.1", 0, settings)])


def _tutorial(settings: Settings) -> None:
    keys = Keys(settings.namespace)
    # Each blocking read keeps a connection of its own; with redis-py's own time-out of 5 s it would fail.
    client = redis.asyncio.Redis.from_url(
        settings.redis_url or "", decode_responses=True, max_connections=100_000, socket_timeout=None
    )

    async def follow(request: Request) -> EventSourceResponse:
        key = keys.events(request.path_params["id"])

        async def entries() -> AsyncIterator[dict[str, str]]:
            last = request.headers.get("last-event-id") or "0-0"
            while True:
                reply: Any = await client.xread({key: last}, block=15_000, count=100)
                for id, fields in reply[0][1] if reply else ():
                    last = id
                    yield {"id": id, "event": fields["t"], "data": fields["d"]}

        return EventSourceResponse(entries())

    app = Starlette(routes=[Route("/jobs/{id}/events", follow)])
    listener = listen("127.0.0.1", 0, settings)
    _say(url_of(listener))
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def _hello(settings: Settings) -> None:
    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    listener = listen("127.0.0.1", 0, settings)
    _say(url_of(listener))
    config = uvicorn.Config(
        Starlette(routes=[Route("/", hello)]),
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http="httptools",
    )
    uvicorn.Server(config).run(sockets=[listener])


class _Bare(asyncio.Protocol):
    """`GET /flood/<events>/<rate>` makes all others get so many frames at that rate."""

    everybody: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1].split(b"/")
        self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if path[1] == b"flood":
            self.transport.write(b"0\r\n\r\n")
            _flood(asyncio.get_running_loop(), self.everybody, int(path[2]), int(path[3]))
        else:
            self.everybody.add(self.transport)
            self.transport.write(_chunk(b"retry: 1000\nid: 0-0\nevent: position\ndata: {}\n\n"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.everybody.discard(self.transport)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _flood(loop: asyncio.AbstractEventLoop, everybody: set[asyncio.Transport], count: int, rate: int) -> None:
    began, sent = loop.time(), 0
    step = max(_GATHER_SECONDS, 1 / rate)

    def tick() -> None:
        nonlocal sent
        due = min(count, int((loop.time() - began) * rate))
        data = events.encode(events.make("0" * 36, TYPE, at=events.now_text(), data=DATA, attempt=1))
        frames = b"".join(sse.stored(b"1700000000000-%d" % n, TYPE.encode(), data) for n in range(sent, due))
        if frames:
            chunk = _chunk(frames)
            for transport in everybody:
                transport.write(chunk)
        sent = due
        if sent < count:
            # In steps from the beginning: what the writes take must not make room to gather more.
            loop.call_at(began + (int((loop.time() - began) / step) + 1) * step, tick)

    tick()


def _bare(settings: Settings) -> None:
    async def run() -> None:
        listener = listen("127.0.0.1", 0, settings)
        server = await asyncio.get_running_loop().create_server(_Bare, sock=listener)
        _say(url_of(listener))
        await server.serve_forever()

    uvloop.run(run())


def main() -> None:
    pin(SERVER_CORE)
    way, url, folder = sys.argv[1:]
    settings = _settings(url, Path(folder))
    serve: dict[str, Callable[[], None]] = {
        "hand-over": lambda: _ours(settings),
        "send": lambda: _ours(settings, http="httptools"),
        "tutorial": lambda: _tutorial(settings),
        "hello": lambda: _hello(settings),
        "bare": lambda: _bare(settings),
    }
    serve[way]()


if __name__ == "__main__":
    main()
