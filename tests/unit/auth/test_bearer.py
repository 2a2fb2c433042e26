"""Where a token may stand, and which pages may send a cookie."""

from typing import Literal

import pytest

from progress_stream.auth.bearer import Bearer, bearer_of, challenge, same_origin
from progress_stream.errors import MissingScope, NotAuthenticated, TokenExpired

TICKET = "pst_" + "a" * 43
JWT = "aaa.bbb.ccc"


def asked(
    headers: dict[str, str] | None = None,
    token: str = "",
    *,
    method: str = "GET",
    path: str = "/jobs/j1/events",
    url_tokens: Literal["tickets", "any"] = "tickets",
) -> Bearer | None:
    query = {"token": token} if token else {}
    return bearer_of(headers or {}, query, method=method, path=path, url_tokens=url_tokens)


@pytest.mark.parametrize("value", [f"Bearer {JWT}", f"bearer {JWT}", f"BEARER   {JWT} "])
def test_the_header_holds_a_token(value: str) -> None:
    """The scheme's name is case-insensitive (RFC 9110 §11.1)."""
    assert (JWT, "header") == asked({"authorization": value}, path="/jobs", method="POST")


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "Bearer a b", "Bearer a, Bearer b", "Bearer a\tb", "Bearer ä"]
)
def test_a_header_without_a_single_token_is_refused(value: str) -> None:
    """And nothing else of the request is tried instead; the value is not told."""
    with pytest.raises(NotAuthenticated) as refused:
        asked({"authorization": value, "cookie": f"progress_stream={JWT}"})

    assert value not in str(refused.value)


def test_a_proxys_own_password_is_none_of_ours() -> None:
    """Basic authentication in front is passed on by many proxies."""
    assert (JWT, "cookie") == asked({"authorization": "Basic YTpi", "cookie": f"progress_stream={JWT}"})
    assert asked({"authorization": "Basic YTpi"}) is None


@pytest.mark.parametrize(
    "cookie",
    [
        f"progress_stream={JWT}",
        f"a=b; progress_stream={JWT}; c=d",
        f'progress_stream="{JWT}"',
        f"xprogress_stream=no;progress_stream={JWT}",
        f"progress_stream={JWT}; progress_stream=second",
    ],
)
def test_the_cookie_holds_a_token(cookie: str) -> None:
    """The first of the name, for browsers send the closest first."""
    assert (JWT, "cookie") == asked({"cookie": cookie}, path="/jobs", method="POST")


@pytest.mark.parametrize(
    "cookie", ["", "progress_stream", "progress_stream=", "other=x", "PROGRESS_STREAM=x"]
)
def test_without_a_token_there_is_none(cookie: str) -> None:
    """Which is no error here: the route decides."""
    assert asked({"cookie": cookie}) is None


@pytest.mark.parametrize("path", ["/jobs/j1/events", "/jobs/events", "/jobs/j1/result", "/jobs/a~2/events"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_url_may_hold_a_ticket_where_a_browser_can_set_no_header(path: str, method: str) -> None:
    """A token only where the settings say so: URLs are logged."""
    assert (TICKET, "query") == asked(token=TICKET, path=path, method=method)
    assert (JWT, "query") == asked(token=JWT, path=path, method=method, url_tokens="any")
    with pytest.raises(NotAuthenticated) as refused:
        asked({"cookie": f"progress_stream={JWT}"}, token=JWT, path=path, method=method)
    assert JWT not in str(refused.value)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/j1"),
        ("GET", "/jobs"),
        ("POST", "/jobs"),
        ("POST", "/tickets"),
        ("POST", "/"),
        ("POST", "/jobs/j1/events"),
        ("DELETE", "/jobs/j1/result"),
        ("GET", "/jobs/j1/events/"),
        ("GET", "/jobs/j1/x/events"),
        ("GET", "/x/jobs/j1/events"),
        ("GET", "/jobs//events"),
        ("GET", "/jobs/j1/events\n"),
    ],
)
def test_elsewhere_a_token_in_the_url_counts_for_nothing(method: str, path: str) -> None:
    """Whatever the settings say."""
    for token in (TICKET, JWT):
        assert asked(token=token, method=method, path=path, url_tokens="any") is None


def test_the_page_takes_any_token_once() -> None:
    """It makes a cookie of it and sends the browser to the clean URL."""
    assert (JWT, "query") == asked(token=JWT, path="/")
    assert (TICKET, "query") == asked(token=TICKET, path="/")


def test_what_was_sent_on_purpose_wins() -> None:
    """Header, then URL, then the cookie, which comes by itself."""
    cookie = {"cookie": "progress_stream=c"}

    assert ("h", "header") == asked({"authorization": "Bearer h", **cookie}, token=TICKET)
    assert (TICKET, "query") == asked(cookie, token=TICKET)


def test_a_bearer_does_not_print_its_token() -> None:
    """It may end in a log by accident."""
    assert "Bearer(source='header')" == repr(Bearer(JWT, "header"))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://public.example"}, True),
        ({"sec-fetch-site": "same-site", "origin": "https://jobs.example"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://jobs.example"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": ""}, False),
        ({"origin": "https://jobs.example"}, True),
        ({"origin": "http://jobs.example"}, True),
        ({"origin": "https://JOBS.example:443"}, True),
        ({"origin": "https://jobs.example:8443"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "https://jobs.example.evil.example"}, False),
        ({"origin": "https://xjobs.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "file://jobs.example"}, False),
        ({"origin": "https://jobs.example:bad"}, False),
        ({"origin": "https://[bad"}, False),
        ({"referer": "https://jobs.example/"}, False),
        ({}, False),
    ],
)
def test_a_cookie_changes_something_only_for_a_page_of_this_host(
    headers: dict[str, str], expected: bool
) -> None:
    """A page elsewhere makes the browser send the cookie along, but cannot make it lie about where it stands."""
    assert expected == same_origin(headers, "jobs.example")


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://localhost:8000", "127.0.0.1:8000", False),
        ("http://127.0.0.1:8001", "127.0.0.1:8000", False),
        ("http://jobs.example", "jobs.example:80", True),
        ("http://jobs.example", "", False),
        ("http://jobs.example", "[bad", False),
    ],
)
def test_ports_count(origin: str, host: str, expected: bool) -> None:
    """Another port is another origin; a default one may be left out."""
    assert expected == same_origin({"origin": origin}, host)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, 'Bearer realm="progress_stream"'),
        (
            TokenExpired("the token has expired"),
            'Bearer realm="progress_stream", error="invalid_token", error_description="the token has expired"',
        ),
        (
            MissingScope("jobs:write"),
            'Bearer realm="progress_stream", scope="jobs:write", error="insufficient_scope", '
            'error_description="this needs the scope jobs:write"',
        ),
    ],
)
def test_an_answer_says_what_is_missing(error: NotAuthenticated | MissingScope | None, expected: str) -> None:
    """RFC 6750 §3: no reason where no token came, the scope where one is missing."""
    assert expected == challenge(error)
