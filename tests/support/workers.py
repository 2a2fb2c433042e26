"""Dramatiq's worker processes, to be killed, stopped and continued. What they run is `tests.worker.actors`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from progress_stream.settings import Settings


class Workers:
    """Processes of their own, each with a log in the folder."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self._settings = settings
        self._folder = folder

    def start(self, *, threads: int = 1, program: str = "tests.worker.actors") -> Path:
        """One worker process more; its log."""
        settings = self._settings
        env = os.environ | {
            "PROGRESS_STREAM_REDIS_URL": settings.redis_url or "",
            "PROGRESS_STREAM_BROKER_URL": settings.effective_broker_url or "",
            "PROGRESS_STREAM_NAMESPACE": settings.namespace,
            "PROGRESS_STREAM_STALLED_SECONDS": str(settings.stalled_seconds),
            "PROGRESS_STREAM_DATA": str(settings.data),
        }
        log = self._folder / f"worker{len(self.started)}.log"
        root = Path(__file__).parents[2]
        command = [
            sys.executable, "-m", "dramatiq", program, "--processes", "1", "--threads", str(threads), "--path", root,
        ]  # fmt: skip
        with log.open("wb") as target:
            process = subprocess.Popen(
                command, env=env, cwd=root, stdout=target, stderr=target, start_new_session=True
            )
        self.started.append(process)
        return log

    def signal(self, process: subprocess.Popen[bytes], what: signal.Signals) -> None:
        """To the whole group: the worker and the process that started it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, what)

    def end(self) -> None:
        """All of them, the stopped ones too."""
        for process in self.started:
            self.signal(process, signal.SIGKILL)
            process.wait()
