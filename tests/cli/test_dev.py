"""`dev`: one command, several processes, and none of them left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.cli.processes import Dev, alive, dev_in, run, until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

#: Command lines of what `dev` starts.
REDIS = "redis.sock"
WORKER = "progress_stream.cli.worker"


def all_gone(pids: list[int], seconds: float) -> bool:
    until(lambda: not any(alive(pid) for pid in pids), seconds=seconds)
    return True


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    with dev_in(tmp_path) as running:
        yield running


def everybody(dev: Dev) -> list[int]:
    """Two guards, the server, Dramatiq's master and its process."""
    family = dev.family()
    assert 5 == len(family), family
    return [*family, dev.pid]


@pytest.mark.contract("dev")
def test_it_prints_a_link_and_a_token_and_ends_at_ctrl_c(dev: Dev) -> None:
    """On lines of their own; the link opens the page, the token is good for reading and writing; then nothing is left."""
    link, token = dev.line("link: "), dev.line("token: ")
    pids = everybody(dev)

    assert 2 == len(dev.lines())
    assert link == f"{dev.url}/?token={token}"
    assert httpx2.get(link).is_redirect
    assert 200 == httpx2.get(f"{dev.url}/actors", headers={"Authorization": f"Bearer {token}"}).status_code

    began = time.monotonic()
    dev.signal(signal.SIGINT)

    assert 0 == dev.ends(15)
    assert time.monotonic() - began < 10
    assert all_gone(pids, 1)
    assert token not in dev.errors()


def test_sigterm_ends_it_with_a_job_under_way(dev: Dev) -> None:
    """A job that takes an hour does not hold it up; everything it started is gone."""
    job = dev.submit("count", "--arg", "seconds=3600")
    until(lambda: state_of(dev, job) == "running")
    pids = everybody(dev)

    dev.signal(signal.SIGTERM)

    assert 0 == dev.ends(20)
    assert all_gone(pids, 1)


def state_of(dev: Dev, job: str) -> str:
    answer = httpx2.get(f"{dev.url}/jobs/{job}", headers={"Authorization": f"Bearer {dev.token}"})
    return str(answer.json()["state"])


@pytest.mark.contract("dev")
def test_killed_with_9_it_leaves_nothing_behind(dev: Dev) -> None:
    """Neither Redis nor a worker outlives it by more than seconds."""
    pids = everybody(dev)

    dev.signal(signal.SIGKILL)
    dev.ends()

    assert all_gone(pids, 12)


def test_the_second_ctrl_c_does_not_wait(dev: Dev) -> None:
    """For whoever is in a hurry: no drain, no last words, and still nothing left."""
    dev.submit("count", "--arg", "seconds=3600")
    pids = everybody(dev)

    dev.signal(signal.SIGINT)
    time.sleep(0.3)
    dev.signal(signal.SIGINT)

    dev.ends(2.5)
    assert all_gone(pids, 5)


@pytest.mark.parametrize(
    "after", [0.25, 0.8, *(pytest.param(after, marks=pytest.mark.slow) for after in (0.45, 1.1))]
)
def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path, after: float) -> None:
    """Whatever it was about to start."""
    with Dev(tmp_path) as dev:
        time.sleep(after)
        pids = list(dev.family())

        dev.signal(signal.SIGINT)

        # Before its handlers stand, Python's own ends it.
        assert dev.ends(15) in {0, 130, -signal.SIGINT}
        assert all_gone([*pids, *dev.family()], 5)


@pytest.mark.contract("dev")
@pytest.mark.parametrize("who", ["master", "process"])
def test_a_worker_that_dies_is_started_again(dev: Dev, who: str) -> None:
    """Either of Dramatiq's processes, killed with -9: soon another worker takes jobs, and no old one is left."""
    workers = sorted(pid for pid, line in dev.family().items() if WORKER in line and "guard.py" not in line)
    assert 2 == len(workers)

    os.kill(workers[0 if who == "master" else 1], signal.SIGKILL)

    assert all_gone(workers, 10)
    assert 0 == dev.watch(dev.submit("shout", "--arg", "text=still here")).returncode


def test_a_redis_that_dies_is_started_again_with_what_it_held(dev: Dev) -> None:
    """From its append-only file, at the same address: a job that ended before is still known."""
    job = dev.submit("shout", "--arg", "text=before")
    assert 0 == dev.watch(job).returncode
    time.sleep(1.1)  # its file is written once a second
    redis = dev.child(REDIS)

    os.kill(redis, signal.SIGKILL)
    dev.child(REDIS, beside=(redis,))

    assert 0 == dev.watch(job).returncode
    assert 0 == dev.watch(dev.submit("shout", "--arg", "text=after")).returncode


@pytest.mark.contract("DATA")
def test_its_secret_is_kept_and_hidden(tmp_path: Path) -> None:
    """A token from before a restart is still good; nobody else on the machine can read the secret; `token` uses it."""
    with Dev(tmp_path) as dev:
        token = dev.token
    secret = dev.data / "secret"

    with Dev(tmp_path) as dev:
        made = run("token", "--sub", "dev", "--data", str(dev.data)).stdout.strip()
        answers = [
            httpx2.get(f"{dev.url}/actors", headers={"Authorization": f"Bearer {each}"}).status_code
            for each in (token, made)
        ]
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in dev.family()]

    assert [200, 200] == answers
    assert 0o600 == stat.S_IMODE(secret.stat().st_mode)
    assert not any(secret.read_bytes().strip() in each for each in environments)


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    """And nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("dev", "--port", port, "--data", str(tmp_path / "data"))

    assert 1 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert f"port {port}" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_data_folder_in_use_is_one_line(dev: Dev) -> None:
    """Two servers on one append-only file would destroy it."""
    done = run("dev", "--port", "0", "--data", str(dev.data), "--worker", "json")

    assert 2 == done.returncode
    assert "in use" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_worker_module_that_is_missing_is_one_line(tmp_path: Path) -> None:
    """Before anything is started."""
    done = run("dev", "--port", "0", "--data", str(tmp_path / "data"), "--worker", "no_such_module")

    assert 2 == done.returncode
    assert "'no_such_module'" in done.stderr
    assert 1 == len(done.stderr.splitlines())


def test_its_logs_are_json_where_nobody_looks(dev: Dev) -> None:
    """The web server's and the worker's, one object a line."""
    dev.watch(dev.submit("fail", "--arg", "reason=for the log"))

    entries = [json.loads(line) for line in dev.errors().splitlines()]

    assert {"event", "level", "timestamp", "logger"} <= set(entries[0])
    assert any("for the log" in entry.get("exception", "") for entry in entries)
