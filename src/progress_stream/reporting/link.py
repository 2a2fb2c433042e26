"""The way to Redis as the flusher's thread finds it: it answers, it hangs, or it is away. What is sent is for others to decide.

Those who wait for an answer ask here how long waiting makes sense. Times are of `time.monotonic`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from ..errors import StoreUnavailable
from ..store.calls import Call, Command
from ..store.sync import SyncStore

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Pauses while Redis is away: the first and the longest.
PAUSE_SECONDS: Final = (0.05, 2.0)
#: Before the jobs of a shard that is away are tried again beside those of the others.
SHARD_PAUSE_SECONDS: Final = 0.2


class Link:
    """Used by one thread to send, by any to wait."""

    def __init__(self, store: SyncStore) -> None:
        self.store = store
        self.sent_at = 0.0
        self._away_since: float | None = None
        self._sending_since: float | None = None
        self._answers = False
        self._failures = 0

    @property
    def is_away(self) -> bool:
        """Nothing was answered since it went away. A server that is back has answered before all that waited is with it."""
        return self._away_since is not None and not self._answers

    @property
    def in_outage(self) -> bool:
        """That Redis is away was said, and not yet that it is back."""
        return self._away_since is not None

    def wait(self, done: threading.Event, milliseconds: float) -> bool:
        """True when it is done. Waits no longer, and only once an outage: what is known to be away is not waited for again."""
        budget = milliseconds / 1000
        deadline = time.monotonic() + budget
        trouble = (self._away_since if self.is_away else None) or self._sending_since
        if trouble is not None:
            deadline = min(deadline, trouble + budget)
        return done.wait(max(0.0, deadline - time.monotonic()))

    def send(self, call: Call[T] | Command[T]) -> T:
        """What it answered, which ends an outage for whoever waits. Raises StoreError."""
        answer = self.during(lambda: self.store.send(call))
        self._answers = True
        return answer

    def during(self, call: Callable[[], T]) -> T:
        """The call's own answer; who waits meanwhile knows since when it has been on its way."""
        self._sending_since = self.sent_at = time.monotonic()
        try:
            return call()
        finally:
            self._sending_since = None

    def missed(self, error: StoreUnavailable) -> None:
        """Redis is away. Waits before the next try, longer each time."""
        self._note_away("progress is kept in memory: %s", error)
        self._answers = False
        first, longest = PAUSE_SECONDS
        pause = min(longest, first * 2 ** min(self._failures, 10))
        self._failures += 1
        time.sleep(pause * random.uniform(0.5, 1.0))

    def missed_some(self, error: StoreUnavailable) -> None:
        """One shard of several is away: the jobs of the others are not held up by it."""
        self._note_away("progress of some jobs is kept in memory: %s", error)
        time.sleep(SHARD_PAUSE_SECONDS)

    def reached(self) -> None:
        """All that waited is with Redis."""
        if self._away_since is not None:
            log.warning("Redis is back after %.1f seconds", time.monotonic() - self._away_since)
        self._away_since = None
        self._failures = 0

    def _note_away(self, text: str, error: StoreUnavailable) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning(text, error)
