"""Requests whose end two readers could see in two places: to the server itself, and through nginx and HAProxy.

A proxy that takes for one request what the server takes for two gives the second answer to whoever asks next on that connection. So
after each attack an innocent asks, many times, on the connections that the proxy keeps: whatever comes is the answer to what was
asked, and no answer holds what only the attacker's hidden request asked for.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.contract.test_list import make
from tests.proxies import setups
from tests.support.server import Site

PATIENCE_SECONDS = 2.0
#: Connections to the server are kept, else nothing could be smuggled onto one.
NGINX = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; proxy_request_buffering off;"
#: So few that the next request takes the one that an attack has used.
KEPT = 1
HAPROXY = "timeout client 30s\n    timeout server 30s\n    timeout http-request 2s\n    http-reuse always"


def hidden(host: str, token: str) -> bytes:
    """The request in the second place: it asks for the victim's job with the attacker's own token, and deletes another of his."""
    return (
        f"GET /jobs/attackers HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nX-Request-ID: smuggled\r\n\r\n"
    ).encode()


def attacks(host: str, token: str) -> dict[str, bytes]:
    """By its name in the literature. Each holds the hidden request where one of two readers sees no body any more."""
    inner = hidden(host, token)
    start = (
        f"POST /tickets HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    ).encode()
    chunked = b"0\r\n\r\n" + inner
    whole = b"2\r\n{}\r\n0\r\n\r\n"
    length = b"Content-Length: %d\r\n"
    encodings = {
        "a space before the colon": b"Transfer-Encoding : chunked\r\n", "a tab": b"Transfer-Encoding:\tchunked\r\n",
        "a vertical tab": b"Transfer-Encoding:\x0bchunked\r\n", "xchunked": b"Transfer-Encoding: xchunked\r\n",
        "identity too": b"Transfer-Encoding: identity, chunked\r\n",
        "chunked in the middle": b"Transfer-Encoding: chunked, identity\r\n",
        "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "quoted": b'Transfer-Encoding: "chunked"\r\n',
        "folded": b"Transfer-Encoding:\r\n chunked\r\n", "capitals": b"tRANSFER-eNCODING: CHUNKED\r\n",
        "a line feed alone": b"X: y\nTransfer-Encoding: chunked\r\n",
        "a carriage return alone": b"X: y\rTransfer-Encoding: chunked\r\n", "a NUL": b"Transfer-Encoding: chunked\0\r\n",
        "a semicolon": b"Transfer-Encoding: chunked;q=1\r\n", "another letter": b"Transfer-Encoding: chun\xc5\xa1ed\r\n",
        "underscores": b"Transfer_Encoding: chunked\r\n",
        "hidden by Connection": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
    }  # fmt: skip
    found = {
        "CL.TE": start + length % len(chunked) + b"Transfer-Encoding: chunked\r\n\r\n" + chunked,
        "TE.CL": start + b"Transfer-Encoding: chunked\r\n" + length % 4 + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner),
        "CL.CL": start + length % 2 + length % (2 + len(inner)) + b"\r\n{}" + inner,
        "CL.CL, the larger first": start + length % (2 + len(inner)) + length % 2 + b"\r\n{}" + inner,
        "CL twice the same": start + length % 2 + length % 2 + b"\r\n{}" + inner,
        "a list of CL": start + b"Content-Length: 2, %d\r\n\r\n{}" % (2 + len(inner)) + inner,
        "CL.0": start + b"Content-Length: 0\r\n\r\n" + inner,
        "a GET with a body": start.replace(b"POST /tickets", b"GET /jobs") + length % len(inner) + b"\r\n" + inner,
        "two requests in one": start + length % 2 + b"\r\n{}" + inner,
        "HTTP/1.0 and chunked": start.replace(b"1.1", b"1.0", 1) + b"Transfer-Encoding: chunked\r\n\r\n" + chunked,
        "HTTP/0.9": b"GET /jobs/attackers\r\n\r\n" + inner,
        "an upgrade": start + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n" + inner,
        "expecting 100": start + b"Expect: 100-continue\r\n" + length % 2 + b"\r\n{}" + inner,
        "a line of its own first": b"\r\n\r\n" + start + length % 2 + b"\r\n{}" + inner,
    }  # fmt: skip
    for value in (
        b"+2",
        b"-2",
        b"0x2",
        b"2 ",
        b" 2",
        b"2\x0b",
        b"2e0",
        b"02",
        b"1_0",
        b"18446744073709551618",
        b"\xd9\xa2",
        b"",
    ):
        found[f"CL {value!r}"] = start + b"Content-Length: %b\r\n\r\n{}" % value + inner
    for size in (
        b"2;x=\r\n",
        b"2;a=\n",
        b" 2\r\n",
        b"+2\r\n",
        b"0x2\r\n",
        b"2\n",
        b"2 \r\n",
        b"fffffffffffffffff2\r\n",
        b"-1\r\n",
        b"2\r\r\n",
    ):
        found[f"a chunk of {size!r}"] = (
            start + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"{}\r\n" + chunked
        )
    found["chunks that end with LF"] = start + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n" + inner
    found["a trailer"] = (
        start + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 99\r\n\r\n" + inner
    )
    for name, line in encodings.items():
        found[f"TE: {name}, CL first"] = start + length % len(chunked) + line + b"\r\n" + chunked
        found[f"TE: {name}, CL small"] = start + length % len(whole) + line + b"\r\n" + whole + inner
    return found


class Front:
    """The server, or a proxy before it, as an attacker and an innocent client reach it."""

    def __init__(self, site: Site, url: str) -> None:
        self.site = site
        where = urlsplit(url)
        self.host, self.port = where.hostname or "", where.port or 0
        self.url = url

    def attack(self, data: bytes) -> bytes:
        """All that comes back on the attacker's own connection, until it is closed or silent."""
        got = b""
        with socket.create_connection((self.host, self.port), PATIENCE_SECONDS) as connection:
            connection.settimeout(0.15)
            with suppress(TimeoutError, ConnectionError):
                connection.sendall(data)
                while piece := connection.recv(65_536):
                    got += piece
        return got


@pytest.fixture(params=["alone", "nginx", "haproxy"])
def front(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> Iterator[Front]:
    """alice is the innocent, mallory has jobs and a token of his own."""
    make(site, "innocent")
    make(site, "attackers", owner="mallory")
    with ExitStack() as open_:
        url = site.url
        if request.param == "nginx":
            url = open_.enter_context(setups.nginx(site.url, tmp_path / "nginx", NGINX, kept=KEPT))
        elif request.param == "haproxy":
            url = open_.enter_context(setups.haproxy(site.url, tmp_path / "haproxy", defaults=HAPROXY))
        yield Front(site, url)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_request_is_smuggled_into_anothers_answer(front: Front) -> None:
    """After each attack what an innocent asks for is what comes, byte for byte, and as many answers as questions."""
    host = f"{front.host}:{front.port}"
    token = front.site.token("mallory")
    # Each request on a connection of its own to the proxy, which takes one that it keeps to the server.
    fresh = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=front.url, headers=front.site.headers(), timeout=20, limits=fresh) as alice:
        expected = alice.get("/jobs/innocent").content
        for name, data in attacks(host, token).items():
            got = front.attack(data)
            for _ in range(3):
                answer = alice.get("/jobs/innocent")

                assert (200, expected) == (answer.status_code, answer.content), name
                assert "smuggled" != answer.headers["X-Request-ID"], name
            assert b"innocent" not in got, name


@pytest.mark.slow
def test_the_server_alone_sees_one_end_or_none(site: Site) -> None:
    """What two readers could read differently is refused, and its connection is closed: nothing behind it is ever a request.

    Plain pipelining, and a `Content-Length` of nothing before the next request, are not ambiguous: those two are answered.
    """
    make(site, "attackers", owner="mallory")
    where = urlsplit(site.url)
    front = Front(site, site.url)
    twice = {}
    for name, data in attacks(where.netloc, site.token("mallory")).items():
        answers = front.attack(data)
        if b"smuggled" in answers:
            twice[name] = answers.count(b"HTTP/1.1 ")

    assert {*twice} <= PIPELINED, {*twice} - PIPELINED


#: What RFC 9112 reads in one way alone: a request that ends, and another one behind it. Blanks around a number and zeros before it
#: are no part of it, an extension of a chunk none of its size, and a name with an underscore is another name.
PIPELINED = {
    "CL.0", "two requests in one", "a line of its own first", "expecting 100", "a trailer", "CL b' 2'", "CL b'2 '", "CL b'02'",
    "a chunk of b'2;x=\\r\\n'", "TE: underscores, CL small",
}  # fmt: skip
