"""`POST /tickets`: opaque, read-only, short-lived tokens for URLs."""

import time
from datetime import datetime
from typing import Any

import pytest
import redis

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.support.server import Site, serving


def ticket(site: Site, body: Any = None, subject: str = "alice", scopes: str = "jobs:read") -> str:
    with site.client(subject, scopes) as client:
        answer = client.post("/tickets", json=body) if body is not None else client.post("/tickets")
        assert 201 == answer.status_code, answer.text
        return str(answer.json()["token"])


@pytest.mark.contract("POST /tickets")
def test_a_ticket_says_what_it_is_and_when_it_ends(site: Site) -> None:
    """Its life is TICKET_SECONDS, or the caller's token's where that is shorter (600 seconds here)."""
    with site.client() as client:
        answer = client.post("/tickets", json={})

    body = answer.json()
    ends_at = datetime.fromisoformat(body["expires_at"]).timestamp()
    assert (201, {"token", "expires_at"}) == (answer.status_code, set(body))
    assert "no-store" == answer.headers["Cache-Control"]
    assert 590 < ends_at - time.time() <= 600


@pytest.mark.contract("POST /tickets")
@pytest.mark.parametrize("body", [None, {}])
def test_without_ids_it_is_for_all_of_the_callers_jobs(site: Site, body: Any) -> None:
    """Those made later too, and nobody else's."""
    token = ticket(site, body)
    site.job("hers")
    site.job("his", owner="bob")

    with site.client(None) as client:
        seen = [client.head(f"/jobs/{id}/events?token={token}").status_code for id in ("hers", "his")]

    assert [200, 404] == seen


@pytest.mark.contract("POST /tickets")
def test_with_ids_it_is_for_these_alone(site: Site) -> None:
    """A link that leaks opens one job."""
    site.job("one")
    site.job("two")
    token = ticket(site, {"jobs": ["one"]})

    with site.client(None) as client:
        seen = [client.head(f"/jobs/{id}/events?token={token}").status_code for id in ("one", "two")]

    assert [200, 404] == seen


@pytest.mark.contract("POST /tickets")
def test_a_ticket_for_a_job_that_is_not_the_callers_is_404(site: Site) -> None:
    """As the job itself would be; and so is one for a job that never was."""
    site.job("his", owner="bob")
    with site.client() as client:
        answers = [client.post("/tickets", json={"jobs": [id]}) for id in ("his", "never")]

    assert [404, 404] == [answer.status_code for answer in answers]
    assert 1 == len({answer.content for answer in answers})


@pytest.mark.contract("Tickets")
def test_a_ticket_only_reads(site: Site) -> None:
    """It submits nothing, lists nothing and makes no further tickets."""
    site.job()
    headers = {"Authorization": f"Bearer {ticket(site)}"}
    with site.client(None) as client:
        assert 200 == client.get("/jobs/job-1", headers=headers).status_code
        assert 403 == client.get("/actors", headers=headers).status_code
        assert 403 == client.post("/jobs", json={"actor": "x"}, headers=headers).status_code
        assert 403 == client.post("/tickets", json={}, headers=headers).status_code


def test_the_ticket_itself_lies_nowhere_in_redis(site: Site) -> None:
    """A copy of Redis opens nothing."""
    token = ticket(site)
    keys = site.redis.keys("*")
    values = [site.redis.get(key) for key in keys if site.redis.type(key) == b"string"]

    assert not [one for one in [*keys, *values] if one and token.encode() in one]


@pytest.mark.parametrize(
    "body",
    [[], {"jobs": "job-1"}, {"jobs": []}, {"jobs": [7]}, {"jobs": ["a b"]}, {"jobs": None}, {"seconds": 9}],
)
def test_bad_input_is_422(site: Site, body: Any) -> None:
    """And names the field."""
    with site.client() as client:
        answer = client.post("/tickets", json=body)

    assert 422 == answer.status_code
    assert answer.json()["field"]


def test_an_expired_ticket_is_told_from_a_forged_one(settings: Settings, redis_client: redis.Redis) -> None:
    """Both are refused; but a stream that was asked for tells the first to stop, and says why."""
    short = settings.model_copy(update={"ticket_seconds": 1})
    with serving(create_app(short), short) as url:
        site = Site(url, short, redis_client)
        site.job()
        token = ticket(site)
        time.sleep(1.2)
        with site.client(None) as client:
            polled = client.get("/jobs/job-1", headers={"Authorization": f"Bearer {token}"})
            asked = {"Accept": "text/event-stream"}
            stream = client.get(f"/jobs/job-1/events?token={token}", headers=asked)
            forged = client.get(f"/jobs/job-1/events?token=pst_{'x' * 43}", headers=asked)

    assert (401, "urn:progress-stream:problem:token-expired") == (polled.status_code, polled.json()["type"])
    assert (200, 401) == (stream.status_code, forged.status_code)
    assert "event: expired" in stream.text
