"""Jobs of a real Dramatiq worker, a process of its own, through one fault of what they report to; with watchers of each job.

The fault comes in the middle of the first job. Judging what was seen is the tests'.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from progress_stream import ProgressMiddleware, broker_client
from progress_stream.settings import Settings
from tests.chaos.check import Entry, against_stream, faults_of, out_of_attempt
from tests.chaos.faults import WebProcess
from tests.chaos.history import History
from tests.chaos.rounds import entries_in
from tests.chaos.traffic import OWN_TYPE, crowd
from tests.support.server import SECRET
from tests.support.workers import Workers
from tests.worker.conftest import Eyes

#: Of each job.
EVENTS: Final = 300
#: Of each job; every second one is cut at random bytes.
WATCHERS: Final = 4


@dataclass(frozen=True, slots=True)
class Worked:
    """One job as it was seen, and as Redis holds it in the end."""

    history: History
    kept: list[Entry]
    state: dict[str, Any]


class Sent:
    """Jobs in the broker's queue, and what has become of them."""

    def __init__(self, settings: Settings, jobs: int, seconds: float) -> None:
        self._settings = settings
        broker = RedisBroker(client=broker_client(settings))  # type: ignore[no-untyped-call]
        broker.add_middleware(ProgressMiddleware(settings))
        self._eyes = Eyes(settings)
        self.jobs = [broker.enqueue(_message(seconds)).message_id for _ in range(jobs)]
        broker.close()

    def kept(self, job: str) -> list[Entry]:
        return entries_in(self._eyes.store.client, self._settings, job)

    async def through(
        self, url: str, token: str, begin: Callable[[], object], fault: Callable[[], object]
    ) -> list[Worked]:
        """`begin` starts the worker, once somebody watches."""

        async def when_it_is_time(noted: list[str]) -> None:
            await asyncio.to_thread(begin)
            while (seen := len(self.kept(self.jobs[0]))) < EVENTS // 5:
                await asyncio.sleep(0.05)
            noted.append(f"at event {seen} of the first job")
            await asyncio.to_thread(fault)
            noted.append(f"done at event {len(self.kept(self.jobs[0]))}")

        histories = await asyncio.gather(
            *(
                crowd(
                    url, job, token, WATCHERS, seed=number, cut_every=2, seconds=90,
                    faults=None if number else when_it_is_time,
                )
                for number, job in enumerate(self.jobs)
            )
        )  # fmt: skip
        return [
            Worked(history, self.kept(job), self._eyes.state(job))
            for job, history in zip(self.jobs, histories, strict=True)
        ]

    def close(self) -> None:
        self._eyes.store.close()


def _message(seconds: float) -> dramatiq.Message[Any]:
    options = {"progress": True, "owner": "alice", "max_retries": 0}
    return dramatiq.Message("default", "lines", (EVENTS, seconds), {}, options)


@contextlib.contextmanager
def _workers(settings: Settings, folder: Path) -> Iterator[Workers]:
    made = Workers(settings, folder)
    try:
        yield made
    finally:
        made.end()


def work(
    settings: Settings,
    token: str,
    folder: Path,
    fault: Callable[[list[str]], Callable[[], object]],
    *,
    jobs: int,
    seconds: float,
    threads: int,
) -> list[Worked]:
    """So many jobs of so many seconds each.

    `fault` is told the jobs' ids before anything runs, and gives what is to be done in the middle of the first one.
    """
    with (
        contextlib.closing(Sent(settings, jobs, seconds)) as sent,
        WebProcess(settings, SECRET, folder / "web") as web,
        _workers(settings, folder) as workers,
    ):
        strike = fault(sent.jobs)
        return asyncio.run(sent.through(web.url, token, lambda: workers.start(threads=threads), strike))


def told(worked: list[Worked]) -> str:
    """For the test's output."""
    first = worked[0].history
    lines = [f"\n  {first.summary()} {first.faults}"]
    for one in worked:
        gaps = [len(seen.gaps) for seen in one.history.watchers]
        lines.append(f"    {one.state['state']}, {len(one.kept)} events kept, gaps told {gaps}")
    return "\n".join(lines)


def judge(worked: list[Worked], losses: Iterable[int]) -> None:
    """Each ended at its first attempt with all of its events, and each watcher was told of so many losses at most."""
    for job, most in zip(worked, losses, strict=True):
        assert ("succeeded", 1) == (job.state["state"], job.state["attempt"])
        assert [] == out_of_attempt(job.kept, OWN_TYPE, EVENTS)
        assert [] == faults_of(job.history, OWN_TYPE, EVENTS, gaps_allowed=most > 0)
        assert [] == against_stream(job.history, job.kept, losses=most)
