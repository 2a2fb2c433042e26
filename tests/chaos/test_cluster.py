"""A job on a Redis Cluster while a primary is killed, a replica takes over, or the job's slot moves to another node.

What was acknowledged and not replicated is lost, as Redis says itself; whoever saw some of that is told, and is given it anew.
Where nothing was lost nobody is told of a gap.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from progress_stream.settings import Settings
from progress_stream.store.connect import sync_client
from progress_stream.store.keys import Keys
from progress_stream.store.slots import slot_of
from progress_stream.store.sweep import Sweeper
from tests.chaos import working
from tests.chaos.check import against_stream, faults_of
from tests.chaos.faults import WebProcess
from tests.chaos.history import History
from tests.chaos.rounds import entries_in
from tests.chaos.traffic import OWN_TYPE, Program, crowd
from tests.support.cluster import Nodes, clustered
from tests.support.server import SECRET, Site
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 2_000
#: Some on each node; of each the same number of watchers, every second of them cut at random bytes.
JOBS, WATCHERS = 6, 4
#: Longer than any failover takes: the jobs go on after it.
SECONDS = 15


def slot_migrated(nodes: Nodes, key: str) -> None:
    """To another node and on to the third; the first time its keys are torn apart for a second."""
    nodes.migrate(slot_of(key), pause=0.4)
    nodes.migrate(slot_of(key))


def replica_takes_over(nodes: Nodes, key: str) -> None:
    """As an operator has it, who loses nothing."""
    nodes.fail_over(key, how="")


def replica_takes_over_by_force(nodes: Nodes, key: str) -> None:
    """What it had not been sent is lost."""
    nodes.fail_over(key)


def primary_killed(nodes: Nodes, key: str) -> None:
    nodes.kill_primary_of(key).start()
    nodes.wait_until_replicated()


def primary_asleep(nodes: Nodes, key: str) -> None:
    """It wakes up with all its connections, and does not know yet that it was replaced."""
    old = nodes.primary_of(key)
    old.sigstop()
    nodes.wait_until_replaced(key, old)
    old.sigcont()
    nodes.wait_until_replicated()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with clustered(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.mark.parametrize(
    ("fault", "may_lose"),
    [
        (slot_migrated, False), (replica_takes_over, False), (replica_takes_over_by_force, True), (primary_killed, True),
        (primary_asleep, True),
    ],
)  # fmt: skip
def test_nothing_is_lost_silently(
    settings: Settings,
    nodes: Nodes,
    token: str,
    tmp_path: Path,
    fault: Callable[[Nodes, str], None],
    may_lose: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Reporters and web server follow each slot by themselves; in the end all events are there, and no other node's job is told."""
    nodes.wait_until_replicated()
    own = settings.model_copy(update={"redis_url": nodes.url})
    keys = Keys(own.namespace)
    programs = [Program(own, EVENTS, SECONDS) for _ in range(JOBS)]

    async def when_it_is_time(noted: list[str]) -> None:
        while programs[0].reported < EVENTS // 5:
            await asyncio.sleep(0.01)
        noted.append(f"{fault.__name__} at event {programs[0].reported}")
        await asyncio.to_thread(fault, nodes, keys.state(programs[0].job))
        noted.append(f"done at event {programs[0].reported}")

    async def follow(url: str) -> list[History]:
        return await asyncio.gather(
            *(
                crowd(
                    url, program.job, token, WATCHERS, seed=number, cut_every=2, seconds=90,
                    faults=None if number else when_it_is_time,
                )
                for number, program in enumerate(programs)
            )
        )  # fmt: skip

    with WebProcess(own, SECRET, tmp_path / "web") as web:
        for program in programs:
            program.start()
        homes = [nodes.primary_of(keys.state(program.job)) for program in programs]
        histories = asyncio.run(follow(web.url))
        for program in programs:
            program.join()
    with sync_client(nodes.url) as client:
        kept = [entries_in(client, own, program.job) for program in programs]

    struck = [may_lose and home is homes[0] for home in homes]
    with capsys.disabled():
        print(f"\n  {histories[0].summary()} {histories[0].faults}")
        for history, entries, hit in zip(histories, kept, struck, strict=True):
            gaps = [len(seen.gaps) for seen in history.watchers]
            print(f"    {len(entries)} events kept, gaps told {gaps}{' (its node was struck)' * hit}")
    for history, entries, hit in zip(histories, kept, struck, strict=True):
        assert [] == faults_of(history, OWN_TYPE, EVENTS, gaps_allowed=hit)
        assert [] == against_stream(history, entries, losses=int(hit))


def test_a_list_has_the_jobs_that_its_promoted_node_was_never_told_of(
    settings: Settings, nodes: Nodes, token: str, tmp_path: Path
) -> None:
    """Queued, on every node: those of the others are there, and nobody but the sweep knows that the list lacks them."""
    nodes.wait_until_replicated()
    own = settings.model_copy(update={"redis_url": nodes.url})
    keys = Keys(own.namespace)
    listed = keys.hints("alice")
    ids = [f"job-{number}" for number in range(12)]
    with sync_client(nodes.url) as client:
        site = Site("", own, client)
        sweeper = Sweeper(site.store, own)
        sweeper.run_once()
        home = nodes.primary_of(listed)
        note = next(keys.whole(tag) for tag in site.store.tags() if nodes.primary_of(keys.whole(tag)) is home)
        until(lambda: sweeper.run_once() or (client.get(note) and nodes.is_replicated(note)))
        kept = {id for id in ids if nodes.primary_of(keys.state(id)) is not home}
        nodes.fail_over_without(listed, lambda: [site.job(id) for id in ids])
        assert kept
        assert [] == client.zrange(listed, 0, -1)
        # The server that was promoted says itself that it lacks nothing; it is another.
        assert client.get(note)

        with WebProcess(own, SECRET, tmp_path / "web") as web:
            ask = partial(httpx.get, f"{web.url}/jobs", headers={"Authorization": f"Bearer {token}"})
            until(lambda: kept == {row["id"] for row in ask().json()["jobs"]}, 30)
    nodes.wait_until_replicated()


def test_a_worker_s_jobs_go_on_over_a_primary_that_is_killed(
    settings: Settings, nodes: Nodes, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dramatiq's own process, its queue on another Redis: each job ends at its first attempt, with all of its events."""
    nodes.wait_until_replicated()
    own = settings.model_copy(update={"redis_url": nodes.url})
    keys = Keys(own.namespace)
    struck: list[bool] = []

    def kill(jobs: list[str]) -> Callable[[], object]:
        homes = [nodes.primary_of(keys.state(job)) for job in jobs]
        struck.extend(home is homes[0] for home in homes)
        return lambda: primary_killed(nodes, keys.state(jobs[0]))

    worked = working.work(own, token, tmp_path, kill, jobs=JOBS, seconds=10, threads=JOBS)

    with capsys.disabled():
        print(working.told(worked))
    working.judge(worked, map(int, struck))
