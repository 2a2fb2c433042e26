"""`GET /jobs/{id}`: the state, and the polling way with ETag."""

import time

import httpx
import pytest

from progress_stream import jobs
from tests.support.server import Site


@pytest.mark.contract("GET /jobs/{id}")
def test_every_field_is_there_also_when_nothing_is_known(site: Site) -> None:
    """A field that is not known is null, not absent."""
    site.job()
    with site.client() as client:
        answer = client.get("/jobs/job-1")

    assert (200, "application/json") == (answer.status_code, answer.headers["Content-Type"])
    assert list(jobs.FIELDS) == list(answer.json())


@pytest.mark.contract("GET /jobs/{id}")
def test_the_state_follows_the_job(site: Site) -> None:
    """From queued over running to its end, with what was last said."""
    job = site.job()
    with site.client() as client:
        queued = client.get("/jobs/job-1").json()
        job.start()
        last = job.append("progress", done=3, total=10).id
        running = client.get("/jobs/job-1").json()
        job.succeed({"rows": 10})
        ended = client.get("/jobs/job-1").json()

    assert ["queued", "running", "succeeded"] == [queued["state"], running["state"], ended["state"]]
    assert (1, 3, 10, str(last)) == (
        running["attempt"],
        running["done"],
        running["total"],
        running["last_event_id"],
    )
    assert ({"rows": 10}, None) == (ended["result"], ended["waiting_for"])


@pytest.mark.contract("GET /jobs/{id}")
def test_an_unchanged_state_is_304(site: Site) -> None:
    """A client that polls gets no byte of what it has, however it writes the tag."""
    site.job()
    with site.client() as client:
        tag = client.get("/jobs/job-1").headers["ETag"]
        answers = [
            client.get("/jobs/job-1", headers={"If-None-Match": value})
            for value in (tag, f"W/{tag}", f'"other", {tag}', "*", '"other"')
        ]

    assert [304, 304, 304, 304, 200] == [answer.status_code for answer in answers]
    assert b"" == answers[0].content
    assert tag == answers[0].headers["ETag"]


def test_a_change_makes_a_new_tag(site: Site) -> None:
    """Each event that changes the state can be polled for."""
    job = site.job()
    with site.client() as client:
        before = client.get("/jobs/job-1").headers["ETag"]
        job.start()
        answer = client.get("/jobs/job-1", headers={"If-None-Match": before})

    assert 200 == answer.status_code
    assert before != answer.headers["ETag"]


def test_a_state_is_kept_by_nobody_between(site: Site) -> None:
    """It is one owner's."""
    site.job()
    with site.client() as client:
        assert "private, no-cache" == client.get("/jobs/job-1").headers["Cache-Control"]


def test_head_gives_the_same_headers_and_no_body(site: Site) -> None:
    """As for every address that is read."""
    site.job()
    with site.client() as client:
        get, head = client.get("/jobs/job-1"), client.head("/jobs/job-1")

    assert (200, get.headers["ETag"], b"") == (head.status_code, head.headers["ETag"], head.content)


def test_a_queued_job_says_when_no_worker_announces_its_actor(site: Site) -> None:
    """And stops saying so soon after one does; a running job waits for nothing. A long-poll says what the state says."""
    job = site.job()
    with site.client() as client:
        polled = client.get("/jobs/job-1/events?wait=0").json()["state"]
        assert polled == client.get("/jobs/job-1").json()
        assert "no worker announces actor personalize" == client.get("/jobs/job-1").json()["waiting_for"]
        site.announce("personalize")
        deadline = time.monotonic() + 5
        while client.get("/jobs/job-1").json()["waiting_for"] is not None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        job.start()
        assert client.get("/jobs/job-1").json()["waiting_for"] is None


@pytest.mark.parametrize(
    "id", ["unknown", "a~b", "a%20b", "..%2fx", "x" * 300, "a%00b", "%e2%80%a8", "job-1%0a"]
)
def test_what_is_no_job_is_404(site: Site, id: str) -> None:
    """Unknown ids and what can be none: one answer."""
    site.job()
    with site.client() as client:
        answer = client.get(f"/jobs/{id}")

    assert (404, "application/problem+json") == (answer.status_code, answer.headers["Content-Type"])


def test_nothing_is_redirected(site: Site) -> None:
    """EventSource follows redirects, and asks the first address again at each reconnect."""
    site.job()
    with site.client() as client:
        for path in ("/jobs/job-1/", "/jobs/job-1/events/", "/jobs/", "/actors/"):
            assert 404 == client.get(path).status_code, path


def test_another_owners_job_reads_as_one_that_never_was(site: Site) -> None:
    """The two answers are the same bytes."""
    site.job("hers", owner="alice")
    site.job("nobodys", owner=None)
    with site.client("bob") as bob, site.client("root", "jobs:read jobs:admin") as root:
        answers = [bob.get(f"/jobs/{id}") for id in ("hers", "nobodys", "never")]
        assert [200, 200, 404] == [root.get(f"/jobs/{id}").status_code for id in ("hers", "nobodys", "never")]

    assert [404] * 3 == [answer.status_code for answer in answers]
    assert 1 == len({answer.content for answer in answers})
    assert 1 == len({_comparable(answer) for answer in answers})


def _comparable(answer: httpx.Response) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value) for name, value in answer.headers.items() if name not in {"date", "x-request-id"}
    )
