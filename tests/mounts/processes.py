"""A host application under its server, as a process of its own: started by that server's own command line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx

from tests.support.tied import tied

ROOT: Final = Path(__file__).parents[2]
PATIENCE_SECONDS: Final = 30.0

UVICORN: Final = ("-m", "uvicorn", "--factory", "--host", "127.0.0.1", "--port", "{port}")
#: Name → the command after `python`. The factory's address follows.
SERVERS: Final[Mapping[str, tuple[str, ...]]] = {
    "uvicorn": (*UVICORN, "--http", "httptools"),
    "uvicorn with our protocol": (*UVICORN, "--http", "progress_stream.server.push:StreamProtocol"),
    # It tells nobody that it stops: without an end to its patience a stream would hold it for the stream's whole life.
    "granian": (
        "-m", "granian", "--interface", "asgi", "--factory", "--host", "127.0.0.1", "--port", "{port}",
        "--workers-kill-timeout", "3",
    ),
}  # fmt: skip
HOSTS: Final = ("fastapi", "starlette", "django_asgi")


class Process:
    """Serves from the moment it is made; `stop` it, or `terminate` and look how it ends."""

    def __init__(self, server: str, host: str, env: Mapping[str, str], log: Path) -> None:
        self.log = log
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [part.format(port=port) for part in SERVERS[server]]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*tied(), sys.executable, *command, f"tests.mounts.hosts:{host}"],
                cwd=ROOT, env=os.environ | dict(env), stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                httpx.get(f"{self.url}/own")
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"the server did not come up: {self.said()}")

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def terminate(self) -> None:
        """What a supervisor does; granian's workers are its own to end."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int | None:
        """The exit code; None where it still runs."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """The whole group: a worker may outlive the process that started it."""
        if self._process.poll() is None:
            self.terminate()
            self.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
