"""What is looked at: two jobs of the server's own, by stream and by long-poll. Judges nothing.

A long-poll ends with each answer, so nothing on the way has a reason to keep it: it tells when an event could have come, without
a word about clocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from ...client.probing import Answer, Server
from ...errors import ProgressStreamError
from ...events import TERMINAL

TITLE: Final = "progress-stream doctor"
#: What a worker may take to begin, and a network to hand over, beyond the job's own seconds.
GRACE_SECONDS: Final = 20.0
#: Shorter than anything that cuts idle answers.
POLL_SECONDS: Final = 3
#: Any program's: such a stream lives as long as its job, whatever the server's STREAM_SECONDS.
ACCEPT: Final = "*/*"


@dataclass(frozen=True, slots=True)
class Jobs:
    """One that speaks all the time, and one that is silent (None: it could not be started, and `why`)."""

    talking: str
    silent: str | None
    why_not_silent: str = ""


@dataclass(slots=True)
class Observed:
    """One way to the server: how the streams of both jobs came, and where a return led."""

    talking: Answer
    silent: Answer | None
    resumed: Answer
    resumed_by_url: Answer
    #: When each event of the talking job could be had.
    reference: dict[str, float] = field(default_factory=dict)


def start_jobs(
    server: Server, actor: str, talking: Mapping[str, Any], silent: Mapping[str, Any] | None
) -> Jobs:
    """Raises ProgressStreamError where not even the first can be started."""
    first = server.submit(actor, talking, TITLE)
    if silent is None:
        return Jobs(first, None, "this actor's jobs are not known to be silent")
    try:
        return Jobs(first, server.submit(actor, silent, TITLE))
    except ProgressStreamError as error:
        return Jobs(first, None, str(error))


def observe(server: Server, direct: Server | None, jobs: Jobs, seconds: float) -> list[Observed]:
    """The way by `server`, and the direct one where there is one. Takes as long as the jobs do, or a little longer."""
    ways = [server] if direct is None else [server, direct]
    deadline = time.monotonic() + seconds + GRACE_SECONDS

    def too_late(_answer: Answer) -> bool:
        return time.monotonic() > deadline

    def stream(way: Server, job: str) -> Answer:
        return way.read(job, accept=ACCEPT, enough=too_late, silence_seconds=seconds + GRACE_SECONDS)

    with ThreadPoolExecutor(2 * len(ways) + 1) as threads:
        reference = threads.submit(poll_to_end, ways[-1], jobs.talking, lambda: time.monotonic() > deadline)
        talking = [threads.submit(stream, way, jobs.talking) for way in ways]
        silent = [None if jobs.silent is None else threads.submit(stream, way, jobs.silent) for way in ways]
    came = reference.result()
    return [
        Observed(
            spoken.result(),
            None if kept is None else kept.result(),
            *_come_back(way, jobs.talking, came),
            came,
        )
        for way, spoken, kept in zip(ways, talking, silent, strict=True)
    ]


def poll_to_end(server: Server, job: str, give_up: Callable[[], bool]) -> dict[str, float]:
    """When a long-poll brought each event, by its id. What fails on the way is asked again."""
    came: dict[str, float] = {}
    position = ""
    while not give_up():
        try:
            body = server.poll(job, position, POLL_SECONDS)
        except ProgressStreamError:
            time.sleep(0.5)
            continue
        if body is None:
            break
        now = time.monotonic()
        events = [event for event in body.get("events", []) if isinstance(event, dict)]
        came |= {str(event.get("id")): now for event in events}
        position = str(body.get("last_event_id") or position)
        if any(event.get("type") in TERMINAL for event in events):
            break
    return came


def _come_back(server: Server, job: str, came: Mapping[str, float]) -> tuple[Answer, Answer]:
    """With the position in the header, and in the URL."""
    position = next(iter(came), "0-0")

    def begun(answer: Answer) -> bool:
        return bool(answer.frames)

    return (
        server.read(job, position=position, accept=ACCEPT, enough=begun),
        server.read(job, query={"last_event_id": position}, accept=ACCEPT, enough=begun),
    )
