"""One job of 5,000 events, fifty watchers, and each connection cut at random bytes: everybody ends with 1…5,000, in order.

The same while the web process is killed with -9, and while Redis' pub/sub connections are.
"""

import asyncio
import threading
from pathlib import Path
from random import Random

import pytest
import redis

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.chaos.check import faults_of
from tests.chaos.faults import WebProcess, kill_subscriptions
from tests.chaos.history import History
from tests.chaos.traffic import OWN_TYPE, Program, crowd
from tests.support.server import SECRET, WAYS, Way, serving

#: A crowd in Python, in one process with all its cuts: on a slow machine it takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 5_000
WATCHERS = 50
FEWEST_CUTS = 20
#: Another seed is another run; what a run found can be had again, as far as timing allows.
SEED = 20_250_801


def check(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n  {history.summary()}")
    assert [] == faults_of(history, OWN_TYPE, EVENTS)
    assert history.fewest_cuts >= FEWEST_CUTS


@pytest.mark.parametrize("way", WAYS)
def test_cut_connections_lose_and_repeat_nothing(
    settings: Settings, token: str, way: Way, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the head, in a chunk's size, in a frame, in a character: each comes back with the last id that it had whole."""
    with serving(create_app(settings), settings, way) as url:
        program = Program(settings, EVENTS, 8).start()
        history = asyncio.run(crowd(url, program.job, token, WATCHERS, seed=SEED))
        program.join()

    check(history, capsys)


def test_a_web_process_killed_five_times_costs_nobody_an_event(
    settings: Settings, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With -9, in the middle of everything: what a watcher has is only in its `Last-Event-ID`."""
    killed = threading.Event()

    async def kill_the_server(noted: list[str]) -> None:
        random = Random(SEED)
        for number in range(1, 6):
            await asyncio.sleep(random.uniform(0.5, 2))
            await asyncio.to_thread(web.kill9)
            noted.append(f"kill -9 of the web process, {number}. time, at event {program.reported}")
            await asyncio.to_thread(web.start)
        killed.set()

    with WebProcess(settings, SECRET, tmp_path / "web") as web:
        program = Program(settings, EVENTS, 14, before_end=lambda: killed.wait(40)).start()
        history = asyncio.run(crowd(web.url, program.job, token, WATCHERS, seed=SEED, faults=kill_the_server))
        program.join()

    check(history, capsys)
    assert 5 == len(history.faults)


def test_killed_subscriptions_cost_nobody_an_event(
    settings: Settings,
    token: str,
    tmp_path: Path,
    redis_client: redis.Redis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Twenty times, the last one right before the terminal event, which no later one would betray the loss of."""
    kills: list[int] = []
    enough = threading.Event()

    async def kill_nineteen(noted: list[str]) -> None:
        random = Random(SEED)
        for _ in range(19):
            await asyncio.sleep(random.uniform(0, 0.5))
            kills.append(await asyncio.to_thread(kill_subscriptions, redis_client))
            noted.append(f"CLIENT KILL TYPE pubsub at event {program.reported}")
        enough.set()

    def kill_the_last() -> None:
        enough.wait(40)
        kills.append(kill_subscriptions(redis_client))

    with WebProcess(settings, SECRET, tmp_path / "web") as web:
        program = Program(settings, EVENTS, 8, before_end=kill_the_last).start()
        history = asyncio.run(crowd(web.url, program.job, token, WATCHERS, seed=SEED, faults=kill_nineteen))
        program.join()

    check(history, capsys)
    assert [1] * 20 == kills
