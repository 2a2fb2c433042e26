"""Who may: tokens in every place, scopes and owners on every route."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis

from progress_stream.api.app import create_app, routes
from progress_stream.auth.verify import sign
from progress_stream.settings import Settings
from tests.support.server import Site, serving

#: Each guarded request, and the scope that it needs.
GUARDED = [
    ("GET", "/actors", "jobs:read"),
    ("GET", "/jobs", "jobs:read"),
    ("POST", "/jobs", "jobs:write"),
    ("GET", "/jobs/job-1", "jobs:read"),
    ("POST", "/jobs/job-1/cancel", "jobs:write"),
    ("POST", "/jobs/job-1/retry", "jobs:write"),
    ("GET", "/jobs/job-1/events", "jobs:read"),
    ("GET", "/jobs/job-1/result", "jobs:read"),
    ("POST", "/tickets", "jobs:read"),
]
OPEN = {
    "/",
    "/assets/{path:path}",
    "/config.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/login",
    "/auth/callback",
    "/logout",
}
#: Guarded in ways of their own, by tests of their own: a stream that does not end, and what is for administrators alone.
ELSEWHERE = {"/jobs/events", "/admin/streams"}
OF_A_JOB = ["/jobs/{id}", "/jobs/{id}/events", "/jobs/{id}/result"]

every_guarded = pytest.mark.parametrize(("method", "path", "scope"), GUARDED)


@pytest.fixture
def anybody(site: Site) -> Iterator[httpx.Client]:
    """Without a token of its own; job-1 is alice's and has ended."""
    job = site.job()
    job.start()
    job.succeed({"rows": 1})
    site.announce()
    with site.client(None) as client:
        yield client


def ask(client: httpx.Client, method: str, path: str, **headers: str) -> httpx.Response:
    body: Any = {"actor": "personalize"} if path == "/jobs" else {}
    return client.request(method, path, headers=headers, json=body if method == "POST" else None)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_every_route_is_either_guarded_here_or_open_on_purpose() -> None:
    """A new one must take its place in this table."""
    guarded = {path.replace("job-1", "{id}") for _, path, _ in GUARDED}

    assert guarded | OPEN | ELSEWHERE == {route.path for route in routes()}


@pytest.mark.contract("Who may: no token, or a bad one")
@every_guarded
def test_no_token_is_401_with_a_plain_challenge(
    anybody: httpx.Client, method: str, path: str, scope: str
) -> None:
    """RFC 6750 §3.1: no error code where no token was sent. EventSource gets it too: asking again is of no use."""
    for accept in ("application/json", "text/event-stream"):
        answer = ask(anybody, method, path, Accept=accept)

        assert (401, "application/problem+json") == (answer.status_code, answer.headers["Content-Type"])
        assert 'Bearer realm="progress_stream"' == answer.headers["WWW-Authenticate"]


@pytest.mark.contract("Who may: no token, or a bad one")
@every_guarded
def test_a_bad_token_is_401_and_is_not_repeated(
    site: Site, anybody: httpx.Client, method: str, path: str, scope: str
) -> None:
    """Forged, broken, unsigned, of another secret, run out, a ticket that nobody made."""
    unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OSwic2NvcGUiOiJqb2JzOnJlYWQifQ."
    foreign = sign("another secret, which is long enough as well", "alice", scope, 600)
    bad = (
        "x",
        "two tokens",
        "a.b.c",
        unsigned,
        foreign,
        site.token()[:-3],
        site.expired_token(),
        f"pst_{'a' * 43}",
        "x" * 9_000,
    )
    for token in bad:
        answer = ask(anybody, method, path, **bearer(token))

        assert 401 == answer.status_code, token
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert not token or len(token) < 4 or token not in answer.text + str(answer.headers)


@pytest.mark.contract("Who may: a scope is missing")
@every_guarded
def test_a_missing_scope_is_403_and_is_named(
    site: Site, anybody: httpx.Client, method: str, path: str, scope: str
) -> None:
    """`jobs:admin` widens the others, and stands for none of them."""
    for scopes in (
        ("jobs:admin", "")
        if path == "/actors"
        else ("jobs:admin", "jobs:write" if scope == "jobs:read" else "jobs:read")
    ):
        answer = ask(anybody, method, path, **bearer(site.token(scopes=scopes)))

        assert (403, "application/problem+json") == (answer.status_code, answer.headers["Content-Type"])
        assert scope in answer.json()["detail"]
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


@pytest.mark.contract("Scopes")
@every_guarded
def test_the_right_scope_alone_is_enough(
    site: Site, anybody: httpx.Client, method: str, path: str, scope: str
) -> None:
    """By header and by cookie; what an ended job refuses, it refuses to who may ask."""
    token = site.token(scopes=scope)
    by_header = ask(anybody, method, path, **bearer(token))
    by_cookie = ask(
        anybody, method, path, **{"Cookie": f"progress_stream={token}", "Sec-Fetch-Site": "same-origin"}
    )

    if path.endswith(("/cancel", "/retry")):
        assert (409, 409) == (by_header.status_code, by_cookie.status_code), by_header.text
    else:
        assert by_header.is_success and by_cookie.is_success, by_header.text


@pytest.mark.contract("Who may: another owner's job, on any route and at every reconnect")
@pytest.mark.parametrize("path", OF_A_JOB)
def test_another_owners_job_is_404_as_one_that_never_was(
    site: Site, anybody: httpx.Client, path: str
) -> None:
    """The same bytes, on every route, also with a position of that very job: a position is no permission."""
    headers = bearer(site.token("bob")) | {"Last-Event-ID": "1-1"}
    for accept in ("application/json", "text/event-stream"):
        answers = [
            anybody.get(path.format(id=id), headers={**headers, "Accept": accept})
            for id in ("job-1", "never")
        ]

        assert [404, 404] == [answer.status_code for answer in answers]
        assert answers[0].content == answers[1].content


@pytest.mark.contract("Scopes")
@pytest.mark.parametrize("path", OF_A_JOB)
def test_an_admin_sees_every_owners(site: Site, anybody: httpx.Client, path: str) -> None:
    """And a job that nobody owns is for admins alone."""
    orphan = site.job("orphan", owner=None)
    orphan.start()
    orphan.succeed({})
    admin = bearer(site.token("root", "jobs:read jobs:admin"))
    alice = bearer(site.token())

    assert anybody.get(path.format(id="job-1"), headers=admin).is_success
    assert anybody.get(path.format(id="orphan"), headers=admin).is_success
    assert 404 == anybody.get(path.format(id="orphan"), headers=alice).status_code


@pytest.mark.contract("Tickets")
@every_guarded
def test_a_token_in_the_url_is_taken_nowhere_but_a_ticket_where_a_browser_needs_it(
    site: Site, anybody: httpx.Client, method: str, path: str, scope: str
) -> None:
    """URLs end up in logs: a ticket reads one job for an hour, a token may do far more."""
    ticket = anybody.post("/tickets", json={}, headers=bearer(site.token())).json()["token"]

    assert 401 == ask(anybody, method, f"{path}?token={site.token()}").status_code
    taken = path.endswith(("/events", "/result"))
    assert (200 if taken else 401) == ask(anybody, method, f"{path}?token={ticket}").status_code


@pytest.mark.contract("URL_TOKENS")
def test_url_tokens_any_takes_a_token_there(settings: Settings, redis_client: redis.Redis) -> None:
    """For who knows what they do."""
    open_ = settings.model_copy(update={"url_tokens": "any"})
    with serving(create_app(open_), open_) as url:
        site = Site(url, open_, redis_client)
        job = site.job()
        job.start()
        job.succeed({"rows": 1})
        with site.client(None) as client:
            assert 200 == client.get(f"/jobs/job-1/result?token={site.token()}").status_code
            assert 401 == client.get(f"/jobs/job-1?token={site.token()}").status_code


@pytest.mark.contract("Tickets")
def test_a_ticket_in_the_url_wins_over_a_cookie(site: Site, anybody: httpx.Client) -> None:
    """What was put there on purpose counts before what comes along by itself."""
    ticket = anybody.post("/tickets", json={}, headers=bearer(site.token())).json()["token"]
    cookie = {"Cookie": f"progress_stream={site.expired_token('bob')}"}

    assert 200 == anybody.get(f"/jobs/job-1/result?token={ticket}", headers=cookie).status_code


def test_a_stream_with_a_genuine_token_that_has_run_out_is_told_so(site: Site, anybody: httpx.Client) -> None:
    """EventSource would ask for ever at a 401 that it cannot see; everybody else gets that 401."""
    token = site.expired_token()
    stream = anybody.get("/jobs/job-1/events", headers=bearer(token) | {"Accept": "text/event-stream"})
    other = anybody.get("/jobs/job-1/events", headers=bearer(token))

    assert (200, 401) == (stream.status_code, other.status_code)
    assert ["expired"] == [line[7:] for line in stream.text.splitlines() if line.startswith("event: ")]


def test_a_foreign_host_header_changes_nothing(site: Site, anybody: httpx.Client) -> None:
    """CVE-2026-48710: a Host that holds a path made a guarded address look like an open one."""
    for host in ("example.com/healthz?", "example.com/assets/", "x/jobs/job-1/result#"):
        answer = anybody.get("/jobs/job-1", headers={"Host": host})

        assert answer.status_code in {400, 401}
