"""One serving process: its listening socket, its signals, and the drain before it goes.

Runs any ASGI application; what draining means is the application's (`app.state.drain`). More processes are more
replicas: nothing here supervises.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import uvicorn

from ..errors import InvalidInput
from ..settings import Settings
from .push import stream_protocol

logger = logging.getLogger(__name__)

#: Seconds after the drain in which answers that are under way may end. Without a number uvicorn waits for ever.
GRACE_SECONDS: Final = 8
#: Seconds an unused connection is kept: longer than proxies keep theirs (60), or they send into one just closed.
KEEP_ALIVE_SECONDS: Final = 75
#: Open files beside the streams: listeners, connections to Redis and of other requests, files of results.
OTHER_FILES: Final = 500
#: Bytes the kernel holds unsent for one socket. Its own bound is 4 MB, which for a slow client is only a stale queue.
UNSENT_BYTES: Final = 131_072

Listening = Callable[[str], None]


def serve(
    app: Any,
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    on_listening: Listening | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal cuts short. Returns once all is closed.

    `on_listening` is called with the URL as soon as requests are taken; port 0 takes any free one.
    Raises InvalidInput where the address cannot be listened on.
    """
    _allow_files(settings.max_streams + OTHER_FILES)
    server = make_server(app, settings, on_listening=on_listening)
    listener = listen(host, port, settings)
    server.run(sockets=[listener])


async def serve_async(
    app: Any,
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    on_listening: Listening | None = None,
) -> None:
    """As `serve`, in the running loop. Cancelling it leaves open streams to the loop's end: signal instead."""
    server = make_server(app, settings, on_listening=on_listening)
    await server.serve(sockets=[listen(host, port, settings)])


def make_server(
    app: Any, settings: Settings, *, on_listening: Listening | None = None, **options: Any
) -> DrainingServer:
    """A server that does not listen yet. `options` are uvicorn's own (certificates, say), and win over ours."""
    chosen: dict[str, Any] = {
        "http": stream_protocol(settings),
        "ws": "none",
        "lifespan": "on",
        # Ours says the route and never the query, where tokens may stand.
        "access_log": False,
        "log_config": None,
        "server_header": False,
        # X-Forwarded-* from the loopback only; uvicorn's FORWARDED_ALLOW_IPS names others.
        "proxy_headers": True,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }
    return DrainingServer(uvicorn.Config(app, **(chosen | options)), on_listening, _inside(app, settings))


class DrainingServer(uvicorn.Server):
    """uvicorn's server, with a drain between the signal and the exit.

    uvicorn's own handler is replaced, not extended: sse-starlette patches it to end its streams at once, and uvicorn
    raises the signal again at the end, which would make a clean exit look like a kill.
    """

    def __init__(
        self, config: uvicorn.Config, on_listening: Listening | None = None, inside: Inside | None = None
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._inside = inside
        self._stops = 0
        self._signal = "stop"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """The first call drains and then exits, a later one exits now. Safe in a signal handler and from a thread."""
        self._stops += 1
        if self._stops > 1 or not self.started:
            self.should_exit = True
            self.force_exit = self.started
        if self.force_exit and self._loop is not None:
            self._loop.call_soon_threadsafe(self._cut)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Told of later: the signal may have come in the middle of a log line, and a second one inside it raises.
        self._signal = signal.Signals(sig).name
        self.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if self._inside is not None:
            # First of all: where its port is taken, nothing has begun yet.
            await self._inside.open(host_of(sockets))
        await super().startup(sockets)
        _let_the_start_be()
        if self.started and self._on_listening is not None and sockets:
            self._on_listening(url_of(sockets[0], secure=self.config.is_ssl))

    async def on_tick(self, counter: int) -> bool:
        if self._stops and self._drain is None:
            logger.info("%s: draining", self._signal)
            self._drain = asyncio.create_task(self._drain_then_exit())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.force_exit:
            logger.info("%s: exiting now", self._signal)
        if self._drain is not None:
            self._drain.cancel()
        await super().shutdown(sockets)
        self._cut()
        if self._inside is not None:
            await self._inside.close()
        await asyncio.sleep(0)  # for the connections to hear of it
        self._loop = None

    async def _drain_then_exit(self) -> None:
        try:
            drain = drain_of(self.config.app)
            if drain is not None:
                await drain()
        except Exception:
            logger.exception("The drain failed")
        finally:
            self.should_exit = True

    def _cut(self) -> None:
        """Cut what is still open: from Python 3.12 on, closing a listener waits for its connections."""
        for connection in list(self.server_state.connections):
            held: Any = connection  # a stream's own protocol cuts by itself
            getattr(held, "transport", held).abort()


class Inside:
    """A second, smaller server in the same loop: what only those inside may reach, on a port of its own, until the very end."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self._settings = settings
        config = uvicorn.Config(
            app, http=stream_protocol(settings), ws="none", lifespan="off", access_log=False, log_config=None,
            server_header=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = _Unsignalled(config)
        self._serving: asyncio.Task[None] | None = None

    async def open(self, host: str) -> None:
        """Raises InvalidInput where the port cannot be listened on."""
        listener = listen(host, self._settings.admin_port or 0, self._settings, field="ADMIN_PORT")
        logger.info("for the inside: %s/metrics and /admin/streams", url_of(listener))
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        if self._serving is not None:
            await self._serving


class _Unsignalled(uvicorn.Server):
    """Signals are the other server's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _allow_files(wanted: int) -> None:
    """Each stream is an open file. The soft limit is mostly 1,024, for programs that call select(2): ours does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        logger.warning(
            "only %d files may be open here, but MAX_STREAMS wants %d: raise `ulimit -n`", possible, wanted
        )


def _let_the_start_be() -> None:
    """What was made until now lives as long as the process: the garbage collector need not walk over it again and again."""
    gc.collect()
    gc.freeze()


def _inside(app: Any, settings: Settings) -> Inside | None:
    admin = getattr(getattr(app, "state", None), "admin", None)
    return None if admin is None or settings.admin_port is None else Inside(admin, settings)


def host_of(sockets: list[socket.socket] | None) -> str:
    """Where the first of these listens; the loopback where that is no address."""
    for listener in sockets or []:
        if listener.family in {socket.AF_INET, socket.AF_INET6}:
            return str(listener.getsockname()[0])
    return "127.0.0.1"


def drain_of(app: Any) -> Callable[[], Awaitable[None]] | None:
    """The application's drain, if it has one."""
    drain: Callable[[], Awaitable[None]] | None = getattr(getattr(app, "state", None), "drain", None)
    return drain


def listen(host: str, port: int, settings: Settings, *, field: str = "port") -> socket.socket:
    """A listening socket; what is set on it every accepted connection inherits. Raises InvalidInput."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(
            field, f"{host}:{port} cannot be listened on: {why}", "a free port, or 0 for any"
        ) from None
    listener.setblocking(False)
    _tune(listener, settings)
    return listener


def _tune(listener: socket.socket, settings: Settings) -> None:
    """Ask the kernel for what no user-space timer sees. Where it has not heard of it, streams live without."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # RFC 5482: a peer that acknowledges nothing for so long is gone. Otherwise a vanished client's few heartbeats
        # fit the kernel's buffer for a quarter of an hour.
        milliseconds = int(settings.write_stall_seconds * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(milliseconds, 2**31 - 1))


def url_of(listener: socket.socket, *, secure: bool = False) -> str:
    """A URL that a browser on this machine can open."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 # of a browser, not for a socket
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
