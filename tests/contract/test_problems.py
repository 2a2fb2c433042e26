"""Every error is `application/problem+json`, says what it may and nothing more; and what every answer carries."""

import logging
import re
from typing import Any

import httpx
import pytest
import redis

from progress_stream.api import problems
from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.support.server import Site, serving


def errors_of(site: Site) -> list[httpx.Response]:
    """One of each that a request can cause."""
    site.announce()
    with site.client() as client, site.client(None) as nobody:
        wrong = {"actor": "personalize", "args": {"x": 1}}
        return [
            nobody.get("/jobs/a"),
            client.get("/nowhere"),
            client.put("/jobs"),
            client.put("/jobs/a"),
            client.post("/healthz"),
            client.get("/jobs/a"),
            client.post("/jobs", content=b"x", headers={"Content-Type": "text/plain"}),
            client.post("/jobs", json=wrong),
            client.post("/jobs", json={"actor": "nobody"}),
            client.post("/jobs", json={"actor": "x" * 30_000}),
            client.post("/jobs", content=b"x", headers={"Content-Type": "multipart/form-data"}),
            client.get("/assets/nothing.js"),
        ]


def test_all_have_the_four_members_and_the_status_twice(site: Site) -> None:
    """RFC 9457, for programs and for people."""
    answers = errors_of(site)

    for answer in answers:
        problem = answer.json()
        assert "application/problem+json" == answer.headers["Content-Type"]
        assert {"type", "title", "status", "detail"} <= set(problem)
        assert answer.status_code == problem["status"]
        assert problem["title"] and problem["detail"]
    assert [401, 404, 405, 405, 405, 404, 415, 422, 422, 413, 400, 404] == [a.status_code for a in answers]


def test_a_method_that_an_address_does_not_take_names_those_it_does(site: Site) -> None:
    """RFC 9110 §15.5.6."""
    with site.client() as client:
        assert "DELETE, GET, HEAD" == client.put("/jobs/a").headers["Allow"]
        assert "POST" == client.get("/jobs/a/cancel").headers["Allow"]
        assert "GET, HEAD, POST" == client.put("/jobs").headers["Allow"]


def test_a_failure_of_ours_is_a_bare_500_and_a_log_line(
    settings: Settings, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback is for the operator; not a word of it for the client."""

    def broken(request: Any) -> None:
        raise RuntimeError("the password is hunter2")

    with serving(create_app(settings, authenticate=broken), settings) as url:
        answer = httpx.get(f"{url}/jobs/a")

    assert (500, "application/problem+json") == (answer.status_code, answer.headers["Content-Type"])
    assert "hunter2" not in answer.text + str(answer.headers)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert answer.headers["X-Request-ID"] in record.getMessage()


def test_every_error_of_ours_has_its_row() -> None:
    """An error that no row knows is answered without its text, as a failure is."""
    assert 500 == problems.of(RuntimeError("secret")).status
    assert "secret" not in problems.of(RuntimeError("secret")).detail


def test_a_request_keeps_its_id_if_it_is_one(site: Site) -> None:
    """One that could forge a line of a log gets a new one."""
    with site.client(None) as client:
        kept = client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"]
        bad = [
            client.get("/healthz", headers={"X-Request-ID": id}).headers["X-Request-ID"]
            for id in ("a b", "x" * 65)
        ]

    assert "abc-1" == kept
    assert all(re.fullmatch("[0-9a-f]{32}", id) for id in bad)


@pytest.mark.parametrize("way", ["hand-over", "send"])
def test_no_log_line_holds_a_token_or_a_query(
    settings: Settings, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Whatever is asked, in whatever place the token stands; the route is named by its template."""
    caplog.set_level(logging.DEBUG)
    with serving(create_app(settings), settings, way) as url:  # type: ignore[arg-type]
        site = Site(url, settings, redis_client)
        job = site.job()
        job.start()
        job.succeed({})
        token, expired = site.token(), site.expired_token()
        with site.client(None) as client:
            ticket = client.post("/tickets", json={}, headers={"Authorization": f"Bearer {token}"}).json()[
                "token"
            ]
            caplog.clear()
            for secret in (token, expired, ticket, f"{token}x"):
                client.get(f"/?token={secret}")
                client.cookies.clear()
                client.get("/jobs/job-1", headers={"Authorization": f"Bearer {secret}"})
                client.get("/jobs/job-1", headers={"Cookie": f"progress_stream={secret}"})
                client.get(f"/jobs/job-1/result?token={secret}")
                client.get(f"/jobs/job-1/events?token={secret}")

    ours = [
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    ]
    assert [line for line in ours if "/jobs/{id}/events" in line]
    for line in ours:
        assert "?" not in line
        assert not [secret for secret in (token, expired, ticket) if secret in line or secret[-20:] in line]
