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
    time_limit=(MAX_SECONDS + 60) * 1_000,
    throws=(ValueError,),
)
def countdown(seconds: int = 20) -> dict[str, int]:
    """Count down from a number of seconds."""
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"seconds: {seconds} is not possible (allowed: 0 to {MAX_SECONDS})")
    for _ in track(range(seconds), unit="s"):
        time.sleep(1)
    return {"seconds": seconds}
