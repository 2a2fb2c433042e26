"""`DELETE /jobs/{id}`: what goes, what is refused, and that it stays gone."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from progress_stream import events, tracing
from progress_stream.errors import NoSuchJob, Tombstoned
from progress_stream.settings import Settings
from progress_stream.store.sweep import Sweeper
from tests.support.server import Attempt, Site
from tests.support.streams import follow


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


@pytest.fixture
def ended(site: Site) -> Attempt:
    """A job with a result file."""
    job = site.job()
    job.start()
    job.append(count=3)
    job.succeed(result={"rows": 3}, file=job.save("letters.csv", "text/csv", b"a,b"))
    return job


def files_of(settings: Settings) -> list[Path]:
    return [path for path in (settings.data / "files").rglob("*") if path.is_file()]


@pytest.mark.contract("DELETE /jobs/{id}")
def test_nothing_of_it_is_left(site: Site, client: httpx.Client, ended: Attempt) -> None:
    """204 without a body; then its state, its stream, its result and its files are gone, and its row is in no list."""
    assert 1 == len(files_of(site.settings))
    site.store.send(
        site.store.commands.put_record(tracing.KEY, "job-1", tracing.pack({"traceparent": "x"}), 600)
    )
    answer = client.delete("/jobs/job-1")

    assert (204, b"") == (answer.status_code, answer.content)
    assert [404] * 4 == [
        client.get("/jobs/job-1").status_code,
        client.get("/jobs/job-1/result").status_code,
        client.get("/jobs/job-1/events").status_code,
        client.delete("/jobs/job-1").status_code,
    ]
    assert [] == files_of(site.settings)
    assert [] == client.get("/jobs").json()["jobs"]
    keys = site.store.commands.keys
    assert [keys.state("job-1").encode()] == site.redis.keys(f"{keys.namespace}:*job-1*")
    assert {b"tombstone": b"1"} == site.redis.hgetall(keys.state("job-1"))


@pytest.mark.contract("DELETE /jobs/{id}")
@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_job_that_has_not_ended_is_409(site: Site, client: httpx.Client, state: str) -> None:
    """And stays as it was: whoever wants it gone cancels it first."""
    job = site.job()
    if state == "running":
        job.start()
    answer = client.delete("/jobs/job-1")

    assert (409, state) == (answer.status_code, client.get("/jobs/job-1").json()["state"])
    assert answer.json()["type"].endswith(":not-ended")


@pytest.mark.contract("DELETE /jobs/{id}")
def test_a_zombie_brings_nothing_back(site: Site, client: httpx.Client, ended: Attempt) -> None:
    """Whatever a worker does that knows nothing of the deletion: append, start, create."""
    client.delete("/jobs/job-1")

    for late in (ended.append, ended.start, ended.create):
        with pytest.raises((Tombstoned, NoSuchJob)):
            late()
    assert 404 == client.get("/jobs/job-1").status_code
    assert not site.redis.exists(site.store.commands.keys.events("job-1"))


def test_who_may(site: Site, client: httpx.Client, ended: Attempt) -> None:
    """The owner with `jobs:write`, or an administrator; for others the job is not there."""
    clients = [
        site.client("bob"), site.client(None), site.client(scopes="jobs:read"),
        site.client("root", scopes="jobs:write jobs:admin"),
    ]  # fmt: skip
    try:
        assert [404, 401, 403, 204] == [one.delete("/jobs/job-1").status_code for one in clients]
    finally:
        for one in clients:
            one.close()


def test_both_methods_are_named_to_who_tries_a_third(client: httpx.Client) -> None:
    """405 with `Allow`."""
    answer = client.put("/jobs/job-1")

    assert (405, {"DELETE", "GET", "HEAD"}) == (
        answer.status_code, set(answer.headers["Allow"].split(", ")),
    )  # fmt: skip


@pytest.mark.contract("DELETE /jobs/{id}")
def test_a_watcher_gets_its_end_at_once(each_site: Site) -> None:
    """One that was still behind: what it has not read is gone, and so is the job."""
    job = each_site.job()
    job.start()
    with follow(each_site) as stream, each_site.client() as client:
        stream.until_type("started")
        each_site.wait_until_ready()
        # The job ends without a word to the watcher, as where a wake-up is lost.
        event = events.make("job-1", "cancelled", at=events.now_text())
        call = each_site.store.commands.intervene("job-1", event, statuses=("running",))
        quiet = tuple(b"nobody-listens" if place == 0 else arg for place, arg in enumerate(call.args))
        each_site.store.send(type(call)(call.script, call.keys, quiet, call.read))
        before = time.monotonic()
        assert 204 == client.delete("/jobs/job-1").status_code
        stream.to_end(5)

        assert stream.ended
        assert time.monotonic() - before < 2


def test_files_that_a_zombie_saves_later_are_swept(site: Site, client: httpx.Client, ended: Attempt) -> None:
    """For as long as the tombstone stands, somebody comes by and looks."""
    client.delete("/jobs/job-1")
    ended.save("late.csv", "text/csv", b"a,b")
    keys = site.store.commands.keys
    _, _, due = keys.of("job-1")
    for _ in range(2):
        assert site.redis.zscore(due, "job-1") is not None
        site.redis.zadd(due, {"job-1": 1})
        site.redis.delete(keys.sweeper())
        Sweeper(site.store, site.settings, site.files.delete_job).run_once()

        assert [] == files_of(site.settings)


def test_the_tombstone_of_a_delayed_job_outlives_its_message(site: Site, client: httpx.Client) -> None:
    """Cancelled and deleted long before it was to begin: it does not begin."""
    week = 7 * 86_400
    site.job(run_at=int((time.time() + week) * 1000))
    client.post("/jobs/job-1/cancel")

    assert 204 == client.delete("/jobs/job-1").status_code
    assert site.redis.ttl(site.store.commands.keys.state("job-1")) > week


def test_the_key_that_made_it_makes_no_other(site: Site, client: httpx.Client) -> None:
    """409: a client that tries again after the job was deleted is told so, and brings nothing back."""
    site.announce()
    headers = {"Idempotency-Key": "k-1"}
    made = client.post("/jobs", json={"actor": "personalize"}, headers=headers).json()["id"]
    client.post(f"/jobs/{made}/cancel")
    client.delete(f"/jobs/{made}")
    answer = client.post("/jobs", json={"actor": "personalize"}, headers=headers)

    assert (409, True) == (answer.status_code, answer.json()["type"].endswith(":idempotency-conflict"))
    assert 404 == client.get(f"/jobs/{made}").status_code
