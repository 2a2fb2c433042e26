"""How far a job is, how fast it goes and when it may end. Pure: the clock is an argument."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, Final

from ..errors import InvalidEvent

#: The rate follows the last so many seconds: long enough to be calm, short enough to show that something slowed down.
SMOOTHING_SECONDS: Final = 10.0
#: An estimate from less than this would jump about.
ETA_AFTER_SECONDS: Final = 5.0
ETA_AFTER_UPDATES: Final = 3
#: Beyond 2^53 a JavaScript reader would get another number.
LARGEST: Final = 2**53


def number(name: str, value: object) -> int | float:
    """A count that an event can hold; numpy's integers become plain ones. Raises InvalidEvent."""
    if isinstance(value, float):
        usable: int | float = float(value)
    elif isinstance(value, bool):
        raise InvalidEvent(name, f"{value!r} is not usable", "a number from 0 to 2^53")
    else:
        try:
            usable = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            raise InvalidEvent(
                name, f"a {type(value).__name__} is not usable", "a number from 0 to 2^53"
            ) from None
    if not math.isfinite(usable) or not 0 <= usable < LARGEST:
        raise InvalidEvent(name, f"{usable!r:.40} is not usable", "a number from 0 to 2^53")
    return usable


@dataclass(slots=True)
class Meter:
    """`done` never falls and never passes `total`: a lower value is ignored, a higher one raises `total`."""

    done: int | float | None = None
    total: int | float | None = None
    _began: float | None = None
    _at: float = 0.0
    _sampled: int | float = 0
    _weight: float = 0.0
    _moved: float = 0.0
    _updates: int = 0

    def set(self, done: int | float | None, total: int | float | None) -> None:
        """What was reported. Both must have passed `number`."""
        if total is not None:
            self.total = total
        if done is not None and (self.done is None or done > self.done):
            self.done = done
        if self.done is not None and self.total is not None and self.done > self.total:
            self.total = self.done

    def sample(self, now: float) -> dict[str, Any]:
        """What a `progress` event says now: done, total, rate, eta, each None while it is not known."""
        if self.done is not None:
            self._measure(now, self.done)
        rate = self._moved / self._weight if self._weight > 0 else None
        return {"done": self.done, "total": self.total, "rate": _short(rate), "eta": self._eta(now, rate)}

    def _measure(self, now: float, done: int | float) -> None:
        if self._began is None:
            # What was done before the first report says nothing about speed: a job may begin at row 5,000.
            self._began, self._at, self._sampled = now, now, done
            return
        seconds, moved = now - self._at, done - self._sampled
        if seconds <= 0:
            return
        self._updates += moved > 0
        # Both sums fade alike, so the quotient is a true mean from the first sample on.
        fading = math.exp(-seconds / SMOOTHING_SECONDS)
        self._weight = self._weight * fading + seconds
        self._moved = self._moved * fading + moved
        self._sampled, self._at = done, now

    def _eta(self, now: float, rate: float | None) -> float | None:
        if self.done is None or self.total is None or not rate or self._began is None:
            return None
        if now - self._began < ETA_AFTER_SECONDS or self._updates < ETA_AFTER_UPDATES:
            return None
        return min(round((self.total - self.done) / rate, 1), float(LARGEST - 1))


def _short(rate: float | None) -> float | None:
    """Four digits: more would be noise that every watcher pays for."""
    return None if rate is None else min(float(f"{rate:.4g}"), float(LARGEST - 1))
