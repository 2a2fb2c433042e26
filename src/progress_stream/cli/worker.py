"""The worker of `dev` as a process: Dramatiq's own program, run so that none of its processes outlives another.

Run as `python -m progress_stream.cli.worker MODULE FOLDER…`, under the guard that stands between it and `dev`.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Final

from ..store.guard import PR_SET_PDEATHSIG
from . import logs

#: Milliseconds that actors get at a stop. Whoever presses Ctrl-C is waiting; the job comes back at the next start.
SHUTDOWN_MS: Final = 2_000
THREADS: Final = 8


def main(module: str, folders: list[str]) -> None:
    """Becomes `dramatiq MODULE`, with these folders before all others on the path."""
    logs.configure()
    if sys.platform.startswith("linux"):
        # Dramatiq's master forks its processes and, killed with -9, would leave them behind.
        multiprocessing.set_start_method("fork")
        os.register_at_fork(after_in_child=_die_with_parent(os.getpid()))
    options = ["--processes", "1", "--threads", str(THREADS), "--worker-shutdown-timeout", str(SHUTDOWN_MS)]
    # Dramatiq puts each in front of those before it.
    paths = ["--path", *reversed(folders)]
    sys.argv = ["dramatiq", *options, "--skip-logging", *paths, "--", module]
    runpy.run_module("dramatiq", run_name="__main__", alter_sys=True)


def _die_with_parent(master: int) -> Callable[[], None]:
    """What a process of the master does first. Those that an actor starts are the actor's own affair."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        if os.getppid() == master:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return ask


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
