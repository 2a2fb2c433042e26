"""A server process of its own, whose memory can be looked at from outside, and many raw clients for it."""

from __future__ import annotations

import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from progress_stream.settings import Settings, load
from tests.cli.processes import Running, until
from tests.support.server import SECRET, Site

#: What the process may grow by under an attack: what its bounded buffers hold, and what the allocator keeps of it.
FLAT_BYTES = 32 * 2**20


class Served:
    """`progress-stream serve` as operators run it."""

    def __init__(self, running: Running, settings: Settings, client: redis.Redis) -> None:
        self._running = running
        found = until(lambda: re.search(r"listening on (http://\S+)", running.errors()), what=running.errors)
        self.url = found[1]
        self.site = Site(self.url, settings, client)
        self.site.wait_until_ready()

    def connect(self, *, receive_buffer: int | None = None, seconds: float = 20) -> socket.socket:
        where = urlsplit(self.url)
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(seconds)
        client.connect((where.hostname, where.port))
        return client

    @property
    def memory(self) -> int:
        """Bytes that the process holds now."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """The most that it ever held."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self._running.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", text)
        assert found is not None, text
        return int(found[1]) * 1024

    def errors(self) -> str:
        return self._running.errors()


Serve = Callable[..., Served]


@pytest.fixture
def serve(
    redis_url: str, broker_url: str, namespace: str, tmp_path: Path, redis_client: redis.Redis
) -> Iterator[Serve]:
    """Starts servers with settings of the test's own; ends them."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read a process' memory from")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20_000), most))
    started: list[Running] = []

    def start(**changed: object) -> Served:
        chosen: dict[str, object] = {
            "redis_url": redis_url, "broker_url": broker_url, "namespace": namespace, "data": tmp_path,
            "jwt_secret": SECRET, "ready_seconds": 0, "drain_seconds": 0, **changed,
        }  # fmt: skip
        env = {f"PROGRESS_STREAM_{name.upper()}": str(value) for name, value in chosen.items()}
        running = Running("serve", "--port", "0", cwd=tmp_path / "run", env=env)
        started.append(running)
        return Served(running, load(**chosen), redis_client)

    yield start
    for running in started:
        running.process.terminate()
        try:
            running.ends(10)
        except Exception:
            running.process.kill()
            running.ends(10)


def swallowed(client: socket.socket, block: bytes, total: int, seconds: float = 20) -> tuple[int, bytes]:
    """Sends the block again and again, as far as the server takes it; how many bytes it took, and what it answered."""
    client.setblocking(False)
    sent, answer, deadline = 0, b"", time.monotonic() + seconds
    while sent < total and time.monotonic() < deadline:
        try:
            if part := client.recv(65_536):
                answer += part
            elif answer:
                break
        except BlockingIOError:
            pass
        except ConnectionError:
            break
        try:
            sent += client.send(block[sent % len(block) :])
        except BlockingIOError:
            time.sleep(0.001)
        except ConnectionError:
            break
    return sent, answer
