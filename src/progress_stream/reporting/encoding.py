"""Refuses a message encoder that runs what it reads. Messages themselves are Dramatiq's."""

from __future__ import annotations

import dramatiq
from dramatiq.middleware import MiddlewareError


class UnsafeEncoder(MiddlewareError):
    """Dramatiq passes it on to whoever declares an actor, sends a message or starts a worker, where it would only log others."""


def check_encoder() -> None:
    """Raises UnsafeEncoder for Dramatiq's PickleEncoder, also one that was derived from it.

    Unpickling runs code: whoever can write to the broker's server could run any in its workers.
    """
    if isinstance(dramatiq.get_encoder(), dramatiq.PickleEncoder):
        raise UnsafeEncoder(
            "Dramatiq's encoder is PickleEncoder: whoever can write to the broker could run any code in its workers "
            "(allowed: JSONEncoder, or one that makes plain data)"
        )
