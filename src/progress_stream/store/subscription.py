"""One subscription connection to Redis, made again for as long as it is wanted. What is subscribed to is its owner's to say.

Written on hiredis' reader: 1 µs a message where redis-py's PubSub costs 10 to 15 (measured on one core).
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, cast

import hiredis
from redis.asyncio.connection import parse_url
from redis.exceptions import RedisError

from ..addresses import Address, Sentinels
from .failures import mapped
from .sentinels import CHECK_SECONDS, AsyncLeader
from .trouble import Trouble

log = logging.getLogger(__name__)

#: Between two PINGs on the subscription; a connection without any byte for three of them is dead.
PING_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 5.0


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class _Refused(ConnectionError):
    """Redis' own first word for it; the rest may name the account."""


class Road(Protocol):
    """Where the next connection leads."""

    #: Between two questions whether it leads elsewhere by now.
    look_seconds: float
    #: Whether a server that is no primary is left at once.
    only_primary: bool

    async def find(self) -> Mapping[str, Any]:
        """redis-py's own names for host, port, password, TLS. Raises OSError or redis' errors."""

    async def has_moved(self) -> bool:
        """Whether what `find` found last is not where it would lead now."""


class Straight:
    """To the server of a URL."""

    look_seconds = PING_SECONDS
    only_primary = False

    def __init__(self, url: str) -> None:
        self._where = parse_url(url)

    async def find(self) -> Mapping[str, Any]:
        return self._where

    async def has_moved(self) -> bool:
        return False


class Led:
    """To the primary that Sentinels name."""

    look_seconds = CHECK_SECONDS
    only_primary = True

    def __init__(self, place: Sentinels, leader: AsyncLeader) -> None:
        self._place = place
        self._leader = leader
        self._address: Address | None = None

    async def find(self) -> Mapping[str, Any]:
        self._leader.doubt()
        self._address = await self._leader.address()
        return parse_url(self._place.url_of(self._address))

    async def has_moved(self) -> bool:
        return self._address != await self._leader.address()


class _Connection(asyncio.Protocol):
    """Bytes of one connection; what is pushed goes to `pushed`, errors to `refused`."""

    def __init__(
        self, pushed: Callable[[list[Any]], None], refused: Callable[[hiredis.ReplyError], None]
    ) -> None:
        self._pushed = pushed
        self._refused = refused
        self._reader = hiredis.Reader()
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard_at = asyncio.get_running_loop().time()
        self.greeting: list[Any] = []
        self.ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports for unix sockets are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except hiredis.ProtocolError:
            self.abort()

    def _take(self, reply: Any) -> None:
        if not self.ready:
            self.greeting.append(reply)
        elif isinstance(reply, list):
            self._pushed(reply)
        elif isinstance(reply, hiredis.ReplyError):
            self._refused(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Line:
    """`ready()` is called for each connection that is there now and subscribed to nothing, `lost()` when it is gone."""

    def __init__(
        self,
        road: Road,
        pushed: Callable[[list[Any]], None],
        ready: Callable[[], None],
        *,
        lost: Callable[[], None] = lambda: None,
        refused: Callable[[hiredis.ReplyError], None] = lambda error: None,
    ) -> None:
        self._road = road
        self._pushed = pushed
        self._ready = ready
        self._lost = lost
        self._refused = refused
        self._connection: _Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._renewed_at = 0.0
        self._trouble = Trouble(log)
        self.reconnects = 0

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.ready

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="wakeups")

    def end(self) -> None:
        """From now on no connection is made any more, and the one that is there is dropped."""
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.abort()

    async def stop(self) -> None:
        """The same, and waits for it."""
        self.end()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.abort()

    def write(self, *words: bytes) -> None:
        """Nothing where no connection is ready: `ready` is called for the next one."""
        if self.connected and self._connection is not None:
            self._connection.write(command(*words))

    def renew(self) -> None:
        """Drop the connection and make a new one: it may hang on a server that is no primary any more. Once a second at most."""
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at >= 1.0 and self._connection is not None:
            self._renewed_at = now
            self._connection.abort()

    async def _run(self) -> None:
        tries = 0
        while True:
            try:
                # Not wait_for: before Python 3.12 it may swallow the cancellation that ends this task.
                async with asyncio.timeout(_CONNECT_SECONDS):
                    connection = await self._connect()
            except _Refused as error:
                self._trouble.note(f"Redis refuses the subscription: {error}", level=logging.ERROR)
            except (OSError, TimeoutError, ssl.SSLError, ConnectionError, RedisError) as error:
                self._trouble.note(f"the subscription to Redis cannot be made: {_words(error)}")
            else:
                self._trouble.over("the subscription to Redis is there again")
                tries = 0
                await self._serve(connection)
            self._connection = None
            self.reconnects += 1
            tries += 1
            self._lost()
            # Full jitter: the processes of a fleet do not come back to Redis in the same moment.
            await asyncio.sleep(random.uniform(0.02, min(2.0, 0.1 * 2 ** min(tries, 6))))

    async def _serve(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.ready = True
        self._ready()
        connection.write(command(b"PING"))
        pinged_at = loop.time()
        while not connection.lost.done():
            await asyncio.wait([connection.lost], timeout=self._road.look_seconds)
            if loop.time() - connection.heard_at > 3 * PING_SECONDS or await self._has_moved():
                connection.abort()
                await asyncio.wait([connection.lost], timeout=1)
                return
            if loop.time() - pinged_at >= PING_SECONDS:
                connection.write(command(b"PING"))
                pinged_at = loop.time()

    async def _has_moved(self) -> bool:
        try:
            return await self._road.has_moved()
        except RedisError:
            return False

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        where = await self._road.find()
        make = self._make
        if "path" in where:
            _, connection = await loop.create_unix_connection(make, where["path"])
        else:
            context = _tls(where)
            host = where.get("host", "localhost")
            name = host if context is not None else None
            _, connection = await loop.create_connection(
                make, host, where.get("port", 6379), ssl=context, server_hostname=name
            )
        self._connection = connection
        await self._greet(connection, where)
        return connection

    def _make(self) -> _Connection:
        return _Connection(self._pushed, self._refused)

    async def _greet(self, connection: _Connection, where: Mapping[str, Any]) -> None:
        greeting: list[tuple[bytes, ...]] = [(b"CLIENT", b"SETNAME", b"progress_stream-wakeups")]
        if (password := where.get("password")) is not None:
            account = [where["username"].encode()] if where.get("username") else []
            greeting.insert(0, (b"AUTH", *account, password.encode()))
        if self._road.only_primary:
            greeting.append((b"ROLE",))
        for words in greeting:
            connection.write(command(*words))
        # Until the first SUBSCRIBE answers are plain: they say that the server lets us in.
        while len(connection.greeting) < len(greeting):
            if connection.lost.done():
                raise ConnectionError("closed")
            await asyncio.sleep(0.005)
        errors = (reply for reply in connection.greeting if isinstance(reply, hiredis.ReplyError))
        if refused := next(errors, None):
            connection.abort()
            raise _Refused(str(refused).split(" ")[0])
        if self._road.only_primary and connection.greeting[-1][0] != b"master":
            connection.abort()
            raise ConnectionError("not a primary")


def _words(error: Exception) -> str:
    """Of the socket's and TLS' own errors the kind says most."""
    return str(mapped(error)) if isinstance(error, RedisError) else type(error).__name__


def _tls(where: Mapping[str, Any]) -> ssl.SSLContext | None:
    """The TLS settings of a `rediss://` URL, by redis-py's own names."""
    if where.get("connection_class") is None or "SSL" not in where["connection_class"].__name__:
        return None
    context = ssl.create_default_context(cafile=where.get("ssl_ca_certs"))
    if (
        str(where.get("ssl_check_hostname", "true")).lower() == "false"
        or where.get("ssl_cert_reqs") == "none"
    ):
        context.check_hostname = False
    if where.get("ssl_cert_reqs") == "none":
        context.verify_mode = ssl.CERT_NONE
    if where.get("ssl_certfile"):
        context.load_cert_chain(where["ssl_certfile"], where.get("ssl_keyfile"))
    return context
