"""Whether a figure that was sampled over time grows: least squares, and how far to trust them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

#: The first third of a run is left out: caches fill, pools grow to their size, an allocator learns what it needs.
KEPT: Final = 2 / 3


@dataclass(frozen=True, slots=True)
class Trend:
    """What a figure gains in an hour, and the standard error of that."""

    slope: float
    error: float

    def is_flat(self, bound: float) -> bool:
        """It does not gain more than `bound` an hour for certain: a figure that only goes up and down has a large error. Falling is
        no growth."""
        return self.slope - 2 * self.error <= bound


def trend(seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """Of the last two thirds of the samples. Raises ValueError for fewer than three of them."""
    first = len(seconds) - round(len(seconds) * KEPT)
    hours, kept = [second / 3_600 for second in seconds[first:]], values[first:]
    count = len(hours)
    if count < 3:
        raise ValueError("too few samples to say anything")
    middle, mean = sum(hours) / count, sum(kept) / count
    spread = sum((hour - middle) ** 2 for hour in hours)
    slope = sum((hour - middle) * (value - mean) for hour, value in zip(hours, kept, strict=True)) / spread
    rests = (value - mean - slope * (hour - middle) for hour, value in zip(hours, kept, strict=True))
    return Trend(slope, sqrt(sum(rest**2 for rest in rests) / (count - 2) / spread))
