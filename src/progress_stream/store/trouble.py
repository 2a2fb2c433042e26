"""What goes wrong again and again: said when it begins, every few minutes while it lasts, and once when it is over.

Whose trouble it is and what counts as its end is known to who holds it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

#: Between two lines of one text: seldom enough to be read, often enough to be in the part of a log that is looked at.
AGAIN_SECONDS: Final = 300.0


class Trouble:
    """Of one place. `calm_seconds`: so long nothing may have been noted before it is over. For one thread."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        calm_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._calm = calm_seconds
        self._clock = clock
        self._began: float | None = None
        self._noted_at = 0.0
        self._said_at: dict[str, float] = {}

    def note(self, text: str, *, level: int = logging.WARNING, patience: float = 0.0) -> None:
        """It went wrong once more. Nothing is said of what has lasted for less than `patience` seconds."""
        self._noted_at = now = self._clock()
        if self._began is None:
            self._began = now
        said_at = self._said_at.get(text)
        if now - self._began >= patience and (said_at is None or now - said_at >= AGAIN_SECONDS):
            self._said_at[text] = now
            self._log.log(level, text)

    def over(self, text: str) -> None:
        """It went well. Said where the trouble was."""
        if self._began is None or self._clock() - self._noted_at < self._calm:
            return
        if self._said_at:
            self._log.warning("%s after %.1f seconds", text, self._clock() - self._calm - self._began)
        self.forget()

    def forget(self) -> None:
        """Somebody else tells of it from now on."""
        self._began = None
        self._said_at.clear()
