"""A failover by Sentinels in the middle of a job: the old primary still reachable, or killed.

What it had acknowledged and not replicated is lost, as Redis says itself; whoever saw some of that is told, and is given it anew.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from progress_stream.settings import Settings
from progress_stream.store.connect import sync_client
from tests.chaos import working
from tests.chaos.check import against_stream, faults_of
from tests.chaos.faults import WebProcess
from tests.chaos.rounds import entries_in
from tests.chaos.traffic import OWN_TYPE, Program, crowd
from tests.support.sentinels import Watched, watched
from tests.support.server import SECRET

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 2_000
WATCHERS = 10
#: Longer than any failover takes: the job goes on after it.
SECONDS = 12


def fail_over(group: Watched) -> None:
    group.fail_over()


def fail_over_from_one_that_stays_a_primary(group: Watched) -> None:
    """It refuses to be made a replica: whoever does not ask again where the primary is goes on with it for ever."""
    old = group.primary()
    with old.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-replicaof", "-slaveof")
        group.fail_over()
        time.sleep(3)
        assert "master" == client.info("replication")["role"]
        client.execute_command("ACL", "SETUSER", "default", "+@all")


def kill_the_primary(group: Watched) -> None:
    replica = group.replica()
    group.primary().kill9()
    group.wait_until_named(replica.port)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("watched")) as found:
        yield found


@pytest.mark.parametrize("fault", [fail_over, fail_over_from_one_that_stays_a_primary, kill_the_primary])
def test_a_failover_loses_nothing_silently(
    settings: Settings,
    group: Watched,
    token: str,
    tmp_path: Path,
    fault: Callable[[Watched], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Reporter and web server find the new primary by themselves; in the end all events are there."""
    group.wait_until_whole()
    own = settings.model_copy(update={"redis_url": group.url(0), "broker_url": group.url(1)})
    program = Program(own, EVENTS, SECONDS)

    async def when_it_is_time(noted: list[str]) -> None:
        while program.reported < EVENTS // 5:
            await asyncio.sleep(0.01)
        noted.append(f"{fault.__name__} at event {program.reported}")
        await asyncio.to_thread(fault, group)
        noted.append(f"done at event {program.reported}")

    with WebProcess(own, SECRET, tmp_path / "web") as web:
        program.start()
        history = asyncio.run(
            crowd(
                web.url, program.job, token, WATCHERS, seed=7, cut_every=2, seconds=90, faults=when_it_is_time
            )
        )
        program.join()
    with sync_client(group.url(0)) as client:
        kept = entries_in(client, own, program.job)

    with capsys.disabled():
        gaps = [len(seen.gaps) for seen in history.watchers]
        print(f"\n  {history.summary()} {history.faults}; gaps told {gaps}; {len(kept)} events kept")
    assert [] == faults_of(history, OWN_TYPE, EVENTS, gaps_allowed=True)
    assert [] == against_stream(history, kept, losses=2)


def test_a_worker_s_jobs_and_its_queue_go_over_together(
    settings: Settings, group: Watched, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dramatiq's own process with store and queue at the same primary: those that ran go on, and those that waited are run."""
    group.wait_until_whole()
    own = settings.model_copy(update={"redis_url": group.url(0), "broker_url": group.url(1)})

    worked = working.work(own, token, tmp_path, lambda jobs: group.fail_over, jobs=4, seconds=6, threads=3)

    with capsys.disabled():
        print(working.told(worked))
    working.judge(worked, [2] * len(worked))
