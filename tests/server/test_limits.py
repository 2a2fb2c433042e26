"""What a request's head and body may cost: bytes, lines, time."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import pytest

from progress_stream.server.bounded import Limits
from progress_stream.server.push import StreamProtocol

from .application import FIRST
from .conftest import Serve, Serving, read_all, read_until, split


def refused(serving: Serving, request: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """What the server answers to a request that it reads on after refusing."""
    client = serving.connect()
    client.sendall(request)
    return split(read_all(client))


def closed_after(
    client: socket.socket, *, sending: bytes = b"", every: float = 0.1, limit: float = 8
) -> float:
    """Seconds until the server closes, while a byte is sent now and then."""
    began = time.monotonic()
    client.settimeout(every)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < limit:
            if sending:
                client.sendall(sending[:1])
                sending = sending[1:]
            try:
                if not client.recv(65_536):
                    break
            except TimeoutError:
                continue
    return time.monotonic() - began


def test_one_huge_header_is_refused(serve: Serve) -> None:
    """4 MiB in one value, which the parser collects without a word: 431 as a problem, and the client sees it."""
    serving = serve()
    status, headers, body = refused(
        serving, b"GET / HTTP/1.1\r\nHost: x\r\nX-Bomb: " + b"x" * 2**22 + b"\r\n\r\n"
    )

    assert b"HTTP/1.1 431 Request Header Fields Too Large" == status
    assert b"application/problem+json" == headers[b"content-type"]
    assert b"close" == headers[b"connection"]
    assert {"type", "title", "status", "detail"} == json.loads(body).keys()
    assert 431 == json.loads(body)["status"]


@pytest.mark.contract("HEADER_BYTES")
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 50_000 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: %b\r\n" % (n, b"x" * 1_000) for n in range(40)) + b"\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x" * 40_000 + b": y\r\n\r\n",
        b"\r\n" * 40_000,
    ],
    ids=["50,000 lines", "101 lines", "many bytes", "a long path", "a long name", "nothing but newlines"],
)
def test_a_head_over_a_limit_is_refused(serve: Serve, request_bytes: bytes) -> None:
    """However the bytes or lines are spread."""
    assert b"431" in refused(serve(), request_bytes)[0]


def test_a_head_under_the_limits_passes(serve: Serve) -> None:
    """100 lines and 30 KB are a request like any other."""
    serving = serve()
    lines = b"".join(b"a%d: %b\r\n" % (n, b"x" * 290) for n in range(99))
    client = serving.connect()
    client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n" + lines + b"\r\n")

    assert b"plain 0" == split(read_all(client))[2]


@pytest.mark.contract("HEADER_BYTES")
def test_the_limit_is_the_setting(serve: Serve) -> None:
    """`HEADER_BYTES` decides."""
    serving = serve(header_bytes=1_000)

    assert b"431" in refused(serving, b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000 + b"\r\n\r\n")[0]


def test_an_upload_is_not_a_head(serve: Serve) -> None:
    """A body of many times the limit passes, in one piece or in small chunks."""
    serving = serve()
    client = serving.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)

    assert read_until(client, b"plain 5000000")

    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.sendall(b"2\r\nab\r\n" * 50_000 + b"0\r\n\r\n")

    assert read_until(client, b"plain 100000")


@pytest.mark.parametrize("trailer", [b"x" * 2**20, b"y\r\n" + b"x: y\r\n" * 200], ids=["one huge", "many"])
def test_trailers_are_bounded_as_headers_are(serve: Serve, trailer: bytes) -> None:
    """The parser takes header lines after a body too; a request that sends too many is cut."""
    serving = serve()
    client = serving.connect()
    with contextlib.suppress(ConnectionError):
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: " + trailer
        )

    with contextlib.suppress(ConnectionError):
        assert b"200 OK" not in read_all(client)


def test_a_connection_that_says_nothing_is_closed(serve: Serve) -> None:
    """The time begins with the connection, not with its first byte."""
    assert 0.4 < closed_after(serve(header_seconds=0.5).connect()) < 3


@pytest.mark.contract("HEADER_SECONDS")
def test_a_slow_head_is_closed(serve: Serve) -> None:
    """A byte now and then buys no time."""
    client = serve(header_seconds=0.5).connect()
    request = b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 100

    assert 0.4 < closed_after(client, sending=request) < 3


def test_bytes_that_begin_no_request_buy_no_time(serve: Serve) -> None:
    """Newlines end uvicorn's keep-alive timer; ours goes on."""
    serving = serve(header_seconds=0.5)
    client = serving.ask("/plain")
    read_until(client, b"plain 0")

    assert closed_after(client, sending=b"\r\n" * 100) < 3


def test_a_kept_connection_has_time_for_its_next_request(serve: Serve) -> None:
    """The head's time does not run while nothing is asked."""
    serving = serve(header_seconds=0.5)
    client = serving.ask("/plain")
    read_until(client, b"plain 0")
    time.sleep(2.5)
    client.sendall(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")

    assert read_until(client, b"plain 0")


def test_a_stream_outlives_the_time_for_heads(serve: Serve) -> None:
    """No deadline of the request follows the connection."""
    serving = serve(header_seconds=0.5)
    client = serving.ask("/open")
    read_until(client, FIRST)

    assert closed_after(client, limit=2.5) >= 2.5


def test_half_a_request_behind_an_answer_does_not_cut_the_answer(serve: Serve) -> None:
    """An answer under way is not at fault for what its client sends next."""
    serving = serve(header_seconds=0.5)
    client = serving.connect()
    client.sendall(b"GET /ticking HTTP/1.1\r\nHost: x\r\n\r\nGET /pl")
    read_until(client, b": tick")

    assert closed_after(client, limit=2.5) >= 2.5


def test_a_slow_body_is_cut(serve: Serve) -> None:
    """A body must come at a rate that a poor network has."""

    class Impatient(StreamProtocol):
        limits = Limits(body_seconds=0.5)

    serving = serve(options={"http": Impatient})
    client = serving.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")

    assert 0.4 < closed_after(client, sending=b"x" * 1_000) < 3


def test_a_body_at_a_fair_rate_takes_its_time(serve: Serve) -> None:
    """What comes in time is not cut, however long it takes in all."""

    class Impatient(StreamProtocol):
        limits = Limits(body_seconds=0.5)

    serving = serve(options={"http": Impatient})
    client = serving.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
    for _ in range(20):
        client.sendall(b"x" * 500)
        time.sleep(0.15)

    assert read_until(client, b"plain 10000")


def test_garbage_gets_a_400(serve: Serve) -> None:
    """As a problem, as every other error is."""
    status, headers, body = refused(serve(), b"NOT HTTP AT ALL\r\n\r\n")

    assert b"HTTP/1.1 400 Bad Request" == status
    assert b"application/problem+json" == headers[b"content-type"]
    assert b"close" == headers[b"connection"]
    assert {"type", "title", "status", "detail"} == json.loads(body).keys()
    assert 400 == json.loads(body)["status"]


def test_garbage_behind_an_answer_puts_nothing_into_it(serve: Serve) -> None:
    """An answer inside another would be read as part of it."""
    serving = serve()
    client = serving.ask("/ticking")
    data = read_until(client, b": tick")
    client.sendall(b"NOT HTTP AT ALL\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        data += read_all(client)

    assert 1 == data.count(b"HTTP/1.1")


def test_a_broken_body_gets_one_answer(serve: Serve) -> None:
    """The 400 is the answer: the application, which may be about to write its own, writes none."""
    serving = serve()
    client = serving.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n")
    answer = read_all(client)

    assert b"HTTP/1.1 400" == answer[:12]
    assert 1 == answer.count(b"HTTP/1.1")


def test_an_answer_that_comes_after_a_refusal_falls(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The application is told that nobody waits; what it writes all the same breaks nothing."""
    serving = serve()
    client = serving.connect()
    head = b"POST /deaf HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    client.sendall(head + b"x: y\r\n" * 101)
    answer = read_all(client)
    time.sleep(1)

    assert b"HTTP/1.1 431" == answer[:12]
    assert 1 == answer.count(b"HTTP/1.1")
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


def test_an_application_that_reads_late_is_not_its_clients_fault(serve: Serve) -> None:
    """While we read nothing, no client can be slow."""

    class Impatient(StreamProtocol):
        limits = Limits(body_seconds=0.5, body_rate=10**9)

    serving = serve(options={"http": Impatient})
    client = serving.connect()
    client.sendall(b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 999_999)
    time.sleep(1.2)
    client.sendall(b"x")

    assert read_until(client, b"plain 1000000")
