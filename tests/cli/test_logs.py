"""What `serve` writes to its log: JSON where nobody looks, with the request's id, and never what would let its reader in."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from progress_stream.settings import load
from tests.cli.processes import Running, until
from tests.support.server import SECRET, Site


class Logged:
    """A server, and what it has logged so far."""

    def __init__(self, running: Running, site: Site) -> None:
        self._running = running
        self.site = site

    @property
    def text(self) -> str:
        return self._running.errors()

    def entry(self, request_id: str) -> dict[str, Any]:
        """The access line of a request."""
        line = until(
            lambda: next((line for line in self.text.splitlines() if f"id={request_id}" in line), None),
            what=lambda: self.text,
        )
        found: dict[str, Any] = json.loads(line)
        return found


@pytest.fixture
def logged(
    redis_url: str, broker_url: str, namespace: str, tmp_path: Path, redis_client: redis.Redis
) -> Iterator[Logged]:
    chosen = {
        "redis_url": redis_url, "broker_url": broker_url, "namespace": namespace, "data": str(tmp_path),
        "jwt_secret": SECRET, "ready_seconds": "0", "drain_seconds": "0",
    }  # fmt: skip
    env = {f"PROGRESS_STREAM_{name.upper()}": value for name, value in chosen.items()}
    running = Running("serve", "--port", "0", cwd=tmp_path / "run", env=env)
    try:
        found = until(lambda: re.search(r"listening on (http://\S+)", running.errors()), what=running.errors)
        site = Site(found[1], load(**chosen), redis_client)
        site.wait_until_ready()
        yield Logged(running, site)
    finally:
        running.process.terminate()
        running.ends()


def raw(url: str, request: bytes) -> None:
    """Bytes that no HTTP library would send."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), 10) as client:
        client.sendall(request)
        client.settimeout(5)
        client.recv(65_536)


@pytest.mark.slow
def test_no_way_of_sending_a_token_leaves_it_in_the_log(logged: Logged) -> None:
    """Tokens and tickets; genuine, forged and expired; where they belong, and where they do not."""
    site = logged.site
    job = site.job()
    job.start()
    job.succeed()
    genuine = site.token()
    ticket = httpx.post(f"{site.url}/tickets", headers=site.headers(), json={}).json()["token"]
    forged = f"{genuine[:-10]}AAAAAAAAAA"
    secrets = [genuine, ticket, forged, site.expired_token()]
    assert all(len(secret) > 30 for secret in secrets)

    for secret in secrets:
        for path in (
            "/jobs/job-1/events",
            "/jobs/job-1/result",
            "/jobs/job-1",
            "/",
            "/nothing",
            "/jobs",
            "/metrics",
        ):
            for ask in (
                {"headers": {"Authorization": f"Bearer {secret}"}}, {"cookies": {"progress_stream": secret}},
                {"params": {"token": secret}}, {"params": {"access_token": secret}},
                {"headers": {"Authorization": f"Basic {secret}"}}, {"headers": {"Authorization": secret}},
                {"params": {"last_event_id": secret}}, {"headers": {"Last-Event-ID": secret}},
                {"headers": {"X-Request-ID": secret}}, {"headers": {"Referer": f"http://x/?token={secret}"}},
            ):  # fmt: skip
                httpx.get(f"{site.url}{path}", **ask)
        httpx.get(f"{site.url}/jobs/{secret}/events")
        httpx.get(f"{site.url}/{secret}")
        httpx.post(
            f"{site.url}/jobs", headers={**site.headers(), "Idempotency-Key": secret}, json={"actor": secret}
        )
        httpx.post(f"{site.url}/tickets", headers=site.headers(), json={"jobs": [secret]})
        raw(site.url, f"GET /?token={secret} HTTP/9.9\r\n\r\n".encode())
        raw(site.url, f"token={secret}\r\n\r\n".encode())
        raw(site.url, f"GET /?token={secret} HTTP/1.1\r\nX: {'x' * 40_000}\r\n\r\n".encode())
    httpx.get(f"{site.url}/healthz", headers={"X-Request-ID": "the-last"})
    logged.entry("the-last")

    assert logged.text.count("progress_stream.access") > 300
    for secret in secrets:
        assert secret not in logged.text
        # Nor the part that makes it a secret.
        assert secret.rpartition(".")[2].removeprefix("pst_") not in logged.text
    assert SECRET not in logged.text


def test_each_line_is_an_object_with_the_request_s_id(logged: Logged) -> None:
    """The client's own where it can be one; one of ours where it would forge a line."""
    with logged.site.client() as client:
        assert "my-id" == client.get("/jobs/job-9", headers={"X-Request-ID": "my-id"}).headers["x-request-id"]
        made = client.get("/healthz", headers={"X-Request-ID": 'x" level="error'}).headers["x-request-id"]

    entry = logged.entry("my-id")
    assert ("progress_stream.access", "info", "my-id") == tuple(
        entry[name] for name in ("logger", "level", "request_id")
    )
    assert re.fullmatch(r"GET /jobs/\{id\} 404 \d+ ms id=my-id", entry["event"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", entry["timestamp"])
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert logged.entry(made)
    for line in logged.text.splitlines():
        # The line for the person who started it is none of the log's.
        assert line.startswith("progress-stream: listening on") or json.loads(line)["event"], line
