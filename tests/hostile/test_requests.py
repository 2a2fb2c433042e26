"""Requests that are not what they seem: targets and hosts, names of files, foreign pages, bombs.

Slow and endless heads and bodies are in tests/server/test_limits.py and tests/limits; readers that never read there too.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle

import pytest

from progress_stream import jobs
from progress_stream.api.app import routes
from tests.contract.test_list import make
from tests.support.server import PATIENCE_SECONDS, Site
from tests.support.streams import Response

EVIL = "evil.example"


def send(site: Site, data: bytes) -> Response:
    """These very bytes, and the one answer to them."""
    host, _, port = site.url.removeprefix("http://").partition(":")
    response = Response()
    with (
        socket.create_connection((host, int(port)), PATIENCE_SECONDS) as connection,
        suppress(ConnectionError),
    ):
        connection.sendall(data)
        while not response.complete and (piece := connection.recv(65_536)):
            response.feed(piece)
    return response


def head(site: Site, target: str, host: str | None, token: bool, method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), "Connection: close"]
    lines += [f"Authorization: Bearer {site.token()}"] if token else []
    return "\r\n".join([*lines, "", ""]).encode("utf-8")


HOSTS = (
    None, "", EVIL, f"{EVIL}:1", f"user@{EVIL}", f"{EVIL}/healthz?", f"{EVIL}/assets/", "x/jobs/job-1#", "[::1", "[::1]:99999",
    "a b", "127.0.0.1:0, evil.example", "%00", "\xff", "x" * 5_000, f"127.0.0.1\r\nHost: {EVIL}",
    f"127.0.0.1\r\nX-Forwarded-Host: {EVIL}", "127.0.0.1\r\nX-Original-URL: /healthz\r\nX-Rewrite-URL: /healthz",
    f"127.0.0.1\r\nForwarded: host={EVIL};proto=https", "127.0.0.1\r\nX-Forwarded-Prefix: /healthz",
)  # fmt: skip
#: Targets that a careless reader takes for an open address, or for one of another server.
TARGETS = (
    f"http://{EVIL}/jobs/job-1", "http://127.0.0.1/healthz/../jobs/job-1", "//healthz/jobs/job-1", "/healthz/../jobs/job-1",
    "/healthz/..%2fjobs/job-1", "/assets/../jobs/job-1", "/assets/%2e%2e/jobs/job-1", "/jobs/job-1?/healthz",
    "/jobs/job-1#/healthz", "/jobs/job-1;/healthz", "/./jobs/job-1", "//jobs/job-1", "/jobs//job-1", "/JOBS/job-1",
    "/jobs/job-1/", "/jobs/job-1%00", "/jobs/job-1%2fevents", "/jobs/%6aob-1", "/jobs\\job-1", "*", "jobs/job-1",
    "http:/jobs/job-1", f"http://{EVIL}", "/%", "/%ff",
)  # fmt: skip


def test_no_host_and_no_target_opens_a_job_without_a_token(site: Site) -> None:
    """By no `Host`, none twice, no absolute form, no forwarded one: 4xx, and never a way to somebody else's address."""
    make(site, "job-1")
    asks = [("/jobs/job-1", host) for host in HOSTS] + [(target, "127.0.0.1") for target in TARGETS]
    asks += [(f"http://{EVIL}/jobs/job-1", host) for host in HOSTS]
    for target, host in asks:
        for method in ("GET", "POST", "DELETE", "OPTIONS", "CONNECT", "TRACE"):
            answer = send(site, head(site, target, host, False, method))

            assert 400 <= answer.status < 500, (method, target, host, answer.status)
            assert EVIL not in str(answer.headers), (method, target, host)
            assert b"alice" not in answer.body and b"personalize" not in answer.body


def test_no_host_goes_into_an_answer(site: Site) -> None:
    """With a token the job is there whatever the host is called, and what an answer points to lies on the same server."""
    make(site, "job-1")
    site.announce()
    body = b'{"actor":"personalize"}'
    for host in HOSTS:
        seen = send(site, head(site, "/jobs/job-1", host, True))
        made = send(
            site,
            head(site, "/jobs", host, True, "POST")[:-2]
            + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
        )
        entered = send(site, head(site, f"/?token={site.token()}", host, False))

        assert seen.status in {200, 400, 404}, host
        assert made.status in {201, 400}, host
        assert made.status == 400 or made.headers["location"] == f"/jobs/{json.loads(made.body)['id']}", host
        assert entered.status in {303, 400}, host
        assert entered.headers.get("location", "/") in {"/", "./", "."}, host
        for answer in (seen, made, entered):
            assert EVIL not in str(answer.headers) + answer.body.decode(), host


NAMES = (
    "../../../../../../etc/passwd", "..%2f..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd", "..\\..\\..\\etc\\passwd", "..%5c..%5cetc%5cpasswd", "%252e%252e%252fetc%252fpasswd",
    "/etc/passwd", "//etc/passwd", "~/.ssh/id_rsa", "file:///etc/passwd", "client/../../pyproject.toml",
    "client/..%2f../pyproject.toml", "client/%00.js", "client/.", "dashboard/..", "dashboard/index.html%00.css",
    "dashboard/" + "a/" * 2_000, "..", ".", "%", "\xff\xfe", "c:\\windows\\win.ini", "CON", "client/.git/config",
)  # fmt: skip


def test_no_name_leads_out_of_the_folder_of_assets(site: Site) -> None:
    """However it is written; a folder is no file."""
    for name in NAMES:
        answer = send(site, head(site, f"/assets/{name}", "x", False))

        assert answer.status in {400, 404, 431}, name
        assert b"root:" not in answer.body and b"[project]" not in answer.body
    assert 200 == send(site, head(site, "/assets/dashboard/index.html", "x", False)).status


def test_no_name_of_an_upload_leads_out_of_its_folder(site: Site) -> None:
    """It is kept under a name of ours; theirs is words, or refused."""
    site.announce(
        schema={
            "type": "object",
            "properties": {"file": {"type": "string", "format": "binary"}},
            "required": ["file"],
        }
    )
    before = {path for path in site.settings.data.rglob("*") if "files" not in path.parts}
    with site.client() as client:
        for name in (*NAMES, "a\0b", "a\r\nb", 'a"; filename="b', "x" * 300):
            answer = client.post(
                "/jobs", data={"actor": "personalize"}, files={"file": (name, b"a,b\n", "text/csv")}
            )

            assert answer.status_code in {201, 400, 422}, (name, answer.text)
    kept = [
        path for path in site.settings.data.rglob("*") if path.is_file() and path.read_bytes() == b"a,b\n"
    ]

    assert kept
    assert all(len(path.name) == 32 and path.parent.parent.name == "files" for path in kept)
    assert before == {path for path in site.settings.data.rglob("*") if "files" not in path.parts}


#: Requests that change something, by every route; what a form of a foreign page can send, and what its script can.
CHANGING = [
    (method, route.path.replace("{id}", "job-1"))
    for route in routes()
    for method in sorted(route.methods or ())
    if method not in {"GET", "HEAD"}
]
FOREIGN: tuple[dict[str, str], ...] = (
    {}, {"Origin": f"https://{EVIL}"}, {"Origin": "null"}, {"Origin": ""}, {"Origin": "http://127.0.0.1"},
    {"Origin": f"http://127.0.0.1.{EVIL}"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "Same-Origin"}, {"Sec-Fetch-Site": "same-origin, cross-site"},
    {"Referer": "http://127.0.0.1/"}, {"X-HTTP-Method-Override": "DELETE"}, {"X-Requested-With": "XMLHttpRequest"},
    {"Origin": f"https://{EVIL}", "X-Forwarded-Host": EVIL},
)  # fmt: skip
FORMS = (
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "",
)


def test_no_foreign_page_changes_anything_by_cookie(site: Site) -> None:
    """On every route that changes something, by every content type that a form can send: 403, before anything is read."""
    job = make(site, "job-1")
    site.announce()
    cookie = {"Cookie": f"progress_stream={site.token()}"}
    with site.client(None) as client:
        before = client.get("/jobs/job-1", headers=cookie).content
        for method, path in CHANGING:
            # Each content type once, and each way to be foreign once.
            for headers, kind in zip(FOREIGN, cycle(FORMS), strict=False):
                typed = {"Content-Type": kind} if kind else {}
                answer = client.request(
                    method, path, headers=cookie | headers | typed, content=b'{"actor":"personalize"}'
                )

                assert answer.status_code in {403, 404}, (method, path, headers, kind, answer.text)
                assert answer.status_code == 403 or path == "/logout"
        # And what is safe stays safe: no GET takes another method's place.
        for name in ("_method=DELETE", "method=POST"):
            assert (
                200
                == client.get(
                    f"/jobs/job-1?{name}", headers=cookie | {"X-HTTP-Method-Override": "DELETE"}
                ).status_code
            )
        assert before == client.get("/jobs/job-1", headers=cookie).content
        assert ["job-1"] == [row["id"] for row in client.get("/jobs", headers=cookie).json()["jobs"]]
    assert job.job == "job-1"


# -- bombs

ZEROS = 4_000_000


def bombs() -> dict[str, bytes]:
    """A few kilobytes that are four megabytes to whoever unpacks them."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * ZEROS)
    plain = b"0" * ZEROS
    return {
        "gzip": gzip.compress(plain), "deflate": zlib.compress(plain), "bzip2": bz2.compress(plain), "xz": lzma.compress(plain),
        "zip": zipped.getvalue(),
    }  # fmt: skip


@pytest.fixture(scope="module")
def packed() -> dict[str, bytes]:
    return bombs()


def test_no_body_is_unpacked(site: Site, packed: dict[str, bytes]) -> None:
    """A body is what it is, whatever its `Content-Encoding` says: refused as no JSON or no form, or too large as it came."""
    with site.client() as client:
        for name, bomb in packed.items():
            for path, kind in (
                ("/jobs", "application/json"),
                ("/jobs", "multipart/form-data; boundary=b"),
                ("/tickets", "application/json"),
            ):
                headers = {"Content-Encoding": name, "Content-Type": kind}
                answer = client.post(path, content=bomb, headers=headers)

                assert answer.status_code in {400, 413, 422}, (name, path, answer.text)


def test_an_upload_is_kept_packed(site: Site, packed: dict[str, bytes]) -> None:
    """Byte for byte; that the table's reader takes none for a table is in tests/unit/workers."""
    site.announce(
        schema={
            "type": "object",
            "properties": {"file": {"type": "string", "format": "binary"}},
            "required": ["file"],
        }
    )
    with site.client() as client:
        for name, bomb in packed.items():
            files = {"file": ("leads.csv", bomb, "text/csv")}
            answer = client.post(
                "/jobs", data={"actor": "personalize"}, files=files, headers={"X-Request-ID": name}
            )

            assert 201 == answer.status_code, answer.text
    sizes = sorted(
        path.stat().st_size for path in (site.settings.data / "files").rglob("*") if path.is_file()
    )

    assert sorted(map(len, packed.values())) == sizes


def test_nothing_of_a_job_is_packed(site: Site) -> None:
    """Secrets and a stranger's words in one compressed answer tell the one by the other's length (BREACH)."""
    make(site, "job-1")
    with site.client() as client:
        for path in ("/jobs/job-1", "/jobs", "/jobs/job-1/events?wait=0"):
            assert (
                "Content-Encoding"
                not in client.get(path, headers={"Accept-Encoding": "gzip, br, zstd"}).headers
            )


# -- bodies

NUMBERS = (b"1e999", b"-1e999", b"NaN", b"Infinity", b"9" * 5_000, b"1" + b"0" * 400, b"1e-400", b"-0")
VALUES = (
    *NUMBERS,
    b'"\\ud800"',
    b'"\\u0000"',
    b"[" * 900 + b"]" * 900,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b"null",
    b"[[]]",
    b'{"__proto__":1}',
)


def bodies() -> Iterator[bytes]:
    for value in VALUES:
        yield b'{"actor":"personalize","args":{"n":%b}}' % value
        yield b'{"actor":"personalize","args":%b}' % value
        yield b'{"actor":"personalize","title":%b}' % value
        yield b'{"actor":%b}' % value
        yield b'{"jobs":[%b]}' % value
        yield b'{"jobs":%b}' % value
        yield b"{%b:1}" % (value if value[:1] == b'"' else b'"%b"' % value[:9])


def test_no_value_in_a_body_makes_the_server_fail(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Numbers that are none, half characters, nesting: 4xx, or a job that can be shown and found."""
    site.announce(
        schema={"type": "object", "properties": {"n": {}}, "required": [], "additionalProperties": False}
    )
    made: list[str] = []
    with site.client() as client:
        for body in bodies():
            for path in ("/jobs", "/tickets"):
                answer = client.post(path, content=body, headers={"Content-Type": "application/json"})

                assert answer.status_code == 201 or 400 <= answer.status_code < 500, (
                    path,
                    body[:60],
                    answer.text[:200],
                )
                if path == "/jobs" and answer.status_code == 201:
                    made.append(answer.json()["id"])
        assert made
        assert {*made} == {row["id"] for row in client.get("/jobs?limit=200").json()["jobs"]}
        assert all(client.get(f"/jobs/{id}").json()["state"] in jobs.NEXT for id in made)
    assert [] == [record for record in caplog.records if record.exc_info]


QUERIES: dict[str, Callable[[str], str]] = {
    "cursor": lambda text: f"/jobs?cursor={text}", "limit": lambda text: f"/jobs?limit={text}",
    "state": lambda text: f"/jobs?state={text}", "actor": lambda text: f"/jobs?actor={text}",
    "parent": lambda text: f"/jobs?parent={text}", "wait": lambda text: f"/jobs/job-1/events?wait={text}",
    "position": lambda text: f"/jobs/job-1/events?wait=0&last_event_id={text}",
    "replay": lambda text: f"/jobs/job-1/events?wait=0&replay={text}",
    "token": lambda text: f"/jobs/job-1/events?wait=0&token={text}", "id": lambda text: f"/jobs/{text}",
    "path": lambda text: f"/{text}",
}  # fmt: skip
TEXTS = (
    "", "%00", "%0d%0aX:%20y", "%ff%fe", "%ed%a0%80", "%F0%9F%98%80", "9" * 5_000, "-1", "1e3", "nan", "inf", "%D9%A3", "٣",
    "'", '"', "<script>", "${7*7}", "{{7*7}}", "../..", "%2e%2e%2f", "*", "a,b", "0-0", "1-1-1", "18446744073709551616-0", "$",
    "x" * 20_000, "&", "=", "#", ";", "%", "[]", "a[]=1", "true", "null", "~1", "job-1~1", "job-1~999999999", ".",
)  # fmt: skip


@pytest.mark.slow
def test_no_text_in_an_address_makes_the_server_fail(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """In each parameter: an answer that a client can read, and no failure of ours."""
    job = make(site, "job-1")
    job.start()
    job.succeed()  # So that each stream ends by itself.
    for name, address in QUERIES.items():
        for text in TEXTS:
            answer = send(site, head(site, address(text), "x", True))

            assert 200 <= answer.status < 500, (name, text[:40], answer.status)
            assert answer.status < 400 or answer.headers["content-type"] in {
                "application/problem+json",
                "text/plain; charset=utf-8",
            }
    assert [] == [record for record in caplog.records if record.exc_info]
