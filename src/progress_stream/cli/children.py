"""The processes that `dev` starts: kept running while it runs, and gone when it is. Knows nothing of what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from ..client.retry import Backoff
from ..errors import ProgressStreamError
from ..store import guard

logger = structlog.get_logger(__name__)

#: How often to look whether a child still runs.
LOOK_SECONDS: Final = 0.1
#: A child that dies again and again is started less and less often, up to this.
LONGEST_PAUSE_SECONDS: Final = 10.0


class Child(Protocol):
    """A running process, or several that belong together."""

    @property
    def running(self) -> bool: ...

    def stop(self) -> None:
        """Ends it and waits until it is gone."""

    def kill(self) -> None:
        """Ends it at once, whatever it holds."""


class GuardedProgram:
    """A program under the guard, in a session of its own, so that Ctrl-C reaches it only through us."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        # Asked to end once: a second time would tell Dramatiq to drop what its actors are doing.
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), "1", *command],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    def stop(self) -> None:
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()
        self.kill()

    def kill(self) -> None:
        # The guard's session is the group of all that was started in it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._guard.pid, signal.SIGKILL)


class Kept:
    """A child that is started again when it dies. A context manager: at its end the child is gone."""

    def __init__(self, name: str, start: Callable[[], Child]) -> None:
        self._name = name
        self._start = start
        self._child = start()
        self._leaving = threading.Event()
        # Nobody else comes back at the same time, so the whole of each pause is waited.
        self._backoff = Backoff(
            lambda: 1.0, time.monotonic, base_seconds=0.2, cap_seconds=LONGEST_PAUSE_SECONDS
        )
        self._keeper = threading.Thread(target=self._keep, name=f"keep-{name}", daemon=True)

    def kill(self) -> None:
        """Ends the child at once and for good."""
        self._leaving.set()
        self._child.kill()

    def _keep(self) -> None:
        self._backoff.opened()
        while not self._leaving.wait(LOOK_SECONDS):
            if not self._child.running:
                self._revive()

    def _revive(self) -> None:
        self._child.kill()  # what it may have left behind
        pause = self._backoff.wait()
        logger.warning(f"the {self._name} died and is started again", pause_seconds=round(pause, 1))
        if self._leaving.wait(pause):
            return
        try:
            self._child = self._start()
            self._backoff.opened()
        except (ProgressStreamError, OSError) as error:
            logger.error(f"the {self._name} could not be started", reason=str(error))

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._keeper.join()
        self._child.stop()
