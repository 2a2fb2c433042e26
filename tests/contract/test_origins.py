"""Pages of other origins: what a cookie may not do for them, and what CORS lets them."""

from collections.abc import Iterator

import httpx
import pytest
import redis

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.support.server import Site, serving

FRIEND = "https://app.example.com"


def submit(site: Site, **headers: str) -> int:
    cookie = {"Cookie": f"progress_stream={site.token()}"}
    with site.client(None) as client:
        answer = client.post("/jobs", json={"actor": "personalize"}, headers=cookie | headers)
    assert answer.is_success or "application/problem+json" == answer.headers["Content-Type"]
    return answer.status_code


@pytest.mark.contract("Who may: a request that changes something, with the cookie, from another origin")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "own"},
        {"Referer": "own"},
    ],
)
def test_a_cookie_alone_changes_nothing(site: Site, headers: dict[str, str]) -> None:
    """Not from a foreign page, and not from where nobody says which page it was."""
    site.announce()

    assert 403 == submit(
        site, **{name: site.url if value == "own" else value for name, value in headers.items()}
    )


def test_our_own_page_may(site: Site) -> None:
    """By `Sec-Fetch-Site`, and in older browsers by `Origin`."""
    site.announce()

    assert 201 == submit(site, **{"Sec-Fetch-Site": "same-origin"})
    assert 201 == submit(site, Origin=site.url)


def test_a_ticket_cannot_be_had_by_a_foreign_page_either(site: Site) -> None:
    """It would read all of a person's jobs."""
    with site.client(None) as client:
        headers = {"Cookie": f"progress_stream={site.token()}", "Origin": "https://evil.example"}

        assert 403 == client.post("/tickets", json={}, headers=headers).status_code


def test_reading_with_a_cookie_needs_no_origin(site: Site) -> None:
    """A browser shows a foreign page nothing of it anyway."""
    site.job()
    with site.client(None) as client:
        headers = {"Cookie": f"progress_stream={site.token()}", "Origin": "https://evil.example"}
        answer = client.get("/jobs/job-1", headers=headers)

    assert 200 == answer.status_code
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_token_in_a_header_needs_no_origin(site: Site) -> None:
    """It does not come along by itself."""
    site.announce()
    with site.client() as client:
        answer = client.post(
            "/jobs", json={"actor": "personalize"}, headers={"Origin": "https://other.example"}
        )

    assert 201 == answer.status_code


class TestCors:
    """`CORS_ORIGINS` lets pages of these origins in, with their own tokens."""

    @pytest.fixture
    def site(self, settings: Settings, redis_client: redis.Redis) -> Iterator[Site]:
        own = settings.model_copy(update={"cors_origins": (FRIEND,)})
        with serving(create_app(own), own) as url:
            yield Site(url, own, redis_client)

    def preflight(self, site: Site, origin: str, method: str, headers: str) -> httpx.Response:
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
        return httpx.options(f"{site.url}/jobs/job-1/events", headers={"Origin": origin} | asked)

    def test_a_preflight_is_answered_without_a_token(self, site: Site) -> None:
        """It carries none; and a stream's headers are let through."""
        answer = self.preflight(site, FRIEND, "GET", "authorization,last-event-id")

        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        assert (200, FRIEND) == (answer.status_code, answer.headers["Access-Control-Allow-Origin"])
        assert "authorization" in allowed and "last-event-id" in allowed

    @pytest.mark.parametrize(
        ("origin", "method", "headers"),
        [
            ("https://evil.example", "GET", "authorization"),
            (FRIEND, "DELETE", ""),
            (FRIEND, "GET", "x-other"),
        ],
    )
    def test_what_is_not_allowed_is_a_problem(
        self, site: Site, origin: str, method: str, headers: str
    ) -> None:
        """In the form of all our errors."""
        answer = self.preflight(site, origin, method, headers)

        assert (400, "application/problem+json") == (answer.status_code, answer.headers["Content-Type"])

    @pytest.mark.contract("CORS_ORIGINS")
    def test_answers_and_errors_can_be_read_by_the_page(self, site: Site) -> None:
        """An error that a page may not see looks like a broken network."""
        site.job()
        with site.client() as client:
            found = client.get("/jobs/job-1", headers={"Origin": FRIEND})
            lost = client.get("/jobs/never", headers={"Origin": FRIEND})
            other = client.get("/jobs/job-1", headers={"Origin": "https://evil.example"})

        assert (200, FRIEND) == (found.status_code, found.headers["Access-Control-Allow-Origin"])
        assert (404, FRIEND) == (lost.status_code, lost.headers["Access-Control-Allow-Origin"])
        assert {"etag", "location"} <= set(found.headers["Access-Control-Expose-Headers"].lower().split(", "))
        assert "Access-Control-Allow-Origin" not in other.headers

    @pytest.mark.parametrize("way", ["hand-over", "send"])
    def test_a_stream_has_them_too(self, settings: Settings, redis_client: redis.Redis, way: str) -> None:
        """Also where its connection is taken over right after its headers."""
        own = settings.model_copy(update={"cors_origins": (FRIEND,)})
        with serving(create_app(own), own, way) as url:  # type: ignore[arg-type]
            site = Site(url, own, redis_client)
            site.job()
            with (
                site.client() as client,
                client.stream("GET", "/jobs/job-1/events", headers={"Origin": FRIEND}) as stream,
            ):
                headers = stream.headers

        assert FRIEND == headers["Access-Control-Allow-Origin"]
        assert headers["X-Request-ID"]

    def test_a_friends_page_still_changes_nothing_by_cookie(self, site: Site) -> None:
        """CORS is about its own tokens."""
        site.announce()

        assert 403 == submit(site, Origin=FRIEND)


@pytest.mark.contract("CORS_ORIGINS")
def test_without_cors_a_preflight_is_refused(site: Site) -> None:
    """405, as for any method that an address does not take."""
    answer = httpx.options(
        f"{site.url}/jobs/job-1", headers={"Origin": FRIEND, "Access-Control-Request-Method": "GET"}
    )

    assert 405 == answer.status_code
    assert "Access-Control-Allow-Origin" not in answer.headers
