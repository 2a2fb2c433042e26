"""`GET /`, its files, `/config.json`, and the link that signs a browser in."""

import http.cookies

import httpx
import pytest

from progress_stream import __version__
from tests.support.server import Site


def cookie_of(answer: httpx.Response) -> http.cookies.Morsel[str]:
    return http.cookies.SimpleCookie(answer.headers["Set-Cookie"])["progress_stream"]


@pytest.mark.contract("GET /")
def test_the_page_and_all_that_it_names_are_there(site: Site) -> None:
    """With relative addresses, so that it works under any path."""
    with site.client(None) as client:
        page = client.get("/")
        assets = [part.split('"')[0] for part in page.text.split('="')[1:] if part.startswith("assets/")]
        answers = [client.get(f"/{asset}") for asset in assets]

    assert (200, "text/html; charset=utf-8") == (page.status_code, page.headers["Content-Type"])
    assert assets
    assert {200} == {answer.status_code for answer in answers}
    assert 'href="/' not in page.text and 'src="/' not in page.text


def test_the_page_may_load_nothing_from_elsewhere_and_tells_nobody_where_it_was(site: Site) -> None:
    """A policy that holds even if a name in a job were taken for markup."""
    with site.client(None) as client:
        headers = client.get("/").headers

    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    assert ("nosniff", "no-referrer") == (headers["X-Content-Type-Options"], headers["Referrer-Policy"])


@pytest.mark.contract("GET /assets/…")
def test_a_file_is_sent_once_and_then_only_asked_for(site: Site) -> None:
    """304 to whoever has it."""
    with site.client(None) as client:
        first = client.get("/assets/client/fold.js")
        again = client.get("/assets/client/fold.js", headers={"If-None-Match": first.headers["ETag"]})

    assert (200, "text/javascript; charset=utf-8") == (first.status_code, first.headers["Content-Type"])
    assert (304, b"") == (again.status_code, again.content)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br", "gzip"),
        ("br;q=1.0, gzip;q=0.8", "gzip"),
        ("gzip;q=0, br", None),
        ("gzip;q=0.000", None),
        ("", None),
    ],
)
def test_a_file_is_packed_for_whoever_takes_it(site: Site, accepted: str, encoding: str | None) -> None:
    """The same content by a tag of its own; what lies between is told that there are two."""
    with site.client(None) as client:
        plain = client.get("/assets/client/fold.js", headers={"Accept-Encoding": "identity"})
        answer = client.get("/assets/client/fold.js", headers={"Accept-Encoding": accepted})

    assert encoding == answer.headers.get("Content-Encoding")
    assert plain.content == answer.content
    assert (encoding is None) == (plain.headers["ETag"] == answer.headers["ETag"])
    assert "Accept-Encoding" in answer.headers["Vary"]


@pytest.mark.contract("GET /assets/…")
@pytest.mark.parametrize(
    "path",
    [
        "../pyproject.toml", "..%2fpyproject.toml", "client/../../pyproject.toml", "client/..%2f..%2fpyproject.toml",
        "client//etc/passwd", "%2fetc%2fpasswd", "client/%2e%2e/%2e%2e/pyproject.toml", "client/..%5c..%5cx.js",
        "package.json", "client", "client/", "client/.hidden.js", "client/a%00.js", "node_modules/x.js", "",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_folders(site: Site, path: str) -> None:
    """Sent as written: a client library would tidy it up first."""
    host, _, port = site.url.removeprefix("http://").partition(":")
    with httpx.Client() as client:
        request = client.build_request("GET", site.url)
        request.url = httpx.URL(scheme="http", host=host, port=int(port), raw_path=f"/assets/{path}".encode())
        answer = client.send(request)

    assert 404 == answer.status_code


@pytest.mark.contract("GET /config.json")
def test_config_says_what_a_front_end_must_know(site: Site) -> None:
    """To anybody: it is asked before anyone has signed in."""
    with site.client(None) as client:
        answer = client.get("/config.json")

    expected = {
        "streaming": True, "poll_seconds": 2.0, "heartbeat_seconds": site.settings.heartbeat_seconds, "version": __version__,
        "login": None,
    }  # fmt: skip
    assert (200, expected) == (answer.status_code, answer.json())


@pytest.mark.contract("GET /")
def test_a_link_with_a_token_signs_in_and_leaves_a_clean_address(site: Site) -> None:
    """The token is in a cookie that no script reads, and in no address any more."""
    token = site.token()
    site.job()
    with site.client(None) as client:
        answer = client.get(f"/?token={token}&tab=2")
        cookie = cookie_of(answer)
        read = client.get("/jobs/job-1")

    assert (303, "/?tab=2") == (answer.status_code, answer.headers["Location"])
    assert (token, "/", True, "lax", "") == (
        cookie.value, cookie["path"], cookie["httponly"], cookie["samesite"].lower(), cookie["secure"],
    )  # fmt: skip
    assert 0 < int(cookie["max-age"]) <= 600
    assert 200 == read.status_code


def test_the_cookie_is_secure_over_https(site: Site) -> None:
    """As a proxy on this machine says it."""
    with site.client(None) as client:
        answer = client.get(f"/?token={site.token()}", headers={"X-Forwarded-Proto": "https"})

    assert cookie_of(answer)["secure"]


def test_a_link_with_a_bad_token_sets_nothing(site: Site) -> None:
    """Forged and expired alike."""
    with site.client(None) as client:
        for token in ("nonsense", site.token()[:-2], site.expired_token(), f"pst_{'x' * 43}"):
            answer = client.get(f"/?token={token}")

            assert 401 == answer.status_code
            assert "Set-Cookie" not in answer.headers
            assert token not in answer.text
