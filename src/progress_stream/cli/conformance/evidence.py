"""What the rules look at: one job of the server's own, followed by several watchers while it ran. Judges nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from ...client.probing import Answer, Server
from ...errors import ProgressStreamError
from ...frames.sse import Frame

#: A job that takes longer is none to examine a server with.
JOB_SECONDS: Final = 120.0
#: Events after which the late watchers join: `queued` and `started`, so that there is something that they must not get.
EVENTS_BEFORE_LATE: Final = 2
#: `queued`, `started`, one more and the end: with fewer there is nothing to resume between.
LEAST_EVENTS: Final = 4
#: Bytes of a stream after which it is cut: within the first frames, and within an event or two.
SHORTEST_CUT, LONGEST_CUT = 1, 900
TITLE: Final = "progress-stream conformance"

#: What a user of the stream gets of each event.
Event = tuple[str, str, str]


def shown(frames: list[Frame]) -> list[Event]:
    return [(frame.id, frame.event, frame.data) for frame in frames]


@dataclass(slots=True)
class Cuts:
    """What a watcher got whose connections were cut at random bytes, and how often they were."""

    events: list[Event]
    gaps: int = 0
    connections: int = 0
    last_id: str = ""


@dataclass(slots=True)
class Evidence:
    """One job from its beginning to its end, as each watcher saw it."""

    server: Server
    job: str
    whole: Answer
    second: Answer
    late: Answer
    late_snapshot: Answer
    cut: Cuts
    #: Every status that the server gave for a stream.
    statuses: set[int]
    #: Starts a job that lasts longer than the time between two heartbeats; its id.
    start_another: Callable[[], str]
    #: The same server for somebody who may not see the job.
    stranger: Server | None = None

    def ask(self, **how: Any) -> Answer:
        """The job's stream once more, now that it has ended."""
        answer = self.server.read(how.pop("job", self.job), **how)
        self.statuses.add(answer.status)
        return answer

    @property
    def events(self) -> list[Event]:
        return shown(self.whole.events)

    @property
    def ids(self) -> list[str]:
        return self.whole.ids


def gather(
    server: Server,
    actor: str,
    args: Mapping[str, Any],
    random: Random,
    long_args: Mapping[str, Any] | None = None,
) -> Evidence:
    """Starts a job and follows it to its end. Raises ProgressStreamError where there is no job to follow.

    `long_args`: with which the actor takes longer than a heartbeat; else it is started with the same ones.
    """
    job = server.submit(actor, args, TITLE)
    deadline = time.monotonic() + JOB_SECONDS
    enough_for_late = threading.Event()

    def first_watcher(answer: Answer) -> bool:
        if len(answer.events) >= EVENTS_BEFORE_LATE:
            enough_for_late.set()
        return time.monotonic() > deadline

    def first() -> Answer:
        try:
            return server.read(job, enough=first_watcher)
        finally:
            enough_for_late.set()

    def late(**how: Any) -> Answer:
        enough_for_late.wait()
        return server.read(job, enough=in_time, **how)

    def in_time(_answer: Answer) -> bool:
        return time.monotonic() > deadline

    with ThreadPoolExecutor(5) as threads:
        whole = threads.submit(first)
        second = threads.submit(server.read, job, enough=in_time)
        cut = threads.submit(follow_with_cuts, server, job, random, lambda: time.monotonic() > deadline)
        live = threads.submit(late, position="$")
        snapshot = threads.submit(late, query={"replay": "snapshot"})
    found = whole.result()
    if found.ending in {"left", "silent"}:
        _complain_of_the_job(server, job)
    if len(found.ids) < LEAST_EVENTS:
        raise ProgressStreamError(
            f"the stream of the job {job} held {len(found.ids)} events ({_ending(found)}); "
            f"{LEAST_EVENTS} or more are needed: use an actor that reports, and a token that may follow its job"
        )
    return Evidence(
        server,
        job,
        found,
        second.result(),
        live.result(),
        snapshot.result(),
        cut.result(),
        statuses={found.status, second.result().status, live.result().status, snapshot.result().status},
        start_another=lambda: server.submit(actor, args if long_args is None else long_args, TITLE),
    )


def _ending(answer: Answer) -> str:
    return f"answered {answer.status or 'nothing'}, {answer.ending} {answer.fault}".rstrip()


def _complain_of_the_job(server: Server, job: str) -> None:
    state = server.state(job)
    if not state.get("finished_at"):
        server.cancel(job)
        why = state.get("waiting_for") or "use an actor that ends in less time"
        raise ProgressStreamError(f"the job {job} did not end: it is {state.get('state')}; {why}")


def follow_with_cuts(
    server: Server, job: str, random: Random, give_up: Callable[[], bool], most_connections: int = 500
) -> Cuts:
    """As a browser on a bad line: cut at random bytes, back at once with its last id, until it is told to stop by 204."""
    seen = Cuts([])
    while seen.connections < most_connections and not give_up():
        answer = server.read(
            job,
            position=seen.last_id or None,
            most_bytes=random.randint(SHORTEST_CUT, LONGEST_CUT),
        )
        seen.connections += 1
        # An empty answer is none of ours: one would ask again for ever.
        if answer.status != 200 or (answer.ending == "clean" and not answer.frames):
            break
        seen.events += shown(answer.events)
        seen.gaps += answer.types.count("snapshot")
        seen.last_id = answer.last_id or seen.last_id
    return seen
