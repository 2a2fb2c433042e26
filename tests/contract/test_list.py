"""`GET /jobs`: pages that never repeat, skip or lose a row, whatever arrives between two of them."""

import base64
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from progress_stream import events, jobs
from tests.support.server import Attempt, Site

#: A moment of its own for the made jobs: ids and times are then the test's to choose.
MOMENT_MS = 1_790_000_000_000


def make(
    site: Site, id: str, at: int = MOMENT_MS, *, owner: str | None = "alice", actor: str = "personalize"
) -> Attempt:
    """A queued job with the hints that its sender writes."""
    attempt = Attempt(site, jobs.Header(id, actor, owner=owner, created_at=at))
    move(site, attempt, "queued", done=False)
    attempt.create()
    move(site, attempt, "queued")
    return attempt


def move(site: Site, attempt: Attempt, state: str, *, done: bool = True) -> None:
    header = attempt.header
    site.store.send(
        site.store.commands.lists.hint(
            header.owner, header.id, header.created_at, header.actor, state, done=done
        )
    )


def make_many(site: Site, count: int, *, first: int = 0, spread_ms: int = 1) -> list[str]:
    """So many queued jobs in few round trips."""
    pipeline = site.redis.pipeline(transaction=False)
    ids = [f"many-{number:05}" for number in range(first, first + count)]
    for number, id in enumerate(ids, first):
        header = jobs.Header(id, "personalize", owner="alice", created_at=MOMENT_MS + number * spread_ms)
        queued = events.make(id, "queued", at=events.text_of(header.created_at))
        place = (header.owner, id, header.created_at, header.actor, "queued")
        commands = site.store.commands
        for call in (commands.lists.hint(*place), commands.create(header, queued, confirmed=True)):
            pipeline.eval(call.script.source, len(call.keys), *call.keys, *call.args)
        if number % 200 == 199:
            pipeline.execute()
    pipeline.execute()
    return ids


def page(site: Site, subject: str = "alice", scopes: str = "jobs:read", **query: Any) -> dict[str, Any]:
    answer = httpx.get(f"{site.url}/jobs", params=query, headers=site.headers(subject, scopes), timeout=30)
    assert 200 == answer.status_code, answer.text
    body: dict[str, Any] = answer.json()
    return body


def ids_of(body: dict[str, Any]) -> list[str]:
    return [job["id"] for job in body["jobs"]]


def pages(site: Site, **query: Any) -> Iterator[list[str]]:
    cursor: dict[str, Any] = {}
    while True:
        body = page(site, **query, **cursor)
        yield ids_of(body)
        if body["next"] is None:
            return
        cursor = {"cursor": body["next"]}


def all_ids(site: Site, **query: Any) -> list[str]:
    return [id for ids in pages(site, **query) for id in ids]


@pytest.mark.contract("GET /jobs")
def test_500_jobs_that_arrive_while_a_client_pages_through_2000_move_none_of_them(site: Site) -> None:
    """Each of the 2,000 is seen exactly once, newest first; what came later is on no later page."""
    before = make_many(site, 2_000)
    seen: list[str] = []
    arriving = iter(range(2_000, 2_500, 25))
    for ids in pages(site, limit=100):
        seen += ids
        if (first := next(arriving, None)) is not None:
            make_many(site, 25, first=first)

    assert list(reversed(before)) == seen


def test_a_writer_beside_the_reader_moves_no_row_either(site: Site) -> None:
    """The same with jobs that arrive in the middle of a page's reading, of the same moment as those that are read."""
    before = make_many(site, 600, spread_ms=0)
    stop = threading.Event()

    def write() -> None:
        number = 10_000
        while not stop.is_set():
            make_many(site, 5, first=number, spread_ms=0)
            number += 5

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = all_ids(site, limit=23)
    finally:
        stop.set()
        writer.join()

    assert len(seen) == len(set(seen))
    assert set(before) <= set(seen)


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_jobs_of_one_millisecond_are_told_apart(site: Site, limit: int) -> None:
    """By their ids, in one order on every page."""
    for number in (3, 1, 5, 2, 4):
        make(site, f"tie-{number}")

    assert [f"tie-{number}" for number in (5, 4, 3, 2, 1)] == all_ids(site, limit=limit)


@pytest.mark.contract("GET /jobs")
def test_a_row_that_goes_is_no_hole_for_the_cursor_that_names_it(site: Site) -> None:
    """The place stays where it was, among ties too."""
    made = [make(site, f"tie-{number}") for number in range(6)]
    first = page(site, limit=3)
    commands = site.store.commands
    site.store.send(commands.remove("tie-3", statuses=("queued",), tombstone=False))
    site.store.send(commands.lists.unlist("alice", "tie-3", "personalize"))

    assert ["tie-5", "tie-4", "tie-3"] == ids_of(first)
    assert ["tie-2", "tie-1", "tie-0"] == ids_of(page(site, limit=3, cursor=first["next"]))
    assert 6 == len(made)
    assert ["tie-5", "tie-4", "tie-2", "tie-1", "tie-0"] == all_ids(site)


@pytest.mark.contract("GET /jobs")
def test_rows_are_whole_states_without_their_results(site: Site) -> None:
    """All that `GET /jobs/{id}` shows beside it."""
    job = make(site, "job-1")
    job.start()
    job.succeed({"rows": 3})
    [row] = page(site)["jobs"]
    state = site.client().get("/jobs/job-1").json()

    assert {"rows": 3} == state.pop("result")
    assert state == row


@pytest.mark.contract("GET /jobs")
def test_filters_find_what_is_rare(site: Site) -> None:
    """By state, by actor, and by both."""
    make_many(site, 300)
    for number in range(3):
        rare = make(site, f"rare-{number}", MOMENT_MS - 10 + number, actor="rare")
        rare.start()
        move(site, rare, "running")
    rare.fail()
    move(site, rare, "failed")

    assert ["rare-1", "rare-0"] == all_ids(site, state="running")
    assert ["rare-2"] == all_ids(site, state="failed", actor="rare")
    assert ["rare-2", "rare-1", "rare-0"] == all_ids(site, actor="rare", limit=2)
    assert [] == all_ids(site, state="failed", actor="personalize")
    assert [] == all_ids(site, actor="nobody's")
    assert [] == all_ids(site, actor="*")
    assert 300 == len(all_ids(site, state="queued", limit=200))


def test_a_hint_that_does_not_fit_is_dropped_and_the_page_filled(site: Site) -> None:
    """Of a job that is gone, of another state, of another owner: none is a row, and none is looked at twice."""
    for number in range(5):
        make(site, f"job-{number}", MOMENT_MS + number)
    make(site, "others", owner="bob")
    commands = site.store.commands
    for ghost in ("ghost-1", "ghost-2", "others"):
        site.store.send(commands.lists.hint("alice", ghost, MOMENT_MS + 10, "personalize", "queued"))
    running = make(site, "job-9", MOMENT_MS + 9)
    running.start()  # Its worker died before it could move the hint.

    assert ["job-4", "job-3"] == ids_of(page(site, limit=2, state="queued"))
    keys = site.store.commands.keys
    assert [b"job-0", b"job-1", b"job-2", b"job-3", b"job-4"] == site.redis.zrange(
        keys.hints("alice", state="queued"), 0, -1
    )
    assert ["job-9"] == all_ids(site, state="running")
    assert 6 == len(all_ids(site))
    assert ["others"] == ids_of(page(site, "bob"))


def test_a_late_word_of_a_beginning_does_not_reopen_what_ended(site: Site) -> None:
    """The worker's word that it began may come after somebody else's that the job was cancelled."""
    job = make(site, "job-1")
    job.start()
    job.fail()
    move(site, job, "failed")
    move(site, job, "running")

    assert ["job-1"] == all_ids(site, state="failed")
    assert [] == all_ids(site, state="running")


def test_a_page_after_thousands_of_hints_that_fit_nothing_is_short_and_goes_on(site: Site) -> None:
    """One request looks at no more than it can bear; `next` leads on, and no row is missed."""
    last = make(site, "last", MOMENT_MS - 1)
    ghosts = {f"ghost-{number}": MOMENT_MS + number for number in range(2_500)}
    site.redis.zadd(site.store.commands.keys.hints("alice"), ghosts)
    first = page(site)

    assert ([], True) == (first["jobs"], first["next"] is not None)
    assert [last.header.id] == ids_of(page(site, cursor=first["next"]))
    assert [last.header.id] == ids_of(page(site))


def test_parts_are_no_rows(site: Site) -> None:
    """They are shown with their job."""
    make(site, "whole")
    part = Attempt(site, jobs.Header("whole~1", "personalize", owner="alice", created_at=MOMENT_MS))
    part.create()
    move(site, part, "queued")

    assert ["whole"] == all_ids(site)


@pytest.mark.contract("GET /jobs")
@pytest.mark.parametrize("limit", ["0", "201", "-1", "", "ten", "1.5", "١", "9" * 5_000])
def test_a_limit_that_is_none_is_refused_by_name(site: Site, limit: str) -> None:
    """With what is allowed."""
    answer = site.client().get("/jobs", params={"limit": limit})

    assert (422, "limit") == (answer.status_code, answer.json()["field"])
    assert "1 to 200" in answer.json()["detail"]


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "0-0", "Zm9v", base64.urlsafe_b64encode(b"1.a/b").decode(), base64.urlsafe_b64encode(b"-1.a").decode(),
        base64.urlsafe_b64encode(b"1.a").decode() + "=", base64.urlsafe_b64encode(b"01.abc").decode(), "\u00e9", "A" * 20_000,
        base64.urlsafe_b64encode(b"9999999999999999.a").decode(), base64.urlsafe_b64encode(b"1..").decode(),
    ],
)  # fmt: skip
def test_a_cursor_that_no_page_gave_is_refused_by_name(site: Site, cursor: str) -> None:
    """And never an error of ours."""
    answer = site.client().get("/jobs", params={"cursor": cursor})

    assert (422, "cursor") == (answer.status_code, answer.json()["field"])


@pytest.mark.parametrize(
    ("name", "value"), [("state", "done"), ("state", ""), ("actor", ""), ("actor", "a" * 256)]
)
def test_other_parameters_are_refused_by_name(site: Site, name: str, value: str) -> None:
    """An empty filter is a mistake in a program, not a wish for everything."""
    answer = site.client().get("/jobs", params={name: value})

    assert (422, name) == (answer.status_code, answer.json()["field"])


@pytest.mark.contract("GET /jobs")
def test_another_owners_list_is_for_administrators(site: Site) -> None:
    """Without `owner` everybody sees their own; the jobs of nobody have the empty owner."""
    make(site, "alices")
    make(site, "bobs", owner="bob")
    make(site, "nobodys", owner=None)
    refused = site.client().get("/jobs", params={"owner": "bob"})
    admin = {"subject": "root", "scopes": "jobs:read jobs:admin"}

    assert 403 == refused.status_code
    assert 403 == site.client().get("/jobs", params={"owner": "alice"}).status_code
    assert ["alices"] == all_ids(site)
    assert [] == all_ids(site, **admin)
    assert ["bobs"] == all_ids(site, owner="bob", **admin)
    assert ["nobodys"] == all_ids(site, owner="", **admin)
    assert 401 == httpx.get(f"{site.url}/jobs").status_code
    assert 403 == site.client(scopes="jobs:write").get("/jobs").status_code


def test_a_ticket_for_some_jobs_lists_no_others(site: Site) -> None:
    """It was made to show these."""
    make(site, "shown")
    make(site, "other")
    ticket = site.client().post("/tickets", json={"jobs": ["shown"]}).json()["token"]
    answer = httpx.get(f"{site.url}/jobs", headers={"Authorization": f"Bearer {ticket}"})

    assert ["shown"] == ids_of(answer.json())


@pytest.mark.contract("STATE_SECONDS")
def test_what_expires_leaves_the_lists_with_its_state(site: Site) -> None:
    """The sweep sees to it while it still knows whose job that was."""
    from progress_stream.store.sweep import Sweeper
    from progress_stream.store.sync import SyncStore

    settings = site.settings.model_copy(update={"state_seconds": 4, "replay_seconds": 2})
    store = SyncStore(site.redis, settings)
    job = make(site, "job-1")
    job.store = store
    job.start()
    job.fail()
    move(site, job, "failed")
    files: list[str] = []
    deadline = time.monotonic() + 20
    while not files and time.monotonic() < deadline:
        Sweeper(store, settings, files.append).run_once()
        site.redis.delete(store.commands.keys.sweeper())
        time.sleep(0.2)
    kept = site.redis.keys(f"{settings.namespace}:{{oalice}}:jobs:*")

    assert ["job-1"] == files
    assert [] == kept
