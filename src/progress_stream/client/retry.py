"""How long to wait before a connection is tried again. Pure: clock and randomness are arguments, nothing sleeps here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: Added at most to what a server asked for, so that a fleet that was told the same second does not come back in it.
TOLD_JITTER: Final = 0.25
#: Doublings after which only the cap counts.
MAX_DOUBLINGS: Final = 16


@dataclass(slots=True)
class Backoff:
    """Full jitter: a wait drawn between nothing and a ceiling that doubles with every failure in a row.

    A connection counts as good once it brought something, or held for `steady_seconds`: a server that takes every
    connection and drops it at once must not be asked without a pause.
    """

    random: Callable[[], float]
    clock: Callable[[], float]
    base_seconds: float = 1.0
    cap_seconds: float = 30.0
    steady_seconds: float = 10.0
    _failures: int = 0
    _opened_at: float | None = None

    def opened(self) -> None:
        """A connection stands."""
        self._opened_at = self.clock()

    def progressed(self) -> None:
        """It brought something new."""
        self._failures = 0

    def wait(self, told: float | None = None) -> float:
        """Seconds until the next try. `told`: what the server asked for, which is the least."""
        if self._opened_at is not None and self.clock() - self._opened_at >= self.steady_seconds:
            self._failures = 0
        self._opened_at = None
        ceiling: float = min(self.cap_seconds, self.base_seconds * 2 ** min(self._failures, MAX_DOUBLINGS))
        self._failures += 1
        return ceiling * self.random() if told is None else self.spread(told)

    def spread(self, told: float) -> float:
        """What a server asked for, and a little more."""
        return told * (1 + TOLD_JITTER * self.random())
