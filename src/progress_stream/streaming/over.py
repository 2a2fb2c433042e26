"""Remembers for a minute who has seen the end of what: some clients ask for ever after a 204, which must cost nothing."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

_SECONDS: Final = 60.0
_MOST: Final = 10_000


class Over:
    """Who has seen the end of what: (owner, job, id) for a minute, so that a client that asks for ever costs nothing."""

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def holds(self, owner: str, job: str, asked: str) -> bool:
        until = self._until.get((owner, job, asked), 0.0)
        return until > asyncio.get_running_loop().time()

    def add(self, owner: str, job: str, asked: str) -> None:
        self._until[owner, job, asked] = asyncio.get_running_loop().time() + _SECONDS
        while len(self._until) > _MOST:
            self._until.popitem(last=False)

    def clear(self) -> None:
        self._until.clear()
