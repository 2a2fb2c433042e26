"""`progress-stream` as a person starts it, for a browser to look at."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from progress_stream.settings import load
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore
from tests.support.redis import RedisServer
from tests.support.tied import tied

#: What `progress-stream serve` prints before its address.
LISTENING = "progress-stream: listening on "
START_SECONDS = 60
END_SECONDS = 20
SECRET = "a secret for the length of these tests"


class Program:
    """One `progress-stream` command as a person starts it: another process, ready when it prints a line."""

    def __init__(self, *arguments: str, ready: str, env: Mapping[str, str] | None = None) -> None:
        program = Path(sys.executable).parent / "progress-stream"
        self._process = subprocess.Popen(
            [*tied(), str(program), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(env or {})},
        )
        self._lines: list[str] = []
        self._ready = threading.Event()
        #: What followed on the line that said it was ready.
        self.said = ""
        threading.Thread(target=self._read, args=(ready,), daemon=True).start()
        self._ready.wait(START_SECONDS)
        if not self.said:
            self.stop()
            pytest.fail(f"no line began with {ready!r}:\n" + "".join(self._lines[-40:]))

    def _read(self, ready: str) -> None:
        # To the end: a pipe that nobody empties would stop the server.
        for line in self._process.stdout or ():
            self._lines.append(line)
            if line.startswith(ready) and not self.said:
                self.said = line.removeprefix(ready).strip()
                self._ready.set()
        self._ready.set()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int:
        return urlsplit(self.said).port or 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Dev(Program):
    """All in one."""

    def __init__(self, data: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__("dev", "--port", "0", "--data", str(data), ready="link: ", env=env)

    @property
    def link(self) -> str:
        return self.said

    @property
    def token(self) -> str:
        return self.said.partition("token=")[2]


class Reachable(Dev):
    """With a heartbeat a second, and a Redis that the tests reach too."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        env = {
            "PROGRESS_STREAM_REDIS_URL": redis.url(0), "PROGRESS_STREAM_JWT_SECRET": SECRET,
            "PROGRESS_STREAM_HEARTBEAT_SECONDS": "1", "PROGRESS_STREAM_POLL_SECONDS": "0.5",
        }  # fmt: skip
        super().__init__(folder, env)
        self.store = SyncStore(sync_client(redis.url(0)), load(redis_url=redis.url(0)))

    def stop(self) -> None:
        self.store.close()
        super().stop()
