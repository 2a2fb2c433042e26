"""Clients for a Redis URL, with the retries and time-outs that redis-py's own `from_url` leaves out.

redis-py 8.1 gives a client made from a URL no retries at all, and accepts the retry class of the other flavour
silently without ever retrying (redis-py#4262). A repeated command is harmless to us: every script can be told twice.
Turning redis-py's errors into ours is failures.py's work; waiting longer than a few seconds is our callers'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from ..addresses import EXAMPLES, BadAddress, Cluster, Sentinels, Where, where
from ..errors import InvalidSetting
from ..settings import Settings
from .cluster import AsyncCluster, SyncCluster
from .sentinels import ANSWER_SECONDS, AsyncLeader, AsyncLed, SyncLeader, SyncLed, async_led, sync_led

#: Seconds to wait for one answer. A blocking read of the callers must ask for less (redis-py#2807).
TIMEOUT_SECONDS: Final = 5.0
#: Seconds to wait for a connection: a host that is gone drops packets, and says nothing.
CONNECT_SECONDS: Final = 2.0
#: An unused connection is tried with PING before it is used again: NAT and load balancers forget idle ones.
IDLE_SECONDS: Final = 15
#: How often a command is tried again, and the first and the longest pause in seconds.
RETRIES: Final = 3
PAUSES: Final = (0.05, 0.5)

P = TypeVar("P", redis.BlockingConnectionPool, redis.asyncio.BlockingConnectionPool)


def sync_client(
    url: str,
    *,
    setting: str = "REDIS_URL",
    connections: int = 16,
    timeout_seconds: float = TIMEOUT_SECONDS,
    retries: int = RETRIES,
) -> redis.Redis:
    """A client for threads. Does not connect yet. Raises InvalidSetting, named `setting`, for a URL it cannot use."""
    place = _where(url, setting)
    if isinstance(place, Cluster):

        def node(url: str) -> redis.Redis:
            return redis.Redis.from_pool(_sync_pool(url, setting, connections, timeout_seconds, 0))

        return SyncCluster(place, node, retries)
    if isinstance(place, Sentinels):
        pool = _sync_pool(place.url_of(place.hosts[0]), setting, connections, timeout_seconds, retries)
        leader = SyncLeader(
            place,
            [
                redis.Redis.from_pool(_sync_pool(one, setting, 1, ANSWER_SECONDS, 0))
                for one in _sentinels(place)
            ],
        )
        pool.connection_class = sync_led(pool.connection_class, leader)
        client = cast(SyncLed, SyncLed.from_pool(pool))
        client.leader = leader
        return client
    return redis.Redis.from_pool(_sync_pool(url, setting, connections, timeout_seconds, retries))


def broker_client(
    settings: Settings, *, connections: int = 64, timeout_seconds: float = 30.0, retries: int = 12
) -> redis.Redis:
    """For Dramatiq's `RedisBroker(client=…)`: its own, made from a URL, tries nothing again and knows no Sentinels.

    Does not connect yet. Raises InvalidSetting where the settings name no Redis for the queue.
    """
    url = settings.effective_broker_url
    if url is None:
        raise InvalidSetting("BROKER_URL", "is not set, nor REDIS_URL", EXAMPLES)
    return sync_client(
        url, setting="BROKER_URL", connections=connections, timeout_seconds=timeout_seconds, retries=retries
    )


def async_client(
    url: str,
    *,
    setting: str = "REDIS_URL",
    connections: int = 32,
    timeout_seconds: float = TIMEOUT_SECONDS,
    retries: int = RETRIES,
) -> redis.asyncio.Redis:
    """A client for one event loop. Does not connect yet. Raises InvalidSetting, named `setting`, as above."""
    place = _where(url, setting)
    if isinstance(place, Cluster):

        def node(url: str) -> redis.asyncio.Redis:
            return redis.asyncio.Redis.from_pool(_async_pool(url, setting, connections, timeout_seconds, 0))

        return AsyncCluster(place, node, retries)
    if isinstance(place, Sentinels):
        pool = _async_pool(place.url_of(place.hosts[0]), setting, connections, timeout_seconds, retries)
        leader = async_leader(place, setting)
        pool.connection_class = async_led(pool.connection_class, leader)
        client = cast(AsyncLed, AsyncLed.from_pool(pool))
        client.leader = leader
        return client
    return redis.asyncio.Redis.from_pool(_async_pool(url, setting, connections, timeout_seconds, retries))


def async_leader(place: Sentinels, setting: str = "REDIS_URL") -> AsyncLeader:
    """Who knows where the primary is. Does not connect yet."""
    pools = [_async_pool(one, setting, 1, ANSWER_SECONDS, 0) for one in _sentinels(place)]
    return AsyncLeader(place, [redis.asyncio.Redis.from_pool(pool) for pool in pools])


def _sentinels(place: Sentinels) -> list[str]:
    return [place.sentinel_url(one) for one in place.hosts]


def _sync_pool(
    url: str, setting: str, connections: int, timeout_seconds: float, retries: int
) -> redis.BlockingConnectionPool:
    return _pool(
        redis.BlockingConnectionPool.from_url,
        url,
        setting,
        max_connections=connections,
        retry=Retry(_pauses(), retries),
        **_common(timeout_seconds),
    )


def _async_pool(
    url: str, setting: str, connections: int, timeout_seconds: float, retries: int
) -> redis.asyncio.BlockingConnectionPool:
    pool = _pool(
        redis.asyncio.BlockingConnectionPool.from_url,
        url,
        setting,
        max_connections=connections,
        retry=AsyncRetry(_pauses(), retries),
        **_common(timeout_seconds),
    )
    pool.connection_class = _telling(pool.connection_class)
    return pool


def _telling(kind: Any) -> Any:
    """A kind of connection that says ConnectionError where it was closed before a write.

    uvloop raises RuntimeError then, which redis-py hands on: nobody tries again, and a browser was answered 500 while Redis
    came back.
    """

    class Telling(kind):  # type: ignore[misc]
        async def send_packed_command(self, *args: Any, **options: Any) -> None:
            try:
                await super().send_packed_command(*args, **options)
            except RuntimeError as error:
                await self.disconnect(nowait=True)
                raise redis.ConnectionError("the connection was closed") from error

    return Telling


def _pauses() -> ExponentialWithJitterBackoff:
    base, cap = PAUSES
    return ExponentialWithJitterBackoff(base=base, cap=cap)


def _common(timeout_seconds: float) -> dict[str, Any]:
    return {
        # More callers than connections wait their turn for as long as they would for an answer.
        "timeout": timeout_seconds,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": min(timeout_seconds, CONNECT_SECONDS),
        "health_check_interval": IDLE_SECONDS,
        # RESP3 brings nothing we use, and costs half as much again a pub/sub message (redis-py's push handler).
        "protocol": 2,
    }


def _pool(make: Callable[..., P], url: str, setting: str, **options: Any) -> P:
    try:
        pool = make(url, **options)
        # Makes no connection; but here, and not at the first command, an unknown option in the URL is refused.
        pool.connection_class(**pool.connection_kwargs)
        return pool
    except (ValueError, TypeError, redis.RedisError):
        # Their text may quote the URL, and with it the password.
        raise InvalidSetting(setting, "is not a usable Redis URL", EXAMPLES) from None


def _where(url: str, setting: str) -> Where:
    try:
        return where(url)
    except BadAddress as error:
        raise InvalidSetting(setting, error.fault, error.allowed) from None
