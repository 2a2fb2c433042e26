"""What is tried behind each proxy, and what came of it in figures. The tests judge them, and `tests.proxies.table` prints them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from progress_stream import watch
from progress_stream.auth.verify import sign
from progress_stream.settings import Settings
from tests.chaos.check import Fault, faults_of
from tests.chaos.faults import WebProcess
from tests.chaos.traffic import OWN_TYPE, Program
from tests.proxies.origin import EVENTS, SILENT, SMALL, SPACING_SECONDS
from tests.proxies.standing import HEARTBEAT_SECONDS, IDLE_SECONDS, Standing
from tests.proxies.watchers import Crowd, arrivals, lateness, watching
from tests.support.server import SECRET

#: The silence of a job that waits: more than twice the proxy's patience.
SILENCE_SECONDS: Final = 2.25 * IDLE_SECONDS
FEW: Final = 20


class Site:
    """Two web servers of one Redis, each in a process of its own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.token = sign(SECRET, "alice", "jobs:read", 3_600)
        env = {
            "PROGRESS_STREAM_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            # All of the crowd are one owner.
            "PROGRESS_STREAM_MAX_STREAMS_PER_OWNER": "5000",
        }
        self.webs = [WebProcess(settings, SECRET, folder / f"web{n}", env=env) for n in range(2)]

    @property
    def urls(self) -> list[str]:
        return [web.url for web in self.webs]

    @property
    def direct(self) -> Standing:
        """The way without a proxy."""
        return Standing(self.webs[0].url, lambda: None)

    @contextmanager
    def up(self) -> Iterator[Site]:
        with self.webs[0], self.webs[1]:
            for web in self.webs:
                _until_ready(web)
            yield self


def _until_ready(web: WebProcess) -> None:
    deadline = time.monotonic() + 20
    while not web.is_ready:
        if time.monotonic() > deadline:
            raise TimeoutError("the server did not become ready")
        time.sleep(0.05)


# Small events, silence


@dataclass(frozen=True, slots=True)
class Prompt:
    """Seconds after the direct way: of our events, and of the smallest there are."""

    late: list[float]
    small: list[float]
    faults: list[Fault]
    encodings: set[str]

    @property
    def late_ms(self) -> float:
        """The median: on a busy machine some are late by either way."""
        return 1_000 * median(self.late)

    @property
    def small_ms(self) -> float:
        return 1_000 * median(self.small)


async def prompt(site: Site, proxy: Standing, bare: Standing, origin: Standing) -> Prompt:
    """A job that speaks each half second, and what a server that is not ours sends (`bare`; `origin` without the proxy)."""
    speaking = Program(site.settings, EVENTS, EVENTS * SPACING_SECONDS).start()
    straight, through, small, small_straight = await asyncio.gather(
        watching(site.direct, speaking.job, site.token, 1),
        watching(proxy, speaking.job, site.token, 1),
        arrivals(bare, SMALL, 3 * EVENTS * SPACING_SECONDS),
        arrivals(origin, SMALL, 3 * EVENTS * SPACING_SECONDS),
    )
    speaking.join()
    return Prompt(
        late=lateness(through.times[0], straight.times[0]),
        small=lateness(small[0], small_straight[0]),
        faults=faults_of(through.history, OWN_TYPE, EVENTS),
        encodings=through.encodings,
    )


@dataclass(frozen=True, slots=True)
class Idle:
    """What silence did, behind a proxy that takes it for IDLE_SECONDS."""

    #: Connections that the watcher of a silent job needed.
    connects: int
    faults: list[Fault]
    #: After how many seconds a stream without heartbeats was cut.
    cut_after: float


async def idle(site: Site, short: Standing, bare: Standing) -> Idle:
    """A job that says nothing, and a server that falls silent (`bare`)."""
    waiting = Program(site.settings, 1, SILENCE_SECONDS).start()
    crowd, silent = await asyncio.gather(
        watching(short, waiting.job, site.token, 1), arrivals(bare, SILENT, 4 * IDLE_SECONDS)
    )
    waiting.join()
    return Idle(crowd.connects, faults_of(crowd.history, OWN_TYPE, 1), silent[1])


async def quiet(
    site: Site, proxy: Standing, short: Standing, bare: Standing, origin: Standing
) -> tuple[Prompt, Idle]:
    """Both at once, for neither is much work."""
    return await asyncio.gather(prompt(site, proxy, bare, origin), idle(site, short, bare))


# Streams that are cut, many of them, and what ends under them


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a crowd."""

    crowd: Crowd
    faults: list[Fault]
    notes: list[str] = field(default_factory=list)

    @property
    def answers(self) -> str:
        """Without those that a stream has anyway."""
        strange = {
            status: many for status, many in sorted(self.crowd.statuses.items()) if status not in {200, 204}
        }
        return ", ".join(f"{many} × {status}" for status, many in strange.items())


RESUMED_EVENTS: Final = 200
RESUMING: Final = 8


def _some_bytes(random: Random) -> int:
    """Within the first frames, or after a dozen events."""
    return random.randint(1, 400) if random.random() < 0.25 else random.randint(400, 6_000)


async def resumes(site: Site, proxy: Standing) -> Outcome:
    """Each watcher hangs up again and again, in the middle of whatever comes."""
    program = Program(site.settings, RESUMED_EVENTS, 2).start()
    crowd = await watching(proxy, program.job, site.token, RESUMING, cut=_some_bytes)
    program.join()
    return Outcome(crowd, faults_of(crowd.history, OWN_TYPE, RESUMED_EVENTS))


MANY_EVENTS: Final = 10


async def many(site: Site, proxy: Standing, count: int) -> Outcome:
    """All at once, and the job ends only when all are there."""
    all_are_in = threading.Event()
    program = Program(site.settings, MANY_EVENTS, 2, before_end=lambda: all_are_in.wait(120)).start()

    async def look(crowd: Crowd) -> None:
        while crowd.open < count:
            await asyncio.sleep(0.05)
        all_are_in.set()

    crowd = await watching(proxy, program.job, site.token, count, beside=look, seconds=150)
    all_are_in.set()
    program.join()
    return Outcome(crowd, faults_of(crowd.history, OWN_TYPE, MANY_EVENTS))


LIVE_EVENTS: Final = 100
LIVE_SECONDS: Final = 3.0


async def _during(site: Site, proxy: Standing, acts: Sequence[Callable[[], str]]) -> Outcome:
    """One thing after another is done to those who watch a job that reports all the time."""
    done = threading.Event()
    notes: list[str] = []
    program = Program(site.settings, LIVE_EVENTS, LIVE_SECONDS, before_end=lambda: done.wait(60)).start()

    async def work(crowd: Crowd) -> None:
        while crowd.open < FEW:
            await asyncio.sleep(0.05)
        for act in acts:
            notes.append(await asyncio.to_thread(act))
            await asyncio.sleep(1)
        done.set()

    crowd = await watching(proxy, program.job, site.token, FEW, beside=work)
    done.set()
    program.join()
    return Outcome(crowd, faults_of(crowd.history, OWN_TYPE, LIVE_EVENTS), notes)


async def reloads(site: Site, proxy: Standing) -> Outcome:
    """Twice, so that the second comes while the first is still at work."""

    def reload() -> str:
        began = time.monotonic()
        proxy.reload()
        return f"reloaded within {time.monotonic() - began:.1f} s"

    return await _during(site, proxy, [reload, reload])


async def kills(site: Site, proxy: Standing) -> Outcome:
    """One of the two web servers, without a word."""

    def kill() -> str:
        site.webs[1].kill9()
        return "killed"

    try:
        return await _during(site, proxy, [kill])
    finally:
        await asyncio.to_thread(site.webs[1].start)
        await asyncio.to_thread(_until_ready, site.webs[1])


def count_of(lasting: float) -> int:
    """The events of a job that lasts so many seconds."""
    return int(lasting * 5)


async def capped(site: Site, proxy: Standing, lasting: float) -> tuple[Outcome, list[str]]:
    """Every answer ends after some time, whatever is said meanwhile. Also the ids of the events that our Python client gave."""
    count = count_of(lasting)
    program = Program(site.settings, count, lasting).start()

    async def ids() -> list[str]:
        events = watch(proxy.url, program.job, token=site.token)
        return [event.id async for event in events if event.type == OWN_TYPE]

    crowd, given = await asyncio.gather(
        watching(proxy, program.job, site.token, FEW, seconds=2 * lasting + 30), ids()
    )
    program.join()
    return Outcome(crowd, faults_of(crowd.history, OWN_TYPE, count)), given
