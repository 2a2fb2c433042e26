"""A command that is asked to end (SIGTERM) when the process that started it is gone, also by SIGKILL: `[*tied(), program, …]`.

It keeps its pid, its pipes and its exit status, which the package's own guard takes for itself. For servers of which only a log is
read that one is the better choice: it asks again, and kills in the end. What the command has started is its own to end. Linux
ties this to the *thread* that starts it. Run by its path, with nothing but the standard library.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def tied() -> list[str]:
    """What goes in front of a command of this process."""
    return [sys.executable, "-I", "-S", str(Path(__file__)), str(os.getpid())]


def main(parent: int, command: list[str]) -> None:
    if sys.platform.startswith("linux"):
        # It outlives the exec.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == parent:
        os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
