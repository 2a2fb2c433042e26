"""The units for a machine of one's own: that systemd takes them, that their numbers fit, and that the sandbox holds."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import typer.main

from progress_stream.cli.main import app
from progress_stream.server import many
from progress_stream.server.run import OTHER_FILES, PATIENCE_SECONDS, leave_seconds
from progress_stream.settings import PREFIX, Settings

from .building import MANIFESTS

FOLDER: Final = MANIFESTS / "systemd"
UNITS: Final = sorted(path.name for path in FOLDER.glob("*.service"))
WEB, WORKER = "progress-stream.service", "progress-stream-worker.service"
#: The program's place in the units, and here.
PROGRAMS: Final = "/opt/progress-stream/bin"
#: systemd-analyze's own scale ends at 10; below 2 it has nothing left but what a server needs: addresses, and its files.
MOST_EXPOSED: Final = "2.0"


def lines(unit: str) -> list[tuple[str, str]]:
    """Names and values, in order: a name may come again."""
    found = re.findall(r"^([A-Za-z]+)=(.*)$", (FOLDER / unit).read_text(), re.MULTILINE)
    return [(name, value) for name, value in found]


def value(unit: str, name: str) -> str:
    (only,) = [value for known, value in lines(unit) if known == name]
    return only


def environment(unit: str) -> dict[str, str]:
    words = [word for name, text in lines(unit) if name == "Environment" for word in shlex.split(text)]
    return dict(word.split("=", 1) for word in words)


def command(unit: str) -> list[str]:
    """As systemd would run it."""
    known = environment(unit)
    return [
        re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], word)
        for word in shlex.split(value(unit, "ExecStart"))
    ]


@pytest.fixture(scope="module")
def systemd_analyze() -> str:
    """Skipped with its reason where there is none, and fails in CI."""
    program = shutil.which("systemd-analyze")
    if program is None:
        reason = "systemd-analyze is not installed (scripts/system-packages)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return program


def installed(unit: str, program: str, folder: Path) -> Path:
    """The unit as this machine could have it: the programs of this environment, and what its systemd knows."""
    text = (FOLDER / unit).read_text().replace(PROGRAMS, str(Path(sys.executable).parent))
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if int(said.split()[1].partition(".")[0].partition("~")[0]) < 253:
        text = text.replace("Type=notify-reload", "Type=notify")
    (folder / unit).write_text(text)
    return folder / unit


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_each_unit_without_a_word(unit: str, systemd_analyze: str, tmp_path: Path) -> None:
    """A directive that it does not know would be left out with a warning: a closed door left open."""
    file = installed(unit, systemd_analyze, tmp_path)
    verified = subprocess.run(
        [systemd_analyze, "--man=no", "verify", str(file)], capture_output=True, text=True, check=False
    )

    assert (0, "", "") == (verified.returncode, verified.stdout, verified.stderr)


@pytest.mark.parametrize("unit", UNITS)
def test_little_is_left_open(unit: str, systemd_analyze: str, tmp_path: Path) -> None:
    """By systemd's own count of what a service could still do."""
    file = installed(unit, systemd_analyze, tmp_path)
    counted = subprocess.run(
        [systemd_analyze, "--no-pager", "security", "--offline=yes", str(file)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", counted.stdout)

    assert found is not None, counted.stdout
    assert float(found[1]) < float(MOST_EXPOSED)


def test_the_web_server_s_command_is_one_that_it_takes() -> None:
    """Every option exists, and the values are such as it wants."""
    program, name, *options = command(WEB)
    assert (f"{PROGRAMS}/progress-stream", "serve") == (program, name)
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    given = serve.make_context("serve", options).params

    assert ("127.0.0.1", 8000, 2) == (given["host"], given["port"], given["processes"])
    assert Path("/etc/progress-stream/settings.env") == given["env_file"]


def test_the_web_server_has_time_to_begin_to_reload_and_to_go() -> None:
    """What it may take, by its own numbers."""
    settings = Settings()
    reload_seconds = leave_seconds(settings) + many.SLACK_SECONDS + many.START_SECONDS

    assert float(value(WEB, "TimeoutStopSec")) > leave_seconds(settings)
    assert float(value(WEB, "TimeoutStartSec")) > reload_seconds > PATIENCE_SECONDS
    assert float(value(WEB, "WatchdogSec")) > many.HEALTH_SECONDS
    assert int(value(WEB, "LimitNOFILE")) > settings.max_streams + OTHER_FILES


def test_the_worker_s_jobs_have_the_time_that_dramatiq_gives_them() -> None:
    """And its processes hear one SIGTERM, not two: the second makes Dramatiq drop what it does."""
    words = command(WORKER)
    milliseconds = int(words[words.index("--worker-shutdown-timeout") + 1])

    assert float(value(WORKER, "TimeoutStopSec")) >= milliseconds / 1000 + 15
    assert ("mixed", "SIGTERM", "always") == tuple(
        value(WORKER, name) for name in ("KillMode", "KillSignal", "Restart")
    )


@pytest.mark.parametrize("unit", UNITS)
def test_settings_named_in_a_unit_exist(unit: str) -> None:
    """Nothing reads any other."""
    named = {name.removeprefix(PREFIX).lower() for name in environment(unit) if name.startswith(PREFIX)}

    assert named
    assert named <= set(Settings.model_fields)


WITHOUT_NEW_CODE = """
import ctypes, errno, mmap, sys
if ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0) != 0:  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    sys.exit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    sys.exit("the kernel allows what it should not")
except PermissionError:
    pass
import asyncio, uvloop, workers.personalize
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from progress_stream.api.app import create_app
from progress_stream.auth.verify import sign
from progress_stream.server import many
for key in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
    key.public_key()
sign("x" * 32, "me", "jobs:read", 60)
async def main():
    await asyncio.to_thread(print, "served")
asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_MDWE")
def test_nothing_that_we_use_makes_code_as_it_runs() -> None:
    """MemoryDenyWriteExecute=yes: uvloop, OpenSSL, httptools, msgpack and the rest work where no memory becomes executable."""
    root = str(MANIFESTS.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
           "PROGRESS_STREAM_REDIS_URL": "redis://127.0.0.1:1/0"}  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_NEW_CODE],
        capture_output=True,
        text=True,
        env=env,
        timeout=100,
        check=False,
    )
    if ended.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (6.3)")

    assert (0, "served\n") == (ended.returncode, ended.stdout), ended.stderr
