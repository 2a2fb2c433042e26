"""What an earlier release stored is read, resumed, gone on with and ended by this one; what a later one stored is left alone."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from progress_stream import events, jobs
from progress_stream.events import BEGINNING, EventId
from progress_stream.jobs import Record
from progress_stream.settings import Settings, load
from progress_stream.store import answers
from progress_stream.store.answers import Started
from progress_stream.store.sweep import Sweeper
from progress_stream.store.sync import SyncStore
from tests.store.stored_form import FOLDER, NAMESPACE, PART, RUNNING, part_header, restore
from tests.support.redis import RedisServer
from tests.support.watching import RecordingSink, Writer, running_hub, until, watch

FORMS = sorted(FOLDER.glob("form-*.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Of these tests' own: the namespace of the stored jobs is in their keys."""
    with RedisServer(tmp_path_factory.mktemp("stored"), persistent=False) as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture(params=FORMS, ids=lambda path: path.stem)
def stored(request: pytest.FixtureRequest, client: redis.Redis) -> None:
    restore(client, json.loads(Path(request.param).read_text()))


@pytest.fixture
def settings(server: RedisServer) -> Settings:
    return load(redis_url=server.url(), namespace=NAMESPACE)


@pytest.fixture
def store(client: redis.Redis, settings: Settings) -> SyncStore:
    return SyncStore(client, settings)


def record_of(store: SyncStore, job: str) -> Record:
    record = store.send(store.commands.look(job)).record
    assert record is not None
    return record


def gone_on(store: SyncStore, job: str, nonce: str) -> Writer:
    """The worker that runs it, which was told nothing: it knows what it knew under the old release."""
    look = store.send(store.commands.look(job, BEGINNING, 100))
    assert look.record is not None
    writer = Writer(store.client, store.settings, job)
    if job.startswith("spread~"):
        writer.header = part_header(int(job[-1]))
    writer.attempt, writer.nonce = look.record.control.attempt, nonce
    writer.sequence, writer.state = look.record.control.sequence, look.record.packed
    return writer


async def shown(settings: Settings, job: str, place: EventId, count: int) -> RecordingSink:
    """What a watcher at this place is sent."""
    async with running_hub(str(settings.redis_url), NAMESPACE) as hub:
        sink = watch(hub, job, place)
        await until(lambda: len(sink.frames) >= count)
        await asyncio.sleep(0)
        return sink


@pytest.mark.usefixtures("stored")
def test_states_are_read_as_they_were(store: SyncStore) -> None:
    """Of each kind of job."""
    seen = {
        job: jobs.view(record_of(store, job)) for job in ("queued", "running", "ended", "spread", "spread~2")
    }

    assert {"queued": "queued", "running": "running", "ended": "succeeded", "spread": "running", "spread~2": "running"} == {
        job: state["state"] for job, state in seen.items()
    }  # fmt: skip
    assert (40, 100, "row 40") == tuple(seen["running"][name] for name in ("done", "total", "message"))
    assert [{"name": "read", "state": "done", "seconds": 1.5}] == seen["running"]["steps"]
    assert {"rows": 2} == seen["ended"]["result"]
    assert {"total": 2, "queued": 0, "running": 1, "succeeded": 1, "failed": 0, "cancelled": 0} == seen[
        "spread"
    ]["parts"]
    assert ("spread", 50) == (seen["spread~2"]["parent"], seen["spread~2"]["done"])


@pytest.mark.anyio
@pytest.mark.usefixtures("stored")
async def test_whoever_watched_under_the_old_release_goes_on(settings: Settings, store: SyncStore) -> None:
    """From the last id it has, without a gap; over what the worker appends now, in another life of the server."""
    look = store.send(store.commands.look("running", BEGINNING, 100))
    ids = [id for id, _, _ in look.entries]
    gone_on(store, "running", RUNNING).append("line", 2)
    sink = await shown(settings, "running", ids[2], 4)

    assert [4, 5, 6, 7] == sink.numbers()
    assert [] == sink.gaps()


@pytest.mark.usefixtures("stored")
def test_a_running_worker_goes_on_and_ends_its_job(store: SyncStore) -> None:
    """Its attempt, its sequence and its state hold."""
    worker = gone_on(store, "running", RUNNING)
    worker.append("progress", done=100, total=100)
    worker.append("succeeded", result=None)
    state = jobs.view(record_of(store, "running"))

    assert ("succeeded", 1, 100) == (state["state"], state["attempt"], state["done"])
    assert "read" == state["steps"][0]["name"]


@pytest.mark.usefixtures("stored")
def test_a_job_that_waits_is_begun(store: SyncStore, client: redis.Redis, settings: Settings) -> None:
    """By a worker of this release, and watched from its first event on."""
    worker = Writer(client, settings, "queued")
    started = worker.start("new")
    worker.append("failed", error={"type": "E", "message": "m"})

    assert isinstance(started, Started)
    assert (1, 2) == (started.attempt, started.id.n)
    assert "failed" == record_of(store, "queued").control.status


@pytest.mark.usefixtures("stored")
def test_the_last_part_ends_the_job_that_was_spread(store: SyncStore) -> None:
    """What is counted of its parts goes on from where it was."""
    part = gone_on(store, "spread~2", PART)
    part.append("progress", done=100, total=100, unit="rows")
    part.append("succeeded", result=None)
    state = jobs.view(record_of(store, "spread"))

    assert ("succeeded", 200, 2) == (state["state"], state["done"], state["parts"]["succeeded"])


@pytest.mark.usefixtures("stored")
def test_the_sweep_sees_to_them(store: SyncStore, settings: Settings) -> None:
    """Whose worker gave no sign since: told as stalled, and not yet given up, however old the file is."""
    Sweeper(store, settings.model_copy(update={"abandoned_seconds": 10**9})).run_once()

    assert record_of(store, "running").stalled_at is not None
    assert record_of(store, "ended").control.status == "succeeded"


class TestANewerForm:
    """While releases are mixed, an older one meets what a newer one wrote."""

    @pytest.fixture
    def newer(self, store: SyncStore, client: redis.Redis, settings: Settings) -> Writer:
        writer = Writer(client, settings, "newer")
        writer.create()
        writer.start()
        known: dict[str, Any] = json.loads(client.hget(store.commands.keys.state("newer"), "state") or b"")
        assert jobs.FORM == known["v"]
        client.hset(store.commands.keys.state("newer"), "state", events.encode({**known, "v": jobs.FORM + 1}))
        return writer

    @pytest.mark.usefixtures("newer")
    def test_it_is_known_as_such_and_said_once(
        self, store: SyncStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each look at it would say it, while releases are mixed."""
        answers._warn_of_form.cache_clear()
        with caplog.at_level(logging.WARNING):
            looks = [store.send(store.commands.look("newer")) for _ in range(3)]

        assert [(None, True)] * 3 == [(look.record, look.newer) for look in looks]
        assert 1 == sum("a form that this release does not know" in text for text in caplog.messages)

    def test_the_sweep_leaves_it_alone_and_goes_on(
        self, newer: Writer, store: SyncStore, client: redis.Redis, settings: Settings
    ) -> None:
        """It holds nobody else up, and is asked for again."""
        other = Writer(client, settings, "other")
        other.create()
        other.start()
        for job in ("newer", "other"):
            client.zadd(store.commands.keys.of(job)[2], {job: 1})
            client.hset(store.commands.keys.state(job), "seen_at", 1)
        Sweeper(store, settings).run_once()

        assert "failed" == record_of(store, "other").control.status
        assert (client.zscore(store.commands.keys.of("newer")[2], "newer") or 0) > 1
        assert 2 == client.xlen(store.commands.keys.events("newer"))

    @pytest.mark.anyio
    async def test_who_watches_it_waits_and_who_watches_another_does_not(
        self, newer: Writer, client: redis.Redis, store: SyncStore, settings: Settings
    ) -> None:
        """Looks are gathered: one that cannot be read must not take the others with it. When it can be read, it is shown."""
        other = Writer(client, settings, "other")
        other.create()
        async with running_hub(str(settings.redis_url), NAMESPACE) as hub:
            waits, sees = watch(hub, "newer"), watch(hub, "other")
            await until(lambda: len(sees.frames) == 1)
            assert ([], False) == (waits.frames, waits.ended)
            newer.append("line")  # By its worker, as this release stores it.
            await until(lambda: len(waits.frames) == 3)

        assert [1, 2, 3] == waits.numbers()
        assert [] == waits.gaps()
