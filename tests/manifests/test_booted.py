"""The systemd units in a system's own manager, as its own user and with all of the sandbox: booted from a copy of this machine.

By `systemd-nspawn`, which is not of the packages that tests bring by themselves (Debian: systemd-container), for root alone. Not
shown: a kernel and a network of its own; and where this machine's systemd is older than 253, `Type=notify-reload`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import lacking

from .building import ROOT
from .test_systemd import UNITS

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

HERE = Path(__file__).parent
TRIAL = """
[Unit]
Requires=basic.target
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /trial/inside.sh
TimeoutStartSec=240
ExecStopPost=/bin/systemctl --no-block exit
"""


def for_the_machine_s_systemd(unit: str) -> str:
    """As docs/operations.md says for one before 253."""
    text = (ROOT / "manifests" / "systemd" / unit).read_text()
    said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", said)[0]) >= 253:
        return text
    return text.replace("Type=notify-reload", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID")


def prepared(folder: Path) -> Path:
    """What boot.sh wants: this environment's programs for an interpreter in another place, and the units."""
    (folder / "units").mkdir()
    (folder / "bin").mkdir()
    for unit in UNITS:
        (folder / "units" / unit).write_text(for_the_machine_s_systemd(unit))
    (folder / "units" / "trial.service").write_text(TRIAL)
    shutil.copy(HERE / "inside.sh", folder / "units")
    (folder / "pyvenv.cfg").write_text("home = /opt/python/bin\ninclude-system-site-packages = false\n")
    (folder / "bin" / "python").symlink_to(f"/opt/python/bin/python3.{sys.version_info.minor}")
    for name in ("progress-stream", "dramatiq"):
        _, _, rest = Path(sys.executable).with_name(name).read_text().partition("\n")
        program = folder / "bin" / name
        program.write_text(f"#!/opt/progress-stream/bin/python\n{rest}")
        program.chmod(0o755)
    return folder


def test_the_units_run_in_a_system_s_own_manager(tmp_path: Path) -> None:
    """Start, what they may, a job from end to end over a reload, a reload that is refused, a process killed, and stop."""
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        lacking("root and systemd-nspawn (Debian: systemd-container)")
    folder = prepared(tmp_path)
    boot = [
        "unshare",
        "--mount",
        "bash",
        str(HERE / "boot.sh"),
        str(folder),
        sys.base_prefix,
        sys.prefix,
        str(ROOT),
    ]
    booted = subprocess.run(
        boot, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
    )
    file = folder / "out" / "found"
    assert file.exists(), booted.stderr or booted.stdout
    lines = [line.partition("=") for line in file.read_text().splitlines()]

    assert [("written", "/var/lib/progress-stream")] == [
        (name, said) for name, _, said in lines if name == "written"
    ]
    assert {
        "started": "yes", "users": "progress-stream", "status": "serving with 2 processes", "CapEff": "0" * 16, "CapBnd": "0" * 16,
        "NoNewPrivs": "1", "Seccomp": "2", "written": "/var/lib/progress-stream", "readyz": '{"status":"ready"}', "reloaded": "yes",
        "new_setting": "in force", "watched": "0", "refused": "active", "restarts": "0", "stopped": "yes", "results": "success",
    } == {name: said for name, _, said in lines}, (folder / "out" / "log").read_text()[-4000:]  # fmt: skip
