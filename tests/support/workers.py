"""Dramatiq's worker processes, to be killed, stopped and continued. What they run is `tests.worker.actors`.

Each is under the package's own guard, so that none outlives a test run that was killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from progress_stream.settings import Settings
from progress_stream.store.embedded import Guarded
from tests.cli.processes import descendants


class Workers:
    """Processes of their own, each with a log in the folder."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.started: list[Guarded] = []
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
        self.started.append(Guarded(command, folder=root, log=log, env=env))
        return log

    def signal(self, process: Guarded, what: signal.Signals) -> None:
        """To the worker and the process that started it; of all but SIGKILL the guard hears nothing."""
        if not process.running:
            # Its pid may be somebody else's by now.
            return
        with contextlib.suppress(ProcessLookupError):
            if what == signal.SIGKILL:
                os.killpg(os.getpgid(process.pid), what)
                return
            for pid in (process.pid, *(pid for pid, _ in descendants(process.pid))):
                os.kill(pid, what)

    def end(self) -> None:
        """All of them, the stopped ones too."""
        for process in self.started:
            self.signal(process, signal.SIGKILL)
            process.stop()
