"""A small Redis Cluster behind the whole of it: jobs on every node, their lists, and their streams over sharded pub/sub."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from pydantic import SecretStr

from progress_stream import report
from progress_stream.api.app import create_app
from progress_stream.auth.verify import sign
from progress_stream.reporting.sender import TELL_SECONDS
from progress_stream.settings import Settings, load
from progress_stream.store.connect import sync_client
from progress_stream.store.durability import examine, judge_cluster
from progress_stream.store.keys import Keys
from progress_stream.store.slots import slot_of
from progress_stream.store.sweep import Sweeper
from progress_stream.store.sync import SyncStore
from tests.support.cluster import Nodes, clustered
from tests.support.server import SECRET, serving
from tests.support.waiting import until


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with clustered(tmp_path_factory.mktemp("cluster"), replicas=False) as found:
        yield found


@pytest.fixture
def settings(nodes: Nodes, broker_url: str, namespace: str, tmp_path: Path) -> Settings:
    return load(
        redis_url=nodes.url, broker_url=broker_url, namespace=namespace, data=tmp_path, jwt_secret=SecretStr(SECRET),
        ready_seconds=0, drain_seconds=0,
    )  # fmt: skip


def shard_channels(nodes: Nodes) -> list[str]:
    """What is subscribed to, a node after the other; nothing by the pub/sub that every node hears."""
    found: list[str] = []
    for server in nodes.servers:
        with server.client() as client:
            assert [] == client.execute_command("PUBSUB", "CHANNELS")
            found += [name.decode() for name in client.execute_command("PUBSUB", "SHARDCHANNELS")]
    return found


def test_jobs_on_every_node_are_listed_and_followed_live(nodes: Nodes, settings: Settings) -> None:
    """Also one whose slot moves away from under it: nothing is missed, and no gap is told."""
    keys = Keys(settings.namespace)
    headers = {"Authorization": f"Bearer {sign(SECRET, 'alice', 'jobs:read', 600)}"}
    lines: list[str] = []
    with (
        serving(create_app(settings), settings, "push") as url,
        httpx.Client(base_url=url, headers=headers) as client,
    ):
        until(lambda: client.get("/readyz").status_code == 200)
        ids = []
        for number in range(12):
            with report("nightly", owner="alice", settings=settings) as done:
                done.log(f"number {number}")
            ids.append(done.id)
        with report("nightly", owner="alice", settings=settings) as job:
            slot = slot_of(keys.state(job.id))
            with client.stream("GET", f"/jobs/{job.id}/events") as stream:
                coming = (line for line in stream.iter_lines() if line.startswith("event: "))
                lines += [next(coming) for _ in range(3)]
                job.event("mine", 1)
                lines.append(next(coming))
                heard = shard_channels(nodes)
                nodes.migrate(slot)
                job.event("mine", 2)
                lines.append(next(coming))
        rows = client.get("/jobs").json()["jobs"]

    ports = {nodes.primary_of(keys.state(id)).port for id in ids}
    assert 3 == len(ports)
    assert ["position", "queued", "started", "mine", "mine"] == [
        line.removeprefix("event: ") for line in lines
    ]
    assert keys.channel(job.id) in heard
    # A probe of each node.
    assert 3 == len([name for name in heard if ":probe:" in name])
    assert [job.id, *reversed(ids)] == [row["id"] for row in rows]
    assert {"succeeded"} == {row["state"] for row in rows}


def test_a_node_that_is_away_holds_up_no_job_of_another(nodes: Nodes, settings: Settings) -> None:
    """Not even where that node has the list of the job's owner."""
    keys = Keys(settings.namespace)
    asleep = nodes.primary_of(keys.changed("alice"))
    with contextlib.ExitStack() as stack:
        while True:
            job = stack.enter_context(report("nightly", owner="alice", settings=settings))
            home = nodes.primary_of(keys.state(job.id))
            if home is not asleep:
                break
        client = stack.enter_context(home.client())
        until(lambda: client.xlen(keys.events(job.id)) == 2)
        asleep.sigstop()
        try:
            for number in range(3):
                # Each is told of on the list, if it can be.
                time.sleep(TELL_SECONDS)
                job.event("mine", number)
            until(lambda: client.xlen(keys.events(job.id)) == 5)
        finally:
            asleep.sigcont()


def test_jobs_that_a_node_has_lost_from_its_lists_are_put_back(nodes: Nodes, settings: Settings) -> None:
    """It was emptied, with the lists of an owner whose jobs lie on every node: those of the others come back, each in its place."""
    keys = Keys(settings.namespace)
    home = nodes.primary_of(keys.changed("alice"))
    with contextlib.ExitStack() as stack:
        store = SyncStore(stack.enter_context(sync_client(nodes.url)), settings)
        lists, sweeper = store.commands.lists, Sweeper(store, settings)

        def listed_as(state: str | None, actor: str | None = None) -> list[str]:
            """Without those that their reporters bring back."""
            found = [job for _, job in store.send(lists.page("alice", state, actor, None, 100))]
            return [job for job in found if nodes.primary_of(keys.state(job)) is not home]

        def is_noted() -> bool:
            sweeper.run_once()
            return all(
                replid == noted for replid, noted in (store.send(lists.whole(tag)) for tag in store.tags())
            )

        ended = []
        for _ in range(9):
            with report("nightly", owner="alice", settings=settings) as done:
                ended.append(done.id)
        open_now = [
            stack.enter_context(report("hourly", owner="alice", settings=settings)).id for _ in range(6)
        ]
        elsewhere = [id for id in reversed(ended + open_now) if nodes.primary_of(keys.state(id)) is not home]
        until(lambda: elsewhere == listed_as(None) and is_noted())
        with home.client() as client:
            client.flushall()
        assert [] == listed_as(None)

        until(is_noted)
        assert elsewhere == listed_as(None)
        for state, actor, jobs in (("succeeded", "nightly", ended), ("running", "hourly", open_now)):
            own = [id for id in elsewhere if id in jobs]
            assert own == listed_as(state) == listed_as(None, actor) == listed_as(state, actor)
        assert None not in store.send(lists.changes_of("alice", elsewhere))


def test_what_is_asked_of_many_nodes_is_answered_in_its_order(nodes: Nodes, settings: Settings) -> None:
    """Also while the client's map is of before a slot moved; a refusal takes nothing from the others."""
    with sync_client(nodes.url) as client:
        names = [f"{settings.namespace}:{number}" for number in range(60)]
        ask = client.pipeline(transaction=False)
        for name in names:
            ask.execute_command("SET", name, name)
        ask.execute()
        nodes.migrate(slot_of(names[7]))

        ask = client.pipeline(transaction=False)
        for name in names:
            ask.execute_command("GET", name)
        ask.execute_command("LPUSH", names[0], "x")
        *values, refused = ask.execute(raise_on_error=False)

    assert names == [value.decode() for value in values]
    assert isinstance(refused, redis.ResponseError)


def test_doctor_looks_at_every_primary(nodes: Nodes) -> None:
    """And at what the cluster serves as a whole."""
    whole, *found = examine(nodes.url, replica_wait_ms=100)

    assert ("slots", "") == (whole.name, whole.mend)
    for server in nodes.servers:
        own = {
            one.name.split(" ")[1]: one.mend
            for one in found
            if one.name.startswith(f"127.0.0.1:{server.port} ")
        }
        assert {"maxmemory-policy", "appendonly", "disk", "replicas", "master_replid"} == own.keys()
        assert own["replicas"]
    assert judge_cluster(2, 10_000).mend


def test_an_account_of_redis_is_each_node_s(nodes: Nodes, settings: Settings) -> None:
    """What the URL says of it is sent to all of them; one that is wrong is said without its password."""
    wrong = settings.model_copy(update={"redis_url": nodes.url.replace("://", "://me:hush@")})
    store = SyncStore(sync_client(str(wrong.redis_url)), wrong)

    with pytest.raises(Exception, match="refuses the password") as caught:
        store.send(store.commands.look("job"))

    assert "hush" not in str(caught.value)
    store.close()
