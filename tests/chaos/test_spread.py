"""One bar over many workers that are killed: 200 parts on four worker processes, each of which dies three times in the middle."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from progress_stream import ProgressMiddleware
from progress_stream.api.app import create_app
from progress_stream.cli.conformance.evidence import follow_with_cuts
from progress_stream.client.probing import Server
from progress_stream.settings import Settings
from tests.support.server import Site, serving
from tests.support.waiting import until
from tests.worker.conftest import Eyes
from tests.worker.test_spread import never_back, parts

PARTS = 200
ROWS = 10
MASTERS = 4
KILLS = 3
WATCHERS = 3
SEED = int(os.environ.get("SEED", "1"))


class Masters:
    """`dramatiq` processes; one that ends is started again, as systemd or Kubernetes does it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._env = os.environ | {
            "PROGRESS_STREAM_REDIS_URL": str(settings.redis_url), "PROGRESS_STREAM_BROKER_URL": str(settings.broker_url),
            "PROGRESS_STREAM_NAMESPACE": settings.namespace, "PROGRESS_STREAM_DATA": str(settings.data),
            "PROGRESS_STREAM_STALLED_SECONDS": str(settings.stalled_seconds),
        }  # fmt: skip
        self._folder = folder
        self._over = threading.Event()
        self._running = [self._start(number) for number in range(MASTERS)]
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()
        self.kills = 0

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        root = Path(__file__).parents[2]
        command = [
            sys.executable,
            "-m",
            "dramatiq",
            "tests.worker.actors",
            "--processes",
            "1",
            "--threads",
            "4",
            "--path",
            str(root),
        ]
        with (self._folder / f"master{number}.log").open("ab") as log:
            return subprocess.Popen(
                command, env=self._env, cwd=root, stdout=log, stderr=log, start_new_session=True
            )

    def _keep(self) -> None:
        while not self._over.wait(0.1):
            for number, process in enumerate(self._running):
                if process.poll() is not None:
                    self._running[number] = self._start(number)

    def kill(self, number: int) -> None:
        """The whole of one, with -9."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running[number].pid, signal.SIGKILL)
            self.kills += 1

    def end(self) -> None:
        self._over.set()
        self._keeper.join(10)
        for number, process in enumerate(self._running):
            self.kill(number)
            process.wait()


@pytest.fixture
def masters(settings: Settings, tmp_path: Path) -> Iterator[Masters]:
    made = Masters(settings, tmp_path)
    yield made
    made.end()


@pytest.fixture
def settings(redis_url: str, broker_url: str, namespace: str, tmp_path: Path) -> Settings:
    from pydantic import SecretStr

    from progress_stream.settings import load
    from tests.support.server import SECRET

    return load(
        redis_url=redis_url, broker_url=broker_url, namespace=namespace, data=tmp_path, stalled_seconds=6,
        jwt_secret=SecretStr(SECRET), ready_seconds=0, drain_seconds=0,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_counts_stay_exact_over_workers_that_are_killed(
    settings: Settings, redis_client: redis.Redis, masters: Masters
) -> None:
    """A tenth of the parts fails once, four fail for good; no count is wrong, the bar never goes back, and `then` runs once."""
    chance = random.Random(SEED)
    broker = RedisBroker(url=str(settings.broker_url))
    broker.add_middleware(ProgressMiddleware(settings))
    message: dramatiq.Message[str] = dramatiq.Message(
        "default", "spread_rows", (PARTS, ROWS), {}, {"progress": True, "owner": "alice", "max_retries": 5}
    )
    eyes = Eyes(settings)
    with serving(create_app(settings), settings) as url, ThreadPoolExecutor(WATCHERS) as threads:
        job = broker.enqueue(message).message_id
        until(lambda: (eyes.state(job)["parts"] or {"total": 0})["total"] == PARTS, 60)
        server = Server(url, Site(url, settings, redis_client).token())
        watching = [
            threads.submit(follow_with_cuts, server, job, random.Random(f"{SEED}/{n}"), lambda: False, 5_000)
            for n in range(WATCHERS)
        ]
        for number in chance.sample(list(range(MASTERS)) * KILLS, MASTERS * KILLS):
            time.sleep(chance.uniform(0.2, 0.8))
            masters.kill(number)
        state = until(lambda: (now := eyes.state(job))["state"] in ("succeeded", "failed") and now, 200)
        seen = [watch.result(200) for watch in watching]

    told = eyes.events(job)
    moved = [event for event in told if event["type"] == "part"]
    ends = [event["part"] for event in moved if event["state"] in ("succeeded", "failed")]
    print(
        f"kills {masters.kills} · part events {len(moved)} · events {len(told)} · connections {[one.connections for one in seen]}"
    )
    assert ("succeeded", "merged 196") == (state["state"], state["result"])
    assert (PARTS, 0, 0, 196, 4, 0) == parts(state)
    assert list(range(1, PARTS + 1)) == sorted(ends)
    # What failed for good had counted half of its rows.
    assert 196 * ROWS + 4 * ROWS // 2 == state["done"]
    assert never_back(told)
    assert ["succeeded"] == [
        event["type"] for event in told if event["type"] in ("succeeded", "failed", "cancelled")
    ]
    assert 1 == len(eyes.events(f"{job}~0", "started"))
    assert all(watch.events == seen[0].events and watch.gaps == 0 for watch in seen)
    assert [event["type"] for event in told] == [kind for _, kind, _ in seen[0].events]
    assert all(
        two == one + 1
        for one, two in itertools.pairwise(int(id.partition("-")[2]) for id, _, _ in seen[0].events)
    )
