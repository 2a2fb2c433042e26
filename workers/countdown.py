"""The actor `countdown`: takes its time and says so once a second. Something to watch without a file."""

import time
from typing import Final

import dramatiq

from progress_stream import track

MAX_SECONDS: Final = 3_600


@dramatiq.actor(
    progress=True,
    submit=True,
    title="A countdown",
    max_retries=1,
    time_limit=(2 * MAX_SECONDS + 60) * 1_000,
    throws=(ValueError,),
)
def countdown(seconds: int = 20, quiet: int = 0) -> dict[str, int]:
    """Count down from a number of seconds, after so many in which nothing is said."""
    for name, value in (("seconds", seconds), ("quiet", quiet)):
        if not 0 <= value <= MAX_SECONDS:
            raise ValueError(f"{name}: {value} is not possible (allowed: 0 to {MAX_SECONDS})")
    time.sleep(quiet)
    for _ in track(range(seconds), unit="s"):
        time.sleep(1)
    return {"seconds": seconds}
