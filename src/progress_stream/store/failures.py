"""What redis-py raises, turned into our errors: one table for both senders. Texts name the kind of fault, never an address."""

from __future__ import annotations

from typing import Final

from redis import exceptions

from ..errors import AccountRefused, NotAPrimary, StoreUnavailable


class SentinelsRefuse(exceptions.AuthenticationError):
    """Not the refusal of the server that they name: Sentinels have accounts of their own."""


_KINDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (SentinelsRefuse, "the Sentinels refuse the password or the account"),
    (exceptions.AuthenticationError, "Redis refuses the password or the account"),
    (exceptions.NoPermissionError, "the Redis account may not do this"),
    (exceptions.MaxConnectionsError, "every connection to Redis is in use"),
    (exceptions.BusyLoadingError, "Redis is loading its data"),
    (exceptions.TimeoutError, "Redis did not answer in time"),
    (exceptions.ConnectionError, "Redis cannot be reached"),
    (exceptions.TryAgainError, "a slot of the Redis Cluster is on its way to another node"),
    (exceptions.ClusterDownError, "a part of the Redis Cluster has no primary"),
    (exceptions.AskError, "the Redis Cluster sends from node to node"),
    (exceptions.OutOfMemoryError, "Redis is full (maxmemory)"),
    (exceptions.ResponseError, "Redis refused a command"),
    (OSError, "Redis cannot be reached"),
)
#: What is over a moment later, or elsewhere.
_PASSING: Final = (
    exceptions.AskError, exceptions.TryAgainError, exceptions.ClusterDownError, exceptions.ConnectionError,
    exceptions.TimeoutError, OSError,
)  # fmt: skip
_REFUSALS: Final = (exceptions.AuthenticationError, exceptions.NoPermissionError)
#: Everything a sender may meet.
FAILURES: Final = (exceptions.RedisError, OSError)


def is_passing(error: object) -> bool:
    """Whether the same command may be answered a moment later, or elsewhere."""
    return isinstance(error, _PASSING)


def mapped(error: Exception) -> StoreUnavailable:
    """Our error for one of redis-py's. The cause is chained by the caller for logs that may see it."""
    text = str(error)
    if isinstance(error, exceptions.ReadOnlyError) or text.startswith("READONLY") or "READONLY" in text[:120]:
        return NotAPrimary("the Redis server that answered is not a primary")
    if "MISCONF" in text[:120]:
        return StoreUnavailable("Redis cannot write to its disk")
    kind = next((words for known, words in _KINDS if isinstance(error, known)), "Redis failed")
    return (AccountRefused if isinstance(error, _REFUSALS) else StoreUnavailable)(kind)
