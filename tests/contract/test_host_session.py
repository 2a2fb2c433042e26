"""`create_app(authenticate=…)`: the host application's own session decides."""

from collections.abc import Iterator

import pytest
import redis
from starlette.requests import Request

from progress_stream.api.app import create_app
from progress_stream.auth.who import Who
from progress_stream.errors import InvalidSetting
from progress_stream.settings import Settings
from tests.support.server import Site, serving


async def session(request: Request) -> Who | None:
    """A host that knows alice by its own cookie or header."""
    name = request.cookies.get("session") or request.headers.get("x-user")
    return Who(name, frozenset({"jobs:read", "jobs:write"}), kind="host") if name else None


@pytest.fixture
def site(settings: Settings, redis_client: redis.Redis) -> Iterator[Site]:
    """Without a secret: no token of ours could be proved."""
    own = settings.model_copy(update={"jwt_secret": None})
    with serving(create_app(own, authenticate=session), own) as url:
        yield Site(url, own, redis_client)


def test_the_hosts_word_decides(site: Site) -> None:
    """Who it names owns and sees; whom it does not know gets 401; our tokens say nothing here."""
    site.job()
    with site.client(None) as client:
        assert 200 == client.get("/jobs/job-1", headers={"Cookie": "session=alice"}).status_code
        assert 404 == client.get("/jobs/job-1", headers={"Cookie": "session=bob"}).status_code
        assert 401 == client.get("/jobs/job-1").status_code
        assert 401 == client.get("/jobs/job-1", headers=site.headers()).status_code


def test_tickets_work_beside_it(site: Site) -> None:
    """EventSource on another origin has no session, but can have a ticket."""
    site.job()
    with site.client(None) as client:
        made = client.post("/tickets", json={"jobs": ["job-1"]}, headers={"X-User": "alice"})

        assert 201 == made.status_code
        url = f"/jobs/job-1/events?token={made.json()['token']}"
        assert 200 == client.head(url, headers={"Cookie": "session=bob"}).status_code


def test_a_session_cookie_changes_nothing_from_a_foreign_page(site: Site) -> None:
    """As with our own cookie."""
    site.announce()
    body = {"actor": "personalize"}
    foreign = {"Cookie": "session=alice", "Origin": "https://evil.example"}
    own = {"Cookie": "session=alice", "Origin": site.url}
    with site.client(None) as client:
        assert 403 == client.post("/jobs", json=body, headers=foreign).status_code
        assert 201 == client.post("/jobs", json=body, headers=own).status_code
        assert 201 == client.post("/jobs", json=body, headers={"X-User": "alice"}).status_code


def test_a_plain_function_will_do(settings: Settings, redis_client: redis.Redis) -> None:
    """Not every session needs a loop."""
    app = create_app(
        settings, authenticate=lambda request: Who("alice", frozenset({"jobs:read"}), kind="host")
    )
    with serving(app, settings) as url:
        site = Site(url, settings, redis_client)
        site.job()
        with site.client(None) as client:
            assert 200 == client.get("/jobs/job-1").status_code


def test_without_any_way_to_tell_people_apart_there_is_no_application(settings: Settings) -> None:
    """One line that names what is missing."""
    with pytest.raises(InvalidSetting, match="JWT_SECRET"):
        create_app(settings.model_copy(update={"jwt_secret": None}))
    with pytest.raises(InvalidSetting, match="REDIS_URL"):
        create_app(settings.model_copy(update={"redis_url": None}))
