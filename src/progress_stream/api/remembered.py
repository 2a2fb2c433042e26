"""What a sign-in must remember between its two halves: in Redis, by its hash, for as long as a sign-in may take."""

from __future__ import annotations

import hashlib
from typing import Final

from ..auth.login import LOGIN_SECONDS
from ..store.aio import AsyncStore

_KIND: Final = "login"


class Remembered:
    """Short texts under keys that nobody learns from Redis. Raises StoreUnavailable, each of them."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    async def get(self, key: str) -> str | None:
        """None: nothing is known of it any more."""
        found = await self._store.send(self._store.commands.get_record(_KIND, hash_of(key)))
        return None if found is None else found.decode()

    async def set(self, key: str, value: str, expires: int = LOGIN_SECONDS) -> None:
        """For so many seconds, and no longer than a sign-in may take."""
        seconds = min(expires, LOGIN_SECONDS)
        await self._store.send(self._store.commands.put_record(_KIND, hash_of(key), value.encode(), seconds))

    async def delete(self, key: str) -> None:
        await self._store.send(self._store.commands.drop_record(_KIND, hash_of(key)))


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
