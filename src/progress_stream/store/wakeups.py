"""One subscription connection a process, for any number of channels: a wake-up, never the truth.

Written on hiredis' reader: 1 µs a message where redis-py's PubSub costs 10 to 15 (measured on one core). Messages may be lost
at any time; whoever listens re-reads when `confirmed` comes for a channel again, and checks tails.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import parse_url

log = logging.getLogger(__name__)

#: Between two PINGs on the subscription; a connection without any byte for three of them is dead.
PING_SECONDS: Final = 5.0
#: Channels in one SUBSCRIBE after a reconnect.
_AT_ONCE: Final = 500
_CONNECT_SECONDS: Final = 5.0


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class _Connection(asyncio.Protocol):
    """Bytes of one connection; replies go to `owner`."""

    def __init__(self, owner: Wakeups) -> None:
        self._owner = owner
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
        if isinstance(reply, list):
            self._owner._pushed(reply)
        else:
            self.greeting.append(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Wakeups:
    """`heard(channel, payload)` for each message, `confirmed(channel)` for each subscription that Redis has confirmed.

    A second confirmation of a channel means that messages may have been lost before it.
    """

    def __init__(
        self, url: str, heard: Callable[[bytes, bytes], None], confirmed: Callable[[bytes], None]
    ) -> None:
        self._where = parse_url(url)
        self._heard = heard
        self._confirmed = confirmed
        self._channels: set[bytes] = set()
        self._connection: _Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._renewed_at = 0.0
        self.reconnects = 0

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.ready

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="wakeups")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.abort()

    def subscribe(self, channel: bytes) -> None:
        self._channels.add(channel)
        if self.connected and self._connection is not None:
            self._connection.write(_command(b"SUBSCRIBE", channel))

    def unsubscribe(self, channel: bytes) -> None:
        self._channels.discard(channel)
        if self.connected and self._connection is not None:
            self._connection.write(_command(b"UNSUBSCRIBE", channel))

    def renew(self) -> None:
        """Drop the connection and make a new one: it may hang on a server that is no primary any more. Once a second at most."""
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at >= 1.0 and self._connection is not None:
            self._renewed_at = now
            self._connection.abort()

    def _pushed(self, reply: list[Any]) -> None:
        kind = reply[0]
        if kind == b"message":
            self._heard(reply[1], reply[2])
        elif kind == b"subscribe" and reply[1] in self._channels:
            self._confirmed(reply[1])

    async def _run(self) -> None:
        tries = 0
        while True:
            try:
                # Not wait_for: before Python 3.12 it may swallow the cancellation that ends this task.
                async with asyncio.timeout(_CONNECT_SECONDS):
                    connection = await self._connect()
            except (OSError, TimeoutError, ssl.SSLError, ConnectionError) as error:
                log.warning("the subscription to Redis cannot be made: %s", type(error).__name__)
            else:
                tries = 0
                await self._serve(connection)
            self._connection = None
            self.reconnects += 1
            tries += 1
            # Full jitter: the processes of a fleet do not come back to Redis in the same moment.
            await asyncio.sleep(random.uniform(0.02, min(2.0, 0.1 * 2 ** min(tries, 6))))

    async def _serve(self, connection: _Connection) -> None:
        channels = list(self._channels)
        connection.ready = True
        for start in range(0, len(channels), _AT_ONCE):
            connection.write(_command(b"SUBSCRIBE", *channels[start : start + _AT_ONCE]))
        while not connection.lost.done():
            await asyncio.wait([connection.lost], timeout=PING_SECONDS)
            silent = asyncio.get_running_loop().time() - connection.heard_at
            if silent > 3 * PING_SECONDS:
                connection.abort()
                await asyncio.wait([connection.lost], timeout=1)
                return
            connection.write(_command(b"PING"))

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        where = self._where
        if "path" in where:
            _, connection = await loop.create_unix_connection(lambda: _Connection(self), where["path"])
        else:
            context = _tls(where)
            host = where.get("host", "localhost")
            name = host if context is not None else None
            _, connection = await loop.create_connection(
                lambda: _Connection(self), host, where.get("port", 6379), ssl=context, server_hostname=name
            )
        self._connection = connection
        await self._greet(connection)
        return connection

    async def _greet(self, connection: _Connection) -> None:
        if (password := self._where.get("password")) is not None:
            account = [self._where["username"].encode()] if self._where.get("username") else []
            connection.write(_command(b"AUTH", *account, password.encode()))
        # Until the first SUBSCRIBE answers are plain: this one says that the server lets us in.
        connection.write(_command(b"CLIENT", b"SETNAME", b"progress_stream-wakeups"))
        expected = 1 + (password is not None)
        while len(connection.greeting) < expected:
            if connection.lost.done():
                raise ConnectionError("closed")
            await asyncio.sleep(0.005)
        if refused := next(
            (reply for reply in connection.greeting if isinstance(reply, hiredis.ReplyError)), None
        ):
            log.error("Redis refuses the subscription: %s", str(refused).split(" ")[0])
            connection.abort()
            raise ConnectionError("refused")


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
