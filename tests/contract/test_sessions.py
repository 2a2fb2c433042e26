"""Sessions: which answers of a provider begin one, under which cookie, and what ends with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import redis
from joserfc.jwk import RSAKey
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Mount

from progress_stream.api.app import create_app
from progress_stream.auth import sessions
from progress_stream.settings import Settings
from tests.support.provider import CLIENT, SECRET, Provider
from tests.support.server import Site, serving
from tests.support.streams import Stream
from tests.support.waiting import until

FAILED = "/#/sign-in-failed"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def settings(settings: Settings, provider: Provider) -> Settings:
    told = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT, "oidc_client_secret": SecretStr(SECRET)}
    return settings.model_copy(update=told)


def sign_in(
    url: str, provider: Provider, headers: dict[str, str] | None = None, **query: str
) -> httpx.Response:
    """The answer to whoever comes back from the provider, in the browser that was sent there."""
    begun = httpx.get(f"{url}/login", headers=headers)
    asked = parse_qs(urlsplit(begun.headers["Location"]).query)
    provider.nonce = asked["nonce"][0]
    back = urlsplit(asked["redirect_uri"][0])
    binding = begun.headers["Set-Cookie"].partition(";")[0]
    address = urlsplit(url)
    return httpx.get(
        f"http://{address.netloc}{back.path}", params={"code": "a-code", "state": asked["state"][0], **query},
        headers={**(headers or {}), "Cookie": binding},
    )  # fmt: skip


def cookies_of(answer: httpx.Response) -> list[str]:
    return [line for line in answer.headers.get_list("Set-Cookie") if "_session=" in line]


LIES: dict[str, Callable[[Provider], object]] = {
    "another nonce": lambda provider: provider.claims.update(nonce="of another sign-in"),
    "no nonce": lambda provider: provider.claims.update(nonce=None),
    "another audience": lambda provider: provider.claims.update(aud="somebody-else"),
    "another issuer": lambda provider: provider.claims.update(iss="https://evil.example"),
    "expired": lambda provider: provider.claims.update(exp=int(time.time()) - 3_600),
    "no subject": lambda provider: provider.claims.update(sub=None),
    "a subject that can own nothing": lambda provider: provider.claims.update(sub="a\nb"),
    "a shared secret": Provider.sign_with_shared_secret,
    "a key that is not published": lambda provider: setattr(
        provider, "signs_with", RSAKey.generate_key(2048, {"kid": "first"})
    ),
    "a key of an unknown name": lambda provider: setattr(
        provider, "signs_with", RSAKey.generate_key(2048, {"kid": "unknown"})
    ),
}


@pytest.mark.contract("GET /auth/callback")
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_provider_that_lies_begins_no_session(
    site: Site, provider: Provider, lie: Callable[[Provider], object]
) -> None:
    """And the one after it, which does not, does."""
    lie(provider)
    refused = sign_in(site.url, provider)
    provider.claims.clear()
    provider.algorithm, provider.signs_with = "RS256", None
    taken = sign_in(site.url, provider)

    assert (303, FAILED, []) == (refused.status_code, refused.headers["Location"], cookies_of(refused))
    assert (303, "/") == (taken.status_code, taken.headers["Location"])
    assert 1 == len(cookies_of(taken))


@pytest.mark.contract("GET /auth/callback")
def test_an_answer_that_names_another_issuer_is_a_mix_up(site: Site, provider: Provider) -> None:
    """RFC 9207."""
    assert FAILED == sign_in(site.url, provider, iss="https://evil.example").headers["Location"]
    assert "/" == sign_in(site.url, provider, iss=provider.issuer).headers["Location"]


@pytest.mark.contract("GET /auth/callback")
def test_a_provider_may_change_its_keys(site: Site, provider: Provider) -> None:
    """The new one is asked for; the old one counts no more."""
    first = sign_in(site.url, provider)
    old = provider.key
    provider.rotate()
    second = sign_in(site.url, provider)
    provider.signs_with = old
    third = sign_in(site.url, provider)

    assert ["/", "/", FAILED] == [answer.headers["Location"] for answer in (first, second, third)]


@pytest.mark.contract("Sessions")
def test_over_https_the_cookie_is_one_that_only_this_host_can_set(site: Site, provider: Provider) -> None:
    """RFC 6265bis §4.1.3.2; and the plain one of this machine is not looked at there."""
    secure = {"X-Forwarded-Proto": "https", "Host": "progress.example"}
    answer = sign_in(site.url, provider, secure)
    (cookie,) = cookies_of(answer)
    name, _, token = cookie.partition(";")[0].partition("=")
    site.job("ours")
    with site.client(None) as client:
        mine = client.get("/jobs/ours", headers={**secure, "Cookie": f"{name}={token}"})
        plain = client.get("/jobs/ours", headers={**secure, "Cookie": f"{sessions.PLAIN_COOKIE}={token}"})

    assert sessions.HOST_COOKIE == name
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
    assert not any(part.startswith("domain") for part in attributes)
    assert (200, 401) == (mine.status_code, plain.status_code)


@pytest.mark.contract("GET /login")
def test_under_a_prefix_it_comes_back_there(settings: Settings, provider: Provider) -> None:
    """The provider is told of the callback below the prefix, and the page that follows is ours."""
    outer = Starlette(routes=[Mount("/progress", create_app(settings))])
    with serving(outer, settings) as url:
        answer = sign_in(f"{url}/progress", provider)

    assert (303, "/progress/") == (answer.status_code, answer.headers["Location"])
    assert 1 == len(cookies_of(answer))


class TestTheEnd:
    """Signing out, while streams are open in two web processes."""

    @pytest.fixture
    def elsewhere(self, settings: Settings, redis_client: redis.Redis) -> Iterator[Site]:
        with serving(create_app(settings), settings) as url:
            yield Site(url, settings, redis_client)

    @pytest.fixture
    def session(self, site: Site, provider: Provider) -> str:
        (cookie,) = cookies_of(sign_in(site.url, provider))
        return cookie.partition(";")[0]

    def ticket(self, site: Site, session: str) -> str:
        headers = {"Cookie": session, "Origin": site.url}
        return str(httpx.post(f"{site.url}/tickets", headers=headers).json()["token"])

    @pytest.mark.contract("POST /logout", "Sessions", "POST /tickets")
    def test_all_streams_of_the_session_are_told_that_it_is_over(
        self, site: Site, elsewhere: Site, session: str
    ) -> None:
        """A job's, a list's, and that of a ticket that was taken with it; somebody else's goes on."""
        site.job("ours").start()
        ticket = self.ticket(site, session)
        events = {"Accept": "text/event-stream"}
        mine = {"Cookie": session, **events}
        with (
            Stream(site.url, "/jobs/ours/events", mine) as here,
            Stream(elsewhere.url, "/jobs/ours/events", mine) as there,
            Stream(elsewhere.url, "/jobs/events", mine) as listed,
            Stream(elsewhere.url, f"/jobs/ours/events?token={ticket}", events) as by_ticket,
            Stream(site.url, "/jobs/ours/events", {**site.headers(), **events}) as of_a_token,
        ):
            streams = [here, there, listed, by_ticket]
            for stream in (*streams, of_a_token):
                stream.until(lambda stream: stream.frames)
            answer = httpx.post(f"{site.url}/logout", headers={"Cookie": session, "Origin": site.url})
            for stream in streams:
                stream.to_end()
            of_a_token.for_seconds(1)
        with Stream(site.url, f"/jobs/ours/events?token={ticket}", events) as after:
            after.to_end()
        result = httpx.get(f"{site.url}/jobs/ours/result?token={ticket}")

        assert 200 == answer.status_code
        assert ["expired"] * 4 == [stream.types[-1] for stream in streams]
        assert "expired" not in of_a_token.types
        assert (200, ["expired"]) == (after.status, after.types)
        assert 401 == result.status_code

    @pytest.mark.contract("Sessions")
    def test_an_end_that_was_not_heard_is_found(
        self, site: Site, session: str, redis_client: redis.Redis
    ) -> None:
        """The subscription was cut in that moment."""
        site.job("ours").start()
        store = site.store
        key = sessions.key_of(session.partition("=")[2])
        with Stream(
            site.url, "/jobs/ours/events", {"Cookie": session, "Accept": "text/event-stream"}
        ) as stream:
            stream.until(lambda stream: stream.frames)
            record: Any = store.send(store.commands.get_record(sessions.KIND, key))
            closed, _ = sessions.ended(record, time.time())
            store.send(store.commands.put_record(sessions.KIND, key, closed, 60))
            until(lambda: redis_client.client_kill_filter(_type="pubsub"))
            stream.to_end()

        assert "expired" == stream.types[-1]
