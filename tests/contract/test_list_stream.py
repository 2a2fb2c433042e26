"""`GET /jobs/events`: one stream of whole states for a page that shows many jobs."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from progress_stream import events, jobs
from tests.contract.test_list import MOMENT_MS, make, make_many, move
from tests.support.server import Attempt, Site
from tests.support.streams import EVENT_STREAM, Stream, data_of


def look(
    site: Site,
    query: str = "",
    *,
    position: str | None = None,
    accept: str | None = EVENT_STREAM,
    subject: str = "alice",
    scopes: str = "jobs:read",
    **options: Any,
) -> Stream:
    """Open the stream as EventSource does."""
    headers = {"Authorization": f"Bearer {site.token(subject, scopes)}"}
    if accept is not None:
        headers["Accept"] = accept
    if position is not None:
        headers["Last-Event-ID"] = position
    return Stream(site.url, f"/jobs/events{query and '?' + query}", headers, **options)


def states(stream: Stream, id: str | None = None) -> list[dict[str, Any]]:
    found = [data_of(frame) for frame in stream.frames if frame.event == "job"]
    return [state for state in found if id in (None, state["id"])]


def shown(stream: Stream) -> dict[str, str]:
    """The latest state of each job on the page."""
    return {state["id"]: state["state"] for state in states(stream)}


def gone(stream: Stream) -> list[str]:
    return [data_of(frame)["id"] for frame in stream.frames if frame.event == "gone"]


def has(id: str, state: str) -> Callable[[Stream], bool]:
    return lambda stream: shown(stream).get(id) == state


def tell(site: Site, attempt: Attempt) -> None:
    """As its reporter does when it has moved on."""
    site.store.send(site.store.commands.lists.changed(attempt.header.owner, attempt.job))


def delete(site: Site, id: str) -> None:
    commands = site.store.commands
    site.store.send(commands.remove(id, statuses=("queued",), tombstone=True))
    site.store.send(commands.lists.unlist("alice", id, "personalize"))


def last_id(stream: Stream) -> str:
    return next(frame.id for frame in reversed(stream.frames) if frame.id)


@pytest.mark.contract("GET /jobs/events", "The stream of a list: position, first")
def test_a_page_gets_the_state_of_each_job_that_it_names(each_site: Site) -> None:
    """Whole, without its result, and then what changes."""
    site = each_site
    first, _, _ = make(site, "a"), make(site, "b"), make(site, "c")
    with look(site, "jobs=a,b") as stream:
        stream.until(lambda stream: len(states(stream)) == 2)
        first.start()
        move(site, first, "running")
        stream.until(has("a", "running"))
        first.succeed({"rows": 1})
        move(site, first, "succeeded")
        stream.until(has("a", "succeeded"))

        assert {"a": "succeeded", "b": "queued"} == shown(stream)
        assert set(jobs.FIELDS) - {"result"} == set(states(stream, "a")[-1])
        assert {"position": "0", "resumed": False} == stream.position
        assert (200, EVENT_STREAM) == (stream.status, stream.headers["content-type"])
        assert b"retry: " == stream.body[:7]


@pytest.mark.contract("GET /jobs/events")
def test_without_names_new_jobs_appear_by_themselves(each_site: Site) -> None:
    """All of the caller's; nobody else's."""
    site = each_site
    make(site, "old")
    with look(site) as stream:
        stream.until(has("old", "queued"))
        make(site, "theirs", owner="bob")
        make(site, "new")
        stream.until(has("new", "queued"))
        stream.for_seconds(0.5)

    assert {"old": "queued", "new": "queued"} == shown(stream)


def test_a_whole_list_of_many_jobs_is_shown(site: Site) -> None:
    """In pages, as fast as the client takes them."""
    ids = make_many(site, 700)
    with look(site) as stream:
        stream.until(lambda stream: len(states(stream)) >= 700)

        assert set(ids) == set(shown(stream))
        assert last_id(stream).isdigit() and int(last_id(stream)) > 0


def states_of(stream: Stream) -> dict[str, dict[str, Any]]:
    return {state["id"]: state for state in states(stream)}


@pytest.mark.contract("The stream of a list: gone")
def test_what_is_gone_foreign_or_never_was_is_told_and_never_an_error(each_site: Site) -> None:
    """EventSource would give up on the whole page for one job."""
    site = each_site
    make(site, "mine")
    make(site, "deleted")
    make(site, "theirs", owner="bob")
    with look(site, "jobs=mine,theirs,never,deleted,%2e%2e/x") as stream:
        stream.until(lambda stream: len(stream.frames) == 6)
        delete(site, "deleted")
        stream.until(lambda stream: "deleted" in gone(stream))

        assert ["theirs", "never", "../x", "deleted"] == gone(stream)
        assert {"mine", "deleted"} == set(shown(stream))


@pytest.mark.contract("The stream of a list: gone")
def test_a_deleted_job_leaves_a_page_of_all(site: Site) -> None:
    """Also a page that was not there at the time."""
    make(site, "kept")
    make(site, "deleted")
    with look(site) as stream:
        stream.until(lambda stream: len(states(stream)) == 2)
        position = last_id(stream)
        delete(site, "deleted")
        stream.until(lambda stream: ["deleted"] == gone(stream))
    with look(site, position=position) as stream:
        stream.until(lambda stream: ["deleted"] == gone(stream))


@pytest.mark.contract("The stream of a list: gone")
def test_an_expired_job_leaves_a_page(site: Site) -> None:
    """The sweep says when it will be gone."""
    job = make(site, "expiring")
    commands = site.store.commands
    with look(site) as stream:
        stream.until(has("expiring", "queued"))
        site.redis.pexpire(commands.keys.state("expiring"), 800)
        site.store.send(commands.lists.unlist("alice", job.job, "personalize", 900))
        stream.until(lambda stream: ["expiring"] == gone(stream))


@pytest.mark.contract("GET /jobs/events")
def test_a_resume_brings_what_changed_since_and_no_more(each_site: Site) -> None:
    """By the id of what it has seen; five seconds are sent again."""
    site = each_site
    one, two, three = (make(site, f"job-{number}") for number in (1, 2, 3))
    with look(site) as stream:
        stream.until(lambda stream: len(states(stream)) == 3)
        position = last_id(stream)
    changed = site.store.commands.keys.changed("alice")
    site.redis.zincrby(changed, -60_000, one.job)
    site.redis.zincrby(changed, -60_000, three.job)
    two.start()
    move(site, two, "running")
    make(site, "new")
    with look(site, position=position) as stream:
        stream.until(has("job-2", "running")).until(has("new", "queued")).for_seconds(0.4)
        assert {"job-2", "new"} == set(shown(stream))
        assert {"position": position, "resumed": True} == stream.position
        assert int(position) <= int(last_id(stream))
    with look(site, "jobs=job-1,job-2,job-3,never", position=position) as stream:
        stream.until(lambda stream: bool(states(stream))).for_seconds(0.4)
        assert {"job-2"} == set(shown(stream))
        assert ["never"] == gone(stream)


@pytest.mark.contract("The stream of a list: position, first")
@pytest.mark.parametrize("position", ["x", "-1", "99999999999999", "1", "1-2", "9" * 40])
def test_a_position_that_is_none_brings_every_state(site: Site, position: str) -> None:
    """In the future, long past, or of another kind of stream."""
    make(site, "job-1")
    with look(site, position=position) as stream:
        stream.until(has("job-1", "queued"))


def test_a_dollar_begins_with_what_comes(site: Site) -> None:
    """For a page that has just asked for the list."""
    make(site, "old")
    with look(site, "last_event_id=$") as stream:
        stream.until(lambda stream: bool(stream.frames)).for_seconds(0.5)
        make(site, "new")
        stream.until(has("new", "queued"))

        assert {"new": "queued"} == shown(stream)
        assert int(stream.frames[0].id or "") > MOMENT_MS - 10**12


def test_lost_wake_ups_are_made_up_for(site: Site) -> None:
    """By a look at what changed, when the subscription is a new one."""
    job = make(site, "job-1")
    with look(site) as stream:
        stream.until(has("job-1", "queued"))
        job.start()
        site.redis.zadd(site.store.commands.keys.changed("alice"), {"job-1": time.time() * 1000})
        site.redis.client_kill_filter(_type="pubsub")
        stream.until(has("job-1", "running"))


@pytest.mark.contract("The stream of a list: job")
def test_a_page_that_reads_slowly_gets_the_latest_and_not_the_queue(site: Site) -> None:
    """What was overtaken while it did not read is never sent."""
    writers = []
    for number in range(50):
        job = make(site, f"job-{number}")
        job.header = jobs.Header(job.job, "personalize", owner="alice", title="t" * 500, created_at=MOMENT_MS)
        job.start()
        move(site, job, "running")
        writers.append(job)
    with look(site, receive_buffer=4_096) as stream:
        for round in range(40):
            for job in writers:
                job.append("progress", done=round, message="m" * 2_000)
                tell(site, job)
            time.sleep(0.02)
        time.sleep(0.5)
        stream.until(
            lambda stream: all(states_of(stream).get(job.job, {}).get("done") == 39 for job in writers)
        )
        counts = Counter(state["id"] for state in states(stream))

    assert 40 > max(counts.values())
    for job in writers:
        done = [state["done"] or 0 for state in states(stream, job.job)]
        assert sorted(done) == done


@pytest.mark.contract("The stream of a list: job")
def test_an_older_state_is_never_shown(site: Site) -> None:
    """A server that lost its tail shows less than before for a while."""
    job = make(site, "job-1")
    job.start()
    move(site, job, "running")
    keys = site.store.commands.keys
    with look(site, "jobs=job-1") as stream:
        stream.until(has("job-1", "running"))
        before = site.redis.hgetall(keys.state("job-1"))
        job.append("progress", done=5)
        tell(site, job)
        stream.until(lambda stream: states(stream)[-1]["done"] == 5)
        count = len(states(stream))
        after = site.redis.hgetall(keys.state("job-1"))
        site.redis.hset(keys.state("job-1"), mapping=before)
        tell(site, job)
        stream.for_seconds(0.7)
        assert count == len(states(stream))
        site.redis.hset(keys.state("job-1"), mapping=after)
        stream.until(lambda stream: len(states(stream)) > count, seconds=10)
        assert 5 == states(stream)[-1]["done"]


def test_it_is_the_jobs_stream_in_all_else(serve: Callable[..., Site]) -> None:
    """A life, heartbeats, limits, HEAD, and what a client is told when it may not."""
    site = serve(stream_seconds=2, heartbeat_seconds=1, max_streams_per_owner=1)
    make(site, "job-1")
    with look(site, "ping=event") as stream:
        stream.until(has("job-1", "queued"))
        with look(site) as second:
            assert ["busy"] == second.to_end().types
        assert 429 == look(site, accept=None).to_end().status
        stream.to_end()
        assert stream.ended and "ping" in stream.types
        assert "no-store, no-transform" == stream.headers["cache-control"]
    with look(site, method="HEAD") as stream:
        assert (200, b"") == (stream.to_end().status, stream.body)
    answers = [
        httpx.get(f"{site.url}/jobs/events", headers=headers, params=params).status_code
        for headers, params in [
            ({}, {}), (site.headers(scopes="jobs:write"), {}), (site.headers(), {"jobs": ""}), (site.headers(), {"jobs": "a,,b"}),
            (site.headers(), {"jobs": ",".join(f"j{n}" for n in range(201))}), ({}, {"token": site.token()}),
        ]
    ]  # fmt: skip
    assert [401, 403, 422, 422, 422, 401] == answers
    headers = {"Authorization": f"Bearer {site.expired_token()}", "Accept": EVENT_STREAM}
    expired = httpx.get(f"{site.url}/jobs/events", headers=headers)
    assert 200 == expired.status_code and "event: expired" in expired.text


def test_a_ticket_shows_what_it_was_made_for(site: Site) -> None:
    """In the URL, where EventSource can send nothing else."""
    make(site, "shown")
    make(site, "other")
    named = site.client().post("/tickets", json={"jobs": ["shown"]}).json()["token"]
    every = site.client().post("/tickets").json()["token"]
    for ticket, query, seen in [
        (named, "", {"shown"}),
        (every, "", {"shown", "other"}),
        (named, "&jobs=other", set()),
    ]:
        with Stream(site.url, f"/jobs/events?token={ticket}{query}", {"Accept": EVENT_STREAM}) as stream:
            stream.until(lambda stream: len(stream.frames) > 1).for_seconds(0.4)
            assert seen == set(shown(stream))


def test_an_administrator_watches_anybodys_jobs_by_name(site: Site) -> None:
    """And without names those of their own, as everybody."""
    mine, theirs = make(site, "mine", owner="root"), make(site, "theirs", owner="bob")
    nobodys = make(site, "nobodys", owner=None)
    admin = {"subject": "root", "scopes": "jobs:read jobs:admin"}
    with look(site, "jobs=mine,theirs,nobodys", **admin) as stream:
        stream.until(lambda stream: len(states(stream)) == 3)
        for job in (mine, theirs, nobodys):
            job.start()
            move(site, job, "running")
        stream.until(lambda stream: set(shown(stream).values()) == {"running"})
    with look(site, **admin) as stream:
        stream.until(has("mine", "running")).for_seconds(0.3)
        assert {"mine"} == set(shown(stream))


def test_a_queued_job_says_what_it_waits_for(site: Site) -> None:
    """As its own state does."""
    make(site, "job-1")
    with look(site) as stream:
        stream.until(has("job-1", "queued"))

    assert "no worker announces actor personalize" == states(stream)[0]["waiting_for"]
    assert events.ms_of(states(stream)[0]["created_at"]) == MOMENT_MS
