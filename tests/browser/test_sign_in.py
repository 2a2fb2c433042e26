"""Signing in at a real OpenID Connect provider, in a real browser: sessions, who sees what, and what a stranger cannot do."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import redis
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import Settings, load
from tests.support.redis import RedisServer
from tests.support.server import Site, serving
from tests.support.streams import Stream

NODE = Path(__file__).parent.parent / "node"
SESSION = "progress_stream_session"


@dataclass
class Place:
    """The application, its provider's address, and a second application that believes in another issuer."""

    site: Site
    issuer: str
    settings: Settings


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def place(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    node = shutil.which("node")
    if node is None or not (NODE / "node_modules" / "oidc-provider").is_dir():
        reason = "no `node` with oidc-provider"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("sign-in")
    port = _free_port()
    with RedisServer(folder / "redis") as server:
        settings = load(
            redis_url=server.url(0), broker_url=server.url(1), data=folder, ready_seconds=0, drain_seconds=0,
            oidc_issuer=f"http://127.0.0.1:{port}", oidc_client_id="progress",
            oidc_client_secret=SecretStr("a secret between the two"), oidc_admin_claim="groups=operators",
        )  # fmt: skip
        with serving(create_app(settings), settings) as url:
            provider = subprocess.Popen(
                [node, "provider.mjs", str(port), f"{url}/auth/callback"], cwd=NODE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            assert provider.stdout is not None and "listening" in provider.stdout.readline()
            client = server.client(0)
            try:
                yield Place(Site(url, settings, client), settings.oidc_issuer or "", settings)
            finally:
                client.close()
                provider.terminate()
                provider.wait(10)


@pytest.fixture
def redis_client(place: Place) -> redis.Redis:
    return place.site.redis


def sign_in(page: Page, place: Place, name: str, view: str = "") -> None:
    """As a person does, with the provider's own pages."""
    page.goto(f"{place.site.url}/login{view and '?next=' + view}")
    fill_in(page, name)


def fill_in(page: Page, name: str) -> None:
    page.get_by_placeholder("Enter any login").fill(name)
    page.get_by_placeholder("and password").fill("anything")
    page.get_by_role("button").click()
    page.get_by_role("button", name="Continue").click()


def cookie_of(context: BrowserContext, name: str = SESSION) -> str:
    return next((str(one["value"]) for one in context.cookies() if one["name"] == name), "")


def with_session(token: str) -> dict[str, str]:
    return {"Cookie": f"{SESSION}={token}"}


def status(place: Place, token: str, path: str) -> int:
    return httpx.get(f"{place.site.url}{path}", headers=with_session(token)).status_code


@pytest.mark.contract(
    "GET /auth/callback",
    "OIDC_ISSUER",
    "OIDC_CLIENT_ID",
    "OIDC_CLIENT_SECRET",
    "OIDC_SCOPES",
    "SESSION_SECONDS",
)
def test_whoever_signs_in_sees_their_own_jobs(context: BrowserContext, place: Place) -> None:
    """Back at the view that was asked for; the cookie is none that a script or a foreign page could use."""
    place.site.job("ours", owner="alice")
    place.site.job("theirs", owner="bob")
    page = context.new_page()
    sign_in(page, place, "alice", "%23/jobs/ours")
    expect(page).to_have_url(f"{place.site.url}/#/jobs/ours")
    session = next(one for one in context.cookies() if one["name"] == SESSION)
    token = str(session["value"])

    assert (True, "Lax", "/") == (session["httpOnly"], session["sameSite"], session["path"])
    assert 28_000 < session["expires"] - time.time() <= 28_800
    assert (200, 404) == (status(place, token, "/jobs/ours"), status(place, token, "/jobs/theirs"))
    assert [] == [one["name"] for one in context.cookies() if one["name"].startswith("progress_stream_login")]
    assert not any(
        token.encode() in (place.site.redis.get(key) or b"") for key in place.site.redis.keys("ps:session:*")
    )


@pytest.mark.contract("OIDC_ADMIN_CLAIM")
def test_an_operator_sees_everybodys(context: BrowserContext, place: Place) -> None:
    """By the claim that OIDC_ADMIN_CLAIM names."""
    place.site.job("of-carol", owner="carol")
    page = context.new_page()
    sign_in(page, place, "root")
    page.wait_for_url(re.compile("/(#.*)?$"))

    assert 200 == status(place, cookie_of(context), "/jobs/of-carol")


@pytest.mark.contract("GET /auth/callback")
def test_two_tabs_may_sign_in_at_once(context: BrowserContext, place: Place) -> None:
    """The second one does not spoil the first."""
    first, second = context.new_page(), context.new_page()
    first.goto(f"{place.site.url}/login?next=%23/jobs/one")
    second.goto(f"{place.site.url}/login?next=%23/jobs/two")
    fill_in(first, "alice")
    first.wait_for_url(re.compile("#/jobs/one$"))
    # The provider knows who it is by now, and asks for consent alone.
    second.goto(f"{place.site.url}/login?next=%23/jobs/two")
    if urlsplit(second.url).port != urlsplit(place.site.url).port:
        second.get_by_role("button", name="Continue").click()
    second.wait_for_url(re.compile("#/jobs/two$"))

    assert cookie_of(context)


@pytest.mark.contract("GET /auth/callback")
def test_a_sign_in_counts_once_and_in_its_own_browser_alone(
    context: BrowserContext, chromium: Browser, place: Place
) -> None:
    """Neither a repeated answer, nor one that a stranger gives somebody else to open, makes a session."""
    page = context.new_page()
    answers: list[str] = []
    page.on(
        "request", lambda request: answers.append(request.url) if "/auth/callback" in request.url else None
    )
    sign_in(page, place, "alice")
    page.wait_for_url(re.compile("/(#.*)?$"))
    again = httpx.get(
        answers[0], headers={"Cookie": "; ".join(f"{c['name']}={c['value']}" for c in context.cookies())}
    )
    begun = httpx.get(f"{place.site.url}/login")
    state = parse_qs(urlsplit(begun.headers["Location"]).query)["state"][0]
    foreign = httpx.get(f"{place.site.url}/auth/callback?code=x&state={state}")
    forged = httpx.get(f"{place.site.url}/auth/callback?code=x&state={'a' * 30}")

    for answer in (again, foreign, forged):
        assert (303, "/#/sign-in-failed") == (answer.status_code, answer.headers["Location"])
        assert "session" not in answer.headers.get("Set-Cookie", "")


@pytest.mark.contract("GET /login")
@pytest.mark.parametrize(
    "view",
    [
        "//evil.example", "javascript:alert(1)",
        *(pytest.param(view, marks=pytest.mark.slow) for view in ("https://evil.example", "/..//evil.example", "#//evil")),
    ],
)  # fmt: skip
def test_nobody_is_led_elsewhere(context: BrowserContext, place: Place, view: str) -> None:
    """What comes after signing in is a view of our page, or the page."""
    page = context.new_page()
    sign_in(page, place, "alice", view.replace("#", "%23"))
    page.wait_for_url(re.compile(re.escape(place.site.url)))

    assert urlsplit(place.site.url).netloc == urlsplit(page.url).netloc


@pytest.mark.contract("POST /logout", "Sessions")
def test_a_session_that_is_over_is_expired_on_a_stream_and_401_elsewhere(
    context: BrowserContext, place: Place
) -> None:
    """Never 401 on a stream, at which EventSource gives up; never a redirect."""
    place.site.job("long", owner="dora").start()
    page = context.new_page()
    sign_in(page, place, "dora")
    page.wait_for_url(re.compile("/(#.*)?$"))
    token = cookie_of(context)
    ended = "fetch('/logout', { method: 'POST' }).then((answer) => answer.json())"
    location = page.evaluate(ended)["location"]
    with Stream(
        place.site.url, "/jobs/long/events", {**with_session(token), "Accept": "text/event-stream"}
    ) as stream:
        stream.to_end()

    assert location.startswith(f"{place.issuer}/session/end?")
    assert "" == cookie_of(context)
    assert (200, ["expired"]) == (stream.status, stream.types)
    assert 401 == status(place, token, "/jobs/long")
    assert 401 == httpx.get(f"{place.site.url}/jobs/long/events").status_code
    assert 403 == httpx.post(f"{place.site.url}/logout", headers=with_session(token)).status_code


@pytest.mark.contract("Sessions")
def test_a_stream_ends_with_its_session(context: BrowserContext, place: Place) -> None:
    """SESSION_SECONDS are over in the middle of it."""
    place.site.job("short", owner="emil").start()
    changed = place.settings.model_copy(update={"session_seconds": 2})
    page = context.new_page()
    sign_in(page, place, "emil")
    page.wait_for_url(re.compile("/(#.*)?$"))
    with serving(create_app(changed), changed) as url:
        # A session of this server's, made as its own callback makes them.
        from progress_stream.auth import sessions

        session = sessions.begin("emil", frozenset({"jobs:read"}), 2, time.time())
        store = place.site.store
        store.send(store.commands.put_record(sessions.KIND, session.key, session.record, 60))
        with Stream(
            url, "/jobs/short/events", {**with_session(session.token), "Accept": "text/event-stream"}
        ) as stream:
            stream.to_end()

    assert "expired" == stream.types[-1]
    assert stream.types.index("started") < stream.types.index("expired")


@pytest.mark.contract("OIDC_ISSUER")
def test_a_provider_that_calls_itself_otherwise_is_not_believed(
    place: Place, redis_client: redis.Redis
) -> None:
    """Its metadata name another issuer than the one that was configured."""
    changed = place.settings.model_copy(
        update={"oidc_issuer": place.issuer.replace("127.0.0.1", "localhost")}
    )
    with serving(create_app(changed), changed) as url:
        answer = httpx.get(f"{url}/login")

    assert (303, "/#/sign-in-failed") == (answer.status_code, answer.headers["Location"])


@pytest.mark.contract("GET /login")
def test_pkce_state_and_nonce_are_sent_and_nothing_of_them_is_logged(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """S256; and a session's cookie never travels in the clear from elsewhere."""
    answer = httpx.get(f"{place.site.url}/login")
    asked = parse_qs(urlsplit(answer.headers["Location"]).query)
    elsewhere = httpx.get(f"{place.site.url}/login", headers={"Host": "progress.example"})

    assert ["S256"] == asked["code_challenge_method"]
    assert {"state", "nonce", "code_challenge"} <= asked.keys()
    assert f"{place.site.url}/auth/callback" == asked["redirect_uri"][0]
    assert 422 == elsewhere.status_code
    assert not any(asked["state"][0] in record.getMessage() for record in caplog.records)


@pytest.mark.contract("GET /login")
def test_without_a_provider_there_is_nothing_to_sign_in_at(place: Place) -> None:
    """404, and the page is told so."""
    changed = place.settings.model_copy(update={"oidc_issuer": None, "jwt_secret": SecretStr("x" * 40)})
    with serving(create_app(changed), changed) as url:
        statuses = [httpx.get(f"{url}/login").status_code, httpx.get(f"{url}/auth/callback").status_code]
        login = httpx.get(f"{url}/config.json").json()["login"]

    assert ([404, 404], None) == (statuses, login)
    assert "/login" == httpx.get(f"{place.site.url}/config.json").json()["login"]


def test_the_page_offers_to_sign_in_and_out(context: BrowserContext, place: Place) -> None:
    """Back at the view that was looked at; signed out, at the provider too, it asks again."""
    page = context.new_page()
    said: list[str] = []
    page.on(
        "console",
        lambda line: (
            said.append(line.text)
            if line.type == "error" and place.site.url in line.location["url"]
            else None
        ),
    )
    place.site.job("of-fay", owner="fay").start()
    page.goto(f"{place.site.url}/#/jobs/of-fay")
    expect(page.get_by_role("heading", name="Sign in to see your jobs")).to_be_visible()
    page.get_by_role("link", name="Sign in").click()
    fill_in(page, "fay")
    expect(page).to_have_url(f"{place.site.url}/#/jobs/of-fay")
    expect(page.locator("#job-state")).to_have_text(re.compile("Running|Stalled"))
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Yes, sign me out").click()
    expect(page.get_by_role("heading", name="Sign in to see your jobs")).to_be_visible()
    page.goto(f"{place.site.url}/#/sign-in-failed")
    expect(page.get_by_role("heading", name="Signing in did not work")).to_be_visible()

    # The browser itself writes a line for each 401.
    assert [] == [line for line in said if "401" not in line]
