"""What goes wrong, on purpose and by seed: cut connections, killed processes, killed subscriptions."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import httpx
import redis

from progress_stream.settings import Settings
from progress_stream.store.embedded import Guarded

PATIENCE_SECONDS = 30.0


class Cuts:
    """After how many bytes each of one watcher's connections is cut: the head of the answer counts too.

    A job of 5,000 small events has about 900,000 bytes: some forty cuts.
    """

    #: Within the head, the first frames, and the first events; one in four.
    SHORT = (1, 1_500)
    LONG = (8_000, 48_000)

    def __init__(self, seed: int, watcher: int) -> None:
        self._random = Random(f"{seed}/{watcher}")

    def draw(self) -> int:
        return self._random.randint(*(self.SHORT if self._random.random() < 0.25 else self.LONG))


class WebProcess:
    """`progress-stream serve` on a port of its own, which stays over kills. It cannot outlive the tests."""

    def __init__(
        self,
        settings: Settings,
        secret: str,
        folder: Path,
        *options: str,
        ready_seconds: float = 0,
        drain_seconds: float = 0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._options = options
        self._port = free_port()
        self._process: Guarded | None = None
        self._env = {
            "PROGRESS_STREAM_REDIS_URL": str(settings.redis_url),
            "PROGRESS_STREAM_BROKER_URL": str(settings.effective_broker_url),
            "PROGRESS_STREAM_NAMESPACE": settings.namespace,
            "PROGRESS_STREAM_DATA": str(folder),
            "PROGRESS_STREAM_JWT_SECRET": secret,
            "PROGRESS_STREAM_READY_SECONDS": str(ready_seconds),
            "PROGRESS_STREAM_DRAIN_SECONDS": str(drain_seconds),
            # A busy machine holds up a crowd of clients in one process for longer than a client's 10 s to ask.
            "PROGRESS_STREAM_HEADER_SECONDS": "60",
        } | dict(env or {})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """What a load balancer asks."""
        return self._answers("/readyz")

    def start(self) -> Self:
        """Returns once it answers."""
        command = [
            sys.executable, "-m", "progress_stream.cli.main", "serve", "--port", str(self._port),
            *self._options,
        ]  # fmt: skip
        self._process = Guarded(
            command, folder=self._folder, log=self._folder / "serve.log", env=os.environ | self._env
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if not self._process.running or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self._process.last_words()}")
            time.sleep(0.02)
        return self

    def kill9(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.stop()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def terminate(self, patience_seconds: float) -> float:
        """SIGTERM, as who replaces it does; the seconds until it was gone. Raises TimeoutError when it stays longer."""
        if self._process is None:
            return 0.0
        began = time.monotonic()
        os.kill(self._process.pid, signal.SIGTERM)
        while self._process.running:
            if time.monotonic() - began > patience_seconds:
                raise TimeoutError(f"the server does not go: {self._process.last_words()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def _answers(self, path: str = "/healthz") -> bool:
        try:
            return httpx.get(f"{self.url}{path}", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def kill_subscriptions(client: redis.Redis) -> int:
    """How many connections it cost: one or more, for it waits until there is one."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (killed := int(client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))):
        if time.monotonic() > deadline:
            raise TimeoutError("nobody subscribes")
        time.sleep(0.005)
    return killed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
