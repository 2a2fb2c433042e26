"""A program between a process and the server it started: ends the server when that process is gone, however it went.

Run by its path, with nothing but the standard library, so that it starts in a few milliseconds and stays small:
`python -I -S guard.py PARENT_PID ASKS COMMAND…`, where ASKS is how often the server is asked to end before it is killed.
Writes the server's pid as one line to its standard output. Its standard input is a pipe whose other end only the
parent holds; its end is the sign to stop. What the server logs goes to the guard's standard error.

A parent killed with -9 cannot stop anything, and Linux' own "signal at the parent's death" is tied to the *thread*
that started the child; so this program, which has one thread, stands between and uses that signal for itself.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable

#: Seconds a server gets to write what it holds before it is killed.
GRACE_SECONDS = 10
#: How often to look whether the parent still is our parent. The pipe says so at once, unless a child that the parent
#: forked has inherited its end; then this does.
LOOK_SECONDS = 1.0
PR_SET_PDEATHSIG = 1


def main(parent: int, asks: int, command: list[str]) -> int:
    wake = _wake_at_signals()
    try:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,
            close_fds=False,
            preexec_fn=_die_with_guard(os.getpid()),
        )
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        return 127
    # A parent that is gone already is noticed below.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"%d\n" % server.pid)
    os.close(1)
    while server.poll() is None:
        ready, _, _ = select.select([0, wake], [], [], LOOK_SECONDS)
        asked = wake in ready and signal.SIGTERM in os.read(wake, 64)
        if asked or 0 in ready or os.getppid() != parent:
            _stop(server, asks)
    return server.returncode


def _wake_at_signals() -> int:
    """A file that becomes readable when the server ends or somebody asks the guard to."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for name in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(name, lambda *_: None)
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    return reader


def _die_with_guard(guard: int) -> Callable[[], None] | None:
    """What the server does before it is the server: ask Linux for a signal at the guard's own death."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)

    return ask


def _stop(server: subprocess.Popen[bytes], asks: int) -> None:
    for asked in range(GRACE_SECONDS):
        if asked < asks:
            server.terminate()
        # One that somebody stopped cannot hear it.
        server.send_signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(1.0)
            return
    server.kill()
    server.wait()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
