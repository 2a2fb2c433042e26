"""Another release, one web process after another, behind a real HAProxy under load: nobody notices.

SIGTERM, the balancer looks away while `/readyz` fails, streams are sent away, and the next process comes up in its place. That a
release reads what the one before it stored is `tests/store/test_stored_form.py`'s.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx
import pytest

from progress_stream.auth.verify import sign
from progress_stream.settings import Settings
from progress_stream.store.connect import sync_client
from tests.chaos.check import faults_of
from tests.chaos.faults import PATIENCE_SECONDS, WebProcess
from tests.chaos.traffic import OWN_TYPE, Program, crowd
from tests.proxies.setups import balancer
from tests.support.server import SECRET, Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROCESSES: Final = 3
EVENTS: Final = 3_000
WATCHERS: Final = 60
SEED: Final = 7
#: Five checks of the balancer's; over so many seconds each process' streams are sent away.
READY_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 2.0
#: Beyond these a process may take as long as answers that are under way (`server.run.GRACE_SECONDS`) and a slow machine need.
SLACK_SECONDS: Final = 10.0


class Asking:
    """Everything but streams, all the time: states, lists, submissions. Keeps what was answered, and which jobs were made."""

    def __init__(self, url: str, job: str) -> None:
        token = sign(SECRET, "alice", "jobs:read jobs:write", 3_600)
        self._client = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        self._job = job
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.broken: list[str] = []
        self.made: list[str] = []

    async def until(self, over: asyncio.Event) -> None:
        async with self._client:
            while not over.is_set():
                await asyncio.gather(self._state(), self._list(), self._submit())
                await asyncio.sleep(0.02)

    async def _state(self) -> None:
        await self._ask("state", self._client.build_request("GET", f"/jobs/{self._job}"))

    async def _list(self) -> None:
        await self._ask("list", self._client.build_request("GET", "/jobs", params={"limit": 5}))

    async def _submit(self) -> None:
        answer = await self._ask(
            "submit", self._client.build_request("POST", "/jobs", json={"actor": "later", "args": {}})
        )
        if answer is not None and answer.status_code == 201:
            self.made.append(answer.json()["id"])

    async def _ask(self, kind: str, request: httpx.Request) -> httpx.Response | None:
        try:
            answer = await self._client.send(request)
        except httpx.TransportError as error:
            self.broken.append(f"{kind}: {error!r}")
            return None
        self.statuses[kind, answer.status_code] += 1
        return answer


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


def announce(settings: Settings) -> None:
    """As a worker does, so that jobs can be submitted; they wait in their queue."""
    client = sync_client(str(settings.redis_url))
    with client:
        Site("", settings, client).announce("later", seconds=600)


async def until_ready(web: WebProcess) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(lambda: web.is_ready):
            await asyncio.sleep(0.05)


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
            for number, web in enumerate(webs):
                await asyncio.sleep(1)
                took.append(
                    await asyncio.to_thread(web.terminate, READY_SECONDS + DRAIN_SECONDS + SLACK_SECONDS)
                )
                await asyncio.to_thread(web.start)
                await until_ready(web)
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
