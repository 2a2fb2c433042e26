"""Another release, one web process after another, behind a real HAProxy under load: nobody notices.

SIGTERM, the balancer looks away while `/readyz` fails, streams are sent away, and the next process comes up in its place. That a
release reads what the one before it stored is `tests/store/test_stored_form.py`'s.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import dramatiq
import httpx
import pytest
from dramatiq.brokers.redis import RedisBroker

from progress_stream import ProgressMiddleware
from progress_stream.settings import Settings
from progress_stream.store.connect import sync_client
from tests.chaos.check import against_stream, faults_of, out_of_attempt
from tests.chaos.faults import WebProcess
from tests.chaos.history import History
from tests.chaos.rounds import entries_in
from tests.chaos.traffic import OWN_TYPE, Asking, Program, announce, crowd, until_ready
from tests.proxies.standing import balancer
from tests.support.server import SECRET
from tests.support.workers import Workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROCESSES: Final = 3
EVENTS: Final = 3_000
WATCHERS: Final = 60
SEED: Final = 7
LINES: Final = 900
#: Of each attempt: longer than the restart of a web process.
LINES_SECONDS: Final = 25.0
#: Five checks of the balancer's; over so many seconds each process' streams are sent away.
READY_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 2.0
#: Beyond these a process may take as long as answers that are under way (`server.run.GRACE_SECONDS`) and a slow machine need.
SLACK_SECONDS: Final = 10.0


@pytest.fixture
def webs(settings: Settings, tmp_path: Path) -> Iterator[list[WebProcess]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                WebProcess(
                    settings, SECRET, tmp_path / f"web{number}",
                    ready_seconds=READY_SECONDS, drain_seconds=DRAIN_SECONDS,
                )
            )
            for number in range(PROCESSES)
        ]  # fmt: skip


async def replacing(webs: list[WebProcess], took: list[float]) -> AsyncIterator[int]:
    """One after the other; the number of each when the next one of its kind is ready, and how many seconds it took to go."""
    for number, web in enumerate(webs):
        await asyncio.sleep(1)
        took.append(await asyncio.to_thread(web.terminate, READY_SECONDS + DRAIN_SECONDS + SLACK_SECONDS))
        await asyncio.to_thread(web.start)
        await until_ready(web)
        yield number


def send_lines(settings: Settings, count: int, seconds: float) -> str:
    """To a worker: the events 1…count."""
    broker = RedisBroker(url=settings.effective_broker_url)
    broker.add_middleware(ProgressMiddleware(settings))
    options = {"progress": True, "owner": "alice"}
    message: dramatiq.Message[Any] = dramatiq.Message("default", "lines", (count, seconds), {}, options)
    sent = broker.enqueue(message).message_id
    broker.close()
    return sent


def test_a_rolling_restart_is_noticed_by_nobody(
    settings: Settings, token: str, webs: list[WebProcess], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No event is lost or repeated, nobody is told of a gap, no request fails, and each process is gone in time."""
    announce(settings)
    took: list[float] = []
    replaced = threading.Event()

    async def scene(url: str, program: Program) -> tuple[object, Asking]:
        over = asyncio.Event()
        asking = Asking(url, program.job)

        async def replace_all(noted: list[str]) -> None:
            async for number in replacing(webs, took):
                noted.append(f"web process {number} replaced at event {program.reported}")
            replaced.set()

        async def watch() -> object:
            try:
                return await crowd(
                    url, program.job, token, WATCHERS, seed=SEED, cut_every=WATCHERS + 1, faults=replace_all
                )
            finally:
                over.set()

        history, _ = await asyncio.gather(watch(), asking.until(over))
        return history, asking

    for web in webs:
        asyncio.run(until_ready(web))
    with balancer([web.url for web in webs], tmp_path / "haproxy") as url:
        program = Program(settings, EVENTS, 25, before_end=lambda: replaced.wait(60)).start()
        history, asking = asyncio.run(scene(url, program))
        program.join()

    with capsys.disabled():
        spent = ", ".join(f"{seconds:.1f}" for seconds in took)
        print(f"\n  {history.summary()}\n  {dict(asking.statuses)}; gone after {spent} s")
    assert [] == faults_of(history, OWN_TYPE, EVENTS)
    assert PROCESSES == len(history.faults)
    assert [] == asking.broken
    assert {"state": {200}, "list": {200}, "submit": {201}} == {
        kind: {status for known, status in asking.statuses if known == kind} for kind, _ in asking.statuses
    }
    assert len(asking.made) == len(set(asking.made)) > 0
    assert sum("draining" in seen.told for seen in history.watchers) > WATCHERS / 2
    assert max(took) < READY_SECONDS + DRAIN_SECONDS + SLACK_SECONDS


def test_workers_of_before_work_on_and_the_next_ones_take_their_jobs_over(
    settings: Settings, token: str, webs: list[WebProcess], tmp_path: Path
) -> None:
    """A worker reports to a web process of the next release; then it is replaced itself, in its job, which another attempt ends."""
    workers = Workers(settings, tmp_path)
    took: list[float] = []
    met: list[str] = []

    async def scene(url: str, job: str) -> History:
        async def replace_all(noted: list[str]) -> None:
            async for number in replacing(webs, took):
                noted.append(f"web process {number} replaced")
                if number == 0:
                    answer = await asyncio.to_thread(httpx.get, f"{url}/jobs/{job}", headers=headers)
                    met.append(answer.json()["state"])
                    workers.signal(workers.started[0], signal.SIGTERM)
                    workers.start()

        return await crowd(url, job, token, WATCHERS, seed=SEED, cut_every=WATCHERS + 1, faults=replace_all)

    headers = {"Authorization": f"Bearer {token}"}
    with ExitStack() as stack:
        stack.callback(workers.end)
        workers.start()
        for web in webs:
            asyncio.run(until_ready(web))
        url = stack.enter_context(balancer([web.url for web in webs], tmp_path / "haproxy"))
        job = send_lines(settings, LINES, LINES_SECONDS)
        history = asyncio.run(scene(url, job))
        state = httpx.get(f"{url}/jobs/{job}", headers=headers).json()
    with sync_client(str(settings.redis_url)) as client:
        kept = entries_in(client, settings, job)

    assert ["running"] == met, "the old worker should have been at work still"
    assert [] == against_stream(history, kept, losses=0)
    assert [] == out_of_attempt(kept, OWN_TYPE, LINES)
    assert ("succeeded", 2) == (state["state"], state["attempt"])
    assert PROCESSES == len(history.faults)
