"""Attacks that are large or many: the server's memory stays flat, they are cut off early, and everybody else is served on time."""

from __future__ import annotations

import selectors
import time
from contextlib import ExitStack

import httpx
import pytest

from tests.support.streams import follow

from .conftest import FLAT_BYTES, Serve, Served, swallowed

#: Thousands of connections leave little for anything beside them.
pytestmark = pytest.mark.slow

MANY = 2_000


def on_time(server: Served) -> float:
    """Seconds that an ordinary request takes meanwhile."""
    began = time.monotonic()
    assert 200 == httpx.get(f"{server.url}/healthz", timeout=20).status_code
    return time.monotonic() - began


@pytest.mark.parametrize(
    "kind", ["announced", "in chunks", "a form", "by nobody", "for an address that takes none"]
)
def test_a_body_of_a_gigabyte_is_cut_off_early(serve: Serve, kind: str) -> None:
    """Whoever sends it and however; where the limit is why, the answer names it."""
    server = serve()
    before = server.memory
    path = "/healthz" if kind.startswith("for") else "/jobs"
    media = "multipart/form-data; boundary=x" if kind == "a form" else "application/json"
    length = "Content-Length: 1073741824" if kind != "in chunks" else "Transfer-Encoding: chunked"
    who = "" if kind == "by nobody" else f"Authorization: Bearer {server.site.token()}\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{who}Content-Type: {media}\r\n{length}\r\n\r\n"
    start = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        if kind == "a form"
        else b""
    )
    block = b"10000\r\n" + b"\0" * 65_536 + b"\r\n" if kind == "in chunks" else b"\0" * 65_536
    with server.connect() as client:
        client.sendall(head.encode() + start)
        began = time.monotonic()
        sent, answer = swallowed(client, block, 2**30)
        took = time.monotonic() - began

    print(
        f"{kind}: {sent / 2**20:.1f} MiB taken in {took:.2f} s, memory +{(server.peak - before) / 2**20:.1f} MiB"
    )
    assert sent < 32 * 2**20
    assert took < 8
    assert server.peak - before < FLAT_BYTES
    if kind in {"announced", "in chunks"}:
        assert b"413" in answer[:20] and b"BODY_BYTES" in answer
    if kind == "a form":
        assert b"413" in answer[:20] and b"FILE_BYTES" in answer


@pytest.mark.parametrize("kind", ["one endless header", "50,000 headers", "an endless path"])
def test_an_endless_head_is_cut_off_early(serve: Serve, kind: str) -> None:
    """Five hundred megabytes of it, by twenty clients at once: 431 names the limit."""
    server = serve()
    before = server.memory
    first = {"one endless header": b"GET / HTTP/1.1\r\nX: ", "50,000 headers": b"GET / HTTP/1.1\r\n"}.get(
        kind, b"GET /"
    )
    block = b"a: b\r\n" * 2_500 if kind == "50,000 headers" else b"x" * 65_536
    taken = 0
    for _ in range(20):
        with server.connect() as client:
            client.sendall(first)
            sent, answer = swallowed(client, block, 25 * 2**20)
            taken += sent
            assert b"HTTP/1.1 431" == answer[:12]
            assert b"HEADER_BYTES" in answer

    print(
        f"{kind}: {taken / 20 / 2**20:.2f} MiB taken of each, memory +{(server.peak - before) / 2**20:.1f} MiB"
    )
    assert server.peak - before < FLAT_BYTES


def test_two_thousand_slow_heads_are_closed_and_hold_up_nobody(serve: Serve) -> None:
    """A byte now and then, from 2,000 connections: HEADER_SECONDS ends them all; an ordinary request comes through."""
    server = serve(header_seconds=3)
    before = server.memory
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(MANY)]
        waits = []
        began = time.monotonic()
        for byte in (b"GET / HTTP/1.1\r\nX: ", b"a", b"b"):
            for client in clients:
                client.sendall(byte)
            waits.append(on_time(server))
        opened = set(clients)
        selector = selectors.DefaultSelector()
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        while opened and time.monotonic() - began < 15:
            for key, _ in selector.select(0.5):
                selector.unregister(key.fileobj)
                opened.discard(key.fileobj)  # type: ignore[arg-type]
        took = time.monotonic() - began

    print(
        f"closed after {took:.1f} s, others waited {max(waits) * 1000:.0f} ms at most, "
        f"memory +{(server.peak - before) / 2**20:.1f} MiB ({(server.peak - before) / MANY / 1024:.1f} KiB each)"
    )
    assert set() == opened
    assert took < 8
    assert max(waits) < 1
    assert server.peak - before < FLAT_BYTES


def test_two_thousand_watchers_that_never_read_cost_no_memory_and_hold_up_nobody(serve: Serve) -> None:
    """A flood of which each of them would be owed 20 MB; one who reads has all of it, on time."""
    server = serve(max_streams_per_owner=10_000, write_stall_seconds=300)
    job = server.site.job()
    job.start()
    token = server.site.token()
    ask = (
        f"GET /jobs/job-1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Accept: text/event-stream\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect(receive_buffer=4_096)) for _ in range(MANY)]
        for client in clients:
            client.sendall(ask)
        wait_for_watchers(server, MANY)
        reader = stack.enter_context(follow(server.site))
        reader.until_number(2)
        before = server.memory
        lates = []
        for n in range(100):
            job.append("line", 100, message="x" * 2_000)
            began = time.monotonic()
            reader.until_number(2 + 100 * (n + 1))
            lates.append(time.monotonic() - began)
        grown = server.memory - before
        wait = on_time(server)

    lates.sort()
    print(
        f"memory +{grown / 2**20:.0f} MiB ({grown / MANY / 1024:.0f} KiB each), "
        f"the reader's 200 KB came after {lates[50] * 1000:.0f} ms (median), {lates[-1] * 1000:.0f} ms (worst)"
    )
    assert len(reader.numbers) == 10_002
    assert lates[90] < 1
    assert wait < 1
    # Without what they share, each is owed less than its socket's own buffers.
    assert grown < FLAT_BYTES + MANY * 16 * 1024


def wait_for_watchers(server: Served, count: int) -> None:
    deadline = time.monotonic() + 30
    headers = server.site.headers("root", "jobs:admin")
    while httpx.get(f"{server.url}/admin/streams", headers=headers, timeout=20).json()["total"] < count:
        assert time.monotonic() < deadline, server.errors()[-2_000:]
        time.sleep(0.1)
