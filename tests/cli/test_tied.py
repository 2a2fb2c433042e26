"""What a test has started as a process of its own does not outlive a test run that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.cli.processes import alive, descendants, until

#: Starts something that takes long, as the tests start `progress-stream`, says that it is there, and waits for it.
PROGRAM = """
import subprocess
from tests.support.tied import tied
with subprocess.Popen([*tied(), "sh", "-c", "echo up; exec sleep 60"]) as process:
    print(process.wait())
"""


def test_a_tied_command_ends_with_the_process_that_started_it() -> None:
    """By SIGKILL, which leaves nobody the time to end anything."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "up\n" == process.stdout.readline()
            [(started, _)] = descendants(process.pid)
        finally:
            os.kill(process.pid, signal.SIGKILL)

    until(lambda: not alive(started))


def test_a_tied_command_keeps_its_pid_and_its_exit_status() -> None:
    """A test that signals it reaches it, and sees how it ended."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "up\n" == process.stdout.readline()
        [(started, _)] = descendants(process.pid)
        os.kill(started, signal.SIGTERM)

        assert f"{-signal.SIGTERM}\n" == process.stdout.readline()
