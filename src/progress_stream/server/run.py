"""One serving process: its listening socket, its signals, and the drain before it goes.

Runs any ASGI application; what draining means is the application's (`app.state.drain`). Nothing here supervises: more
processes on one port are `many.py`'s.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import uvicorn

from ..errors import InvalidInput
from ..settings import Settings
from .bounded import BoundedProtocol
from .notify import Systemd
from .push import stream_protocol

logger = logging.getLogger(__name__)

#: Seconds after the drain in which answers that are under way may end. Without a number uvicorn waits for ever.
GRACE_SECONDS: Final = 8
#: Seconds beyond that to close Redis' connections and whatever else is open.
CLOSE_SECONDS: Final = 2
#: Seconds an unused connection is kept: longer than proxies keep theirs (60), or they send into one just closed.
KEEP_ALIVE_SECONDS: Final = 75
#: Open files beside the streams: listeners, connections to Redis and of other requests, files of results.
OTHER_FILES: Final = 500
#: Bytes the kernel holds unsent for one socket. Its own bound is 4 MB, which for a slow client is only a stale queue.
UNSENT_BYTES: Final = 131_072
#: Seconds after which systemd is told that we are ready though we are not: without Redis we wait for it, and a restart brings none.
PATIENCE_SECONDS: Final = 20.0
#: How often to look whether the application is ready.
LOOK_SECONDS: Final = 0.2

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

    `on_listening` is called with the URL as soon as requests are taken; port 0 takes any free one. systemd is told, where
    it listens. Raises InvalidInput where the address cannot be listened on.
    """
    allow_files(settings)
    systemd = Systemd.here()
    server = make_server(app, settings, on_listening=on_listening, systemd=systemd)
    if systemd.listens:
        signal.signal(signal.SIGHUP, server.handle_reload)
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
    app: Any,
    settings: Settings,
    *,
    on_listening: Listening | None = None,
    systemd: Systemd | None = None,
    **options: Any,
) -> DrainingServer:
    """A server that does not listen yet. `options` are uvicorn's own (certificates, say), and win over ours."""
    config = config_of(app, settings, **options)
    return DrainingServer(config, settings, on_listening, inside_of(app, settings), systemd)


def config_of(app: Any, settings: Settings, **options: Any) -> uvicorn.Config:
    """How uvicorn is to serve the application."""
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
    return uvicorn.Config(app, **(chosen | options))


class DrainingServer(uvicorn.Server):
    """uvicorn's server, with a drain between the signal and the exit.

    uvicorn's own handler is replaced, not extended: sse-starlette patches it to end its streams at once, and uvicorn
    raises the signal again at the end, which would make a clean exit look like a kill.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        settings: Settings,
        on_listening: Listening | None = None,
        inside: Inside | None = None,
        systemd: Systemd | None = None,
    ) -> None:
        super().__init__(config)
        #: The application has said that it is ready, once. Looked for only where somebody waits for it.
        self.ready = False
        #: When the event loop turned last.
        self.turned_at = time.monotonic()
        self._settings = settings
        self._on_listening = on_listening
        self._inside = inside
        self._systemd = systemd or Systemd()
        self._reloads = 0
        self._proving: asyncio.Task[None] | None = None
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

    def handle_reload(self, sig: int, frame: FrameType | None) -> None:
        self._reloads += 1

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if self._inside is not None:
            # First of all: where its port is taken, nothing has begun yet.
            await self._inside.open(host_of(sockets))
        await super().startup(sockets)
        _let_the_start_be()
        if self.started and self._on_listening is not None and sockets:
            self._on_listening(url_of(sockets[0], secure=self.config.is_ssl))
        if self.started and self._is_awaited:
            self._proving = asyncio.create_task(self._become_ready())

    async def on_tick(self, counter: int) -> bool:
        self.turned_at = time.monotonic()
        self._systemd.alive()
        if self._reloads:
            self._answer_reload()
        if self._stops and self._drain is None:
            logger.info("%s: draining", self._signal)
            self._systemd.stopping(leave_seconds(self._settings))
            self._drain = asyncio.create_task(self._then_exit(drain_of(self.config.app)))
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.force_exit:
            logger.info("%s: exiting now", self._signal)
        for task in (self._drain, self._proving):
            if task is not None:
                task.cancel()
        await super().shutdown(sockets)
        self._cut()
        if self._inside is not None:
            await self._inside.close()
        await asyncio.sleep(0)  # for the connections to hear of it
        self._loop = None

    @property
    def _is_awaited(self) -> bool:
        """Whether somebody waits to hear that it is ready."""
        return self._systemd.listens

    async def _become_ready(self) -> None:
        look = fault_of(self.config.app)
        impatient_at = time.monotonic() + PATIENCE_SECONDS
        while (fault := await look()) is not None:
            if time.monotonic() > impatient_at:
                impatient_at = float("inf")
                self._systemd.ready(f"not ready yet: {fault}")
            await asyncio.sleep(LOOK_SECONDS)
        self.ready = True
        if not self._stops:
            self._systemd.ready("serving")

    def _answer_reload(self) -> None:
        """systemd waits for an answer, and reads the log for what it means."""
        self._reloads = 0
        self._systemd.reloading()
        why = (
            "nothing was reloaded: one process cannot take its own place, `--processes` would (or restart it)"
        )
        logger.warning("SIGHUP: %s", why)
        self._systemd.ready(why)

    async def _then_exit(self, drain: Callable[[], Awaitable[None]] | None) -> None:
        try:
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

    def __init__(self, app: Any, settings: Settings, listener: socket.socket | None = None) -> None:
        """Without a `listener` it makes its own, where the other server listens."""
        self._settings = settings
        self._listener = listener
        config = uvicorn.Config(
            app, http=stream_protocol(settings), ws="none", lifespan="off", access_log=False, log_config=None,
            server_header=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = _Unsignalled(config)
        self._serving: asyncio.Task[None] | None = None

    async def open(self, host: str) -> None:
        """Raises InvalidInput where the port cannot be listened on."""
        listener = self._listener or listen_inside(host, self._settings)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        if self._serving is not None:
            await self._serving

    def stop_accepting(self) -> None:
        stop_accepting(self._server)


class _Unsignalled(uvicorn.Server):
    """Signals are the other server's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def allow_files(settings: Settings) -> None:
    """Each stream is an open file. The soft limit is mostly 1,024, for programs that call select(2): ours does not."""
    _allow_files(settings.max_streams + OTHER_FILES)


def _allow_files(wanted: int) -> None:
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


def inside_of(app: Any, settings: Settings, listener: socket.socket | None = None) -> Inside | None:
    """The server for ADMIN_PORT, where there is one."""
    admin = _of_state(app, "admin")
    return None if admin is None or settings.admin_port is None else Inside(admin, settings, listener)


def leave_seconds(settings: Settings) -> float:
    """How long a process takes to go when it is asked to: its drain, what is under way, and some to close all that is open."""
    return settings.ready_seconds + settings.drain_seconds + GRACE_SECONDS + CLOSE_SECONDS


def stop_accepting(server: uvicorn.Server) -> None:
    """Leave new connections to the processes that share the socket; who is connected is told to come back to those."""
    for listener in server.servers:
        listener.close()
    for connection in _requests_of(server):
        connection.leave()


async def all_have_asked(server: uvicorn.Server, seconds: float) -> None:
    """Wait so long at most for those who are connected to ask something. Who has been answered needs no waiting for."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not all(one.has_asked for one in _requests_of(server)):  # noqa: ASYNC110 # sockets set no Event
        await asyncio.sleep(LOOK_SECONDS)


def _requests_of(server: uvicorn.Server) -> list[BoundedProtocol]:
    """Connections on which HTTP is spoken; of one that was handed over nothing is left but its stream."""
    known: set[Any] = server.server_state.connections
    return [connection for connection in known if isinstance(connection, BoundedProtocol)]


def host_of(sockets: list[socket.socket] | None) -> str:
    """Where the first of these listens; the loopback where that is no address."""
    for listener in sockets or []:
        if listener.family in {socket.AF_INET, socket.AF_INET6}:
            return str(listener.getsockname()[0])
    return "127.0.0.1"


def drain_of(app: Any) -> Callable[[], Awaitable[None]] | None:
    """The application's drain, if it has one."""
    drain: Callable[[], Awaitable[None]] | None = _of_state(app, "drain")
    return drain


def send_away_of(app: Any) -> Callable[[], Awaitable[None]] | None:
    """What of the drain is left where others answer at the same address."""
    send_away: Callable[[], Awaitable[None]] | None = _of_state(app, "send_away")
    return send_away


def fault_of(app: Any) -> Callable[[], Awaitable[str | None]]:
    """What asks the application why it is not ready; None is the answer of one that is, or knows nothing of it."""

    async def nothing() -> None:
        return None

    look: Callable[[], Awaitable[str | None]] = _of_state(app, "fault") or nothing
    return look


def _of_state(app: Any, name: str) -> Any:
    return getattr(getattr(app, "state", None), name, None)


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
    tune(listener, settings)
    return listener


def listen_inside(host: str, settings: Settings) -> socket.socket:
    """The listening socket of ADMIN_PORT. Raises InvalidInput."""
    listener = listen(host, settings.admin_port or 0, settings, field="ADMIN_PORT")
    logger.info("for the inside: %s/metrics and /admin/streams", url_of(listener))
    return listener


def tune(listener: socket.socket, settings: Settings) -> None:
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
