"""A job on a Redis Cluster while a primary is killed, a replica takes over, or the job's slot moves to another node.

What was acknowledged and not replicated is lost, as Redis says itself; whoever saw some of that is told, and is given it anew.
Where nothing was lost nobody is told of a gap.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from progress_stream.settings import Settings
from progress_stream.store.connect import sync_client
from progress_stream.store.keys import Keys
from progress_stream.store.slots import slot_of
from tests.chaos.check import against_stream, faults_of
from tests.chaos.faults import WebProcess
from tests.chaos.rounds import entries_in
from tests.chaos.traffic import OWN_TYPE, Program, crowd
from tests.support.cluster import Nodes, clustered
from tests.support.server import SECRET

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 3_000
WATCHERS = 10
#: Longer than any failover takes: the job goes on after it.
SECONDS = 16


def slot_migrated(nodes: Nodes, key: str) -> None:
    """To another node and to the third."""
    for _ in range(2):
        nodes.migrate(slot_of(key))


def replica_takes_over(nodes: Nodes, key: str) -> None:
    """As an operator has it, who loses nothing."""
    nodes.fail_over(key, how="")


def replica_takes_over_by_force(nodes: Nodes, key: str) -> None:
    """What it had not been sent is lost."""
    nodes.fail_over(key)


def primary_killed(nodes: Nodes, key: str) -> None:
    killed = nodes.kill_primary_of(key)
    killed.start()
    nodes.wait_until_replicated()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with clustered(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.mark.parametrize(
    ("fault", "may_lose"),
    [
        (slot_migrated, False),
        (replica_takes_over, False),
        (replica_takes_over_by_force, True),
        (primary_killed, True),
    ],
)
def test_nothing_is_lost_silently(
    settings: Settings,
    nodes: Nodes,
    token: str,
    tmp_path: Path,
    fault: Callable[[Nodes, str], None],
    may_lose: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Reporter and web server follow the slot by themselves; in the end all events are there."""
    own = settings.model_copy(update={"redis_url": nodes.url})
    program = Program(own, EVENTS, SECONDS)

    async def when_it_is_time(noted: list[str]) -> None:
        while program.reported < EVENTS // 5:
            await asyncio.sleep(0.01)
        noted.append(f"{fault.__name__} at event {program.reported}")
        await asyncio.to_thread(fault, nodes, Keys(own.namespace).state(program.job))
        noted.append(f"done at event {program.reported}")

    with WebProcess(own, SECRET, tmp_path / "web") as web:
        program.start()
        history = asyncio.run(
            crowd(web.url, program.job, token, WATCHERS, seed=7, cut_every=2, faults=when_it_is_time)
        )
        program.join()
    with sync_client(nodes.url) as client:
        kept = entries_in(client, own, program.job)

    with capsys.disabled():
        gaps = [len(seen.gaps) for seen in history.watchers]
        print(f"\n  {history.summary()} {history.faults}; gaps told {gaps}; {len(kept)} events kept")
    assert [] == faults_of(history, OWN_TYPE, EVENTS, gaps_allowed=may_lose)
    assert [] == against_stream(history, kept, losses=int(may_lose))
