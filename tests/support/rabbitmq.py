"""A private RabbitMQ for tests: ports, folders, a cookie and a port mapper of its own, on loopback alone.

Both run under the package's own guard, so that neither outlives a test run that was killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from progress_stream.store.embedded import Guarded
from tests.support import lacking
from tests.support.loopback import free_port

#: Erlang takes its time on a busy machine.
START_SECONDS = 90
#: Debian's own command changes the user; this is what it calls.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 1MB
"""


class RabbitServer:
    """A context manager: at its end nothing of it runs."""

    def __init__(self, folder: Path) -> None:
        self._epmd_program = shutil.which("epmd") or lacking("epmd")
        if not SERVER.exists():
            lacking("rabbitmq-server")
        self._folder = folder
        self.port = free_port()
        self._processes: list[Guarded] = []

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "rabbitmq.conf").write_text(CONFIGURATION.format(port=self.port))
        for empty in ("environment", "plugins"):
            (self._folder / empty).write_text("[]." if empty == "plugins" else "")
        env = self._environment()
        # Started by the server it would outlive it.
        self._start([self._epmd_program, "-port", env["ERL_EPMD_PORT"], "-address", "127.0.0.1"], env)
        self._start([str(SERVER)], env)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                if process.running:
                    os.killpg(os.getpgid(process.pid), signal.SIGKILL)
            process.stop()

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "HOME": str(self._folder),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "environment"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
        }

    def _start(self, command: list[str], env: dict[str, str]) -> None:
        log = self._folder / f"out{len(self._processes)}"
        self._processes.append(Guarded(command, folder=self._folder, log=log, env=env))

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or not self._processes[-1].running:
                raise RuntimeError(f"RabbitMQ did not start: {self._processes[-1].last_words(20)}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        """It speaks AMQP: to a version that there is not it says its own."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
                client.sendall(b"AMQP\x00\x09\x09\x09")
                return client.recv(8).startswith(b"AMQP")
        except OSError:
            return False
