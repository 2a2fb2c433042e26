"""An event loop whose time is made up: waiting takes none, and what happens when is decided by the program alone."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

#: Seconds. What comes one after the other is at least so far apart.
INSTANT = 1e-9


class _Selector(selectors.SelectSelector):
    """Never waits: the time that nothing happens in is over at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing is going to happen")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """What is due at one time runs in no order that can be counted on, but always in the same: see INSTANT."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now
