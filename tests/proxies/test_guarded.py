"""No proxy outlives the tests that started it, also where these are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cli.processes import alive, descendants, until
from tests.proxies import setups

#: Starts an nginx before nobody, says that it is there, and then does nothing for long.
PROGRAM = """
import sys, time
from pathlib import Path
from tests.proxies.standing import nginx_defaults
with nginx_defaults(["http://127.0.0.1:1"], Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(60)
"""


def test_a_proxy_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """By SIGKILL, which leaves nobody the time to end anything: its master, its workers and the guard between."""
    setups.program("nginx")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "nginx")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert "up\n" == process.stdout.readline()
            until(lambda: len(_nginx(process.pid)) == 3)
            started = list(descendants(process.pid))
        finally:
            os.kill(process.pid, signal.SIGKILL)

    until(lambda: not any(alive(pid) for pid, _ in started))


def _nginx(root: int) -> list[int]:
    """The master and two workers, once they are there."""
    return [pid for pid, line in descendants(root) if line.startswith("nginx: ")]
