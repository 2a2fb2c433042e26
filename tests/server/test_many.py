"""Many processes on one port, with a small application: who is started, replaced and ended, by which signal, and what is told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.processes import alive, descendants, environment, until

from .application import FIRST
from .conftest import read_all, read_until, split
from .many_processes import HEALTH_SECONDS
from .test_notify import Listening

ROOT = Path(__file__).parents[2]
DRAINING = b"event: draining\ndata: {}\n\n"
PATIENCE_SECONDS = 60


class Many:
    """A supervisor with its processes, as systemd would have started it."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        folder.mkdir(exist_ok=True)
        self.systemd = Listening(str(folder / "notify"))
        self.log = folder / "log"
        chosen = {
            "PROGRESS_STREAM_READY_SECONDS": "0",
            "PROGRESS_STREAM_DRAIN_SECONDS": "0",
            # What it leaves behind when it is killed.
            "TMPDIR": str(folder),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.server.many_processes", *arguments],
                cwd=ROOT,
                env=environment(**(chosen | {"NOTIFY_SOCKET": self.systemd.address} | env)),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.seen: set[int] = set()
        assert self.process.stdout is not None
        self.lines = self.process.stdout

    def started(self) -> Many:
        self.port = urlsplit(self.lines.readline().strip()).port or 0
        assert self.port, self.log.read_text()
        return self

    @property
    def children(self) -> set[int]:
        """The serving processes, not what Python's `multiprocessing` runs beside them."""
        found = {pid for pid, line in descendants(self.process.pid) if "spawn_main" in line and alive(pid)}
        self.seen |= found
        return found

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def ask(self, path: str) -> bytes:
        with self.connect() as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return split(read_all(client))[2]

    def stream(self) -> tuple[socket.socket, bytes]:
        """An open one, and what has come of it."""
        client = self.connect()
        client.sendall(b"GET /open HTTP/1.1\r\nHost: x\r\n\r\n")
        return client, read_until(client, FIRST + b"\r\n")

    def close(self) -> None:
        left = self.children
        self.process.kill()
        self.process.communicate(timeout=10)
        self.systemd.socket.close()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ends(self, seconds: float = PATIENCE_SECONDS) -> tuple[int, str]:
        """Its exit status and the rest of its output; none of its processes is left."""
        status = self.process.wait(seconds)
        for pid in self.seen:
            until(lambda pid=pid: not alive(pid))  # type: ignore[misc]
        return status, self.lines.read()


Start = Callable[..., Many]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts them, and ends them whatever happens."""
    running: list[Many] = []

    def begin(*arguments: str, **env: str) -> Many:
        running.append(Many(tmp_path / f"run{len(running)}", *arguments, **env))
        return running[-1]

    yield begin
    for many in running:
        many.close()


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the processes answer with, read anew at a reload."""
    return tmp_path_factory.mktemp("many") / "setting"


@pytest.fixture(scope="module")
def serving(setting: Path) -> Iterator[Many]:
    """Two processes that go on through several tests, whatever those do to them."""
    setting.write_text("first")
    env = {
        "PROGRESS_STREAM_READY_SECONDS": "2",
        "PROGRESS_STREAM_DRAIN_SECONDS": "1",
        "FLAW_FILE": str(setting.with_suffix(".flaw")),
    }
    many = Many(setting.parent, "2", SETTING_FILE=str(setting), WATCHDOG_USEC="500000", **env).started()
    assert {"READY": "1", "STATUS": "serving with 2 processes"} == many.systemd.until("READY")
    yield many
    many.close()


@pytest.fixture
def many(serving: Many) -> Many:
    """Both are there, and nothing that was said before is left to be heard."""
    until(lambda: len(serving.children) == 2, what=serving.log.read_text)
    while not serving.systemd.is_silent:
        serving.systemd.message()
    return serving


def test_a_process_that_is_killed_is_started_again(many: Many) -> None:
    """The other serves on, and then there are as many as before."""
    first = many.children
    killed = int(many.ask("/whoami"))
    assert killed in first
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in many.children)
    assert first - {killed} == {int(many.ask("/whoami"))}
    now = until(lambda: len(found := many.children) == 2 and found, what=many.log.read_text)

    assert first - {killed} < now
    until(lambda: int(many.ask("/whoami")) in now - first)


def test_one_that_cannot_start_again_ends_nobody_and_is_tried_again(many: Many, setting: Path) -> None:
    """Less and less often: what keeps it from starting may pass, and the other serves."""
    flaw = setting.with_suffix(".flaw")
    flaw.touch()
    killed, failed = min(many.children), many.log.read_text().count("ended with status 9")
    os.kill(killed, signal.SIGKILL)
    until(lambda: many.log.read_text().count("ended with status 9") >= failed + 2, what=many.log.read_text)
    assert many.ask("/setting")
    flaw.unlink()
    answered: set[int] = set()

    def both_answer() -> bool:
        answered.add(int(many.ask("/whoami")))
        return len(answered & many.children) == 2

    until(both_answer, seconds=PATIENCE_SECONDS, what=many.log.read_text)


def test_one_that_hangs_is_started_again_and_one_that_is_slow_is_not(many: Many) -> None:
    """A thread of it still answers: what counts is whether its event loop turns."""
    before = many.children
    with many.connect() as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        client.settimeout(HEALTH_SECONDS / 2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert before == many.children
        until(lambda: len(many.children - before) == 1 and len(many.children) == 2, what=many.log.read_text)

    assert "gave no sign of life for 3 seconds" in many.log.read_text()


def test_a_reload_replaces_all_processes_and_refuses_nobody(many: Many, setting: Path) -> None:
    """New ones serve before old ones go; who is connected is answered and sent on, and a stream has its time."""
    setting.write_text("second")
    old, gone_before = many.children, many.log.read_text().count("replaced: draining")
    client, begun = many.stream()
    kept = many.connect()
    kept.sendall(b"GET /setting HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"connection: close" not in read_until(kept, b"first")
    many.process.send_signal(signal.SIGHUP)
    assert "MONOTONIC_USEC" in many.systemd.until("RELOADING")
    told: dict[str, str] = {}
    while "READY" not in told:
        assert many.ask("/setting") in {b"first", b"second"}
        with contextlib.suppress(TimeoutError):
            told = many.systemd.message(0.01)
    new = many.children - old
    assert 2 == len(new)
    until(lambda: many.log.read_text().count("replaced: draining") == gone_before + 2)
    kept.sendall(b"GET /setting HTTP/1.1\r\nHost: x\r\n\r\n")

    with kept:
        answer = read_all(kept)
    assert answer.endswith(b"first") and b"connection: close" in answer
    assert {b"second"} == {many.ask("/setting") for _ in range(20)}
    with client:
        assert FIRST + DRAINING == split(begun + read_all(client))[2]
    assert new == until(lambda: not many.children & old and many.children, what=many.log.read_text)


def test_a_reload_that_cannot_be_is_none(many: Many, setting: Path) -> None:
    """Those who serve go on serving, and the log and systemd say why."""
    before, text = many.children, many.ask("/setting")
    setting.rename(setting.with_suffix(".away"))
    many.process.send_signal(signal.SIGHUP)

    many.systemd.until("RELOADING")
    assert "not reloaded: SETTING_FILE: is gone" in many.systemd.until("READY")["STATUS"]
    assert "not reloaded, all is as it was: SETTING_FILE: is gone" in many.log.read_text()
    assert before == many.children
    assert text == many.ask("/setting")
    setting.with_suffix(".away").rename(setting)


def test_the_watchdog_is_fed_while_the_supervisor_looks(many: Many) -> None:
    """And starves when it does not."""
    for _ in range(3):
        many.systemd.until("WATCHDOG", seconds=20)
    many.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    while not many.systemd.is_silent:
        many.systemd.message()
    time.sleep(1)
    silent = many.systemd.is_silent
    many.process.send_signal(signal.SIGCONT)

    assert silent


@pytest.mark.contract("serve")
@pytest.mark.parametrize(
    ("number", "to_all"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)]
)
def test_one_signal_drains_all_processes(start: Start, number: signal.Signals, to_all: bool) -> None:
    """Whether the supervisor alone gets it or, as from a terminal, each process: streams end whole, and it is no failure."""
    many = start("2", PROGRESS_STREAM_DRAIN_SECONDS="1").started()
    assert 2 == len(many.children)
    streams = [many.stream() for _ in range(4)]
    if to_all:
        os.killpg(many.process.pid, number)
    else:
        many.process.send_signal(number)

    for client, begun in streams:
        with client:
            assert FIRST + DRAINING == split(begun + read_all(client))[2]
    assert (0, "served\n") == many.ends()
    stopping = many.systemd.until("STOPPING")
    assert 1 + 8 <= int(stopping["EXTEND_TIMEOUT_USEC"]) / 1e6 <= 30


def test_a_second_signal_ends_all_processes_now(start: Start) -> None:
    """A drain that takes too long for somebody is cut short."""
    many = start("2", PROGRESS_STREAM_DRAIN_SECONDS="300").started()
    assert 2 == len(many.children)
    with many.stream()[0]:
        many.process.send_signal(signal.SIGTERM)
        many.systemd.until("STOPPING")
        many.process.send_signal(signal.SIGTERM)

        assert (0, "served\n") == many.ends()
    # By themselves, and not killed for it.
    assert 1 + 2 == many.log.read_text().count("exiting now")


def test_no_process_outlives_its_supervisor(start: Start) -> None:
    """Killed with -9 it can end nobody: they see it themselves, drain, and leave the port."""
    many = start("2").started()
    children = many.children
    client, begun = many.stream()
    many.process.kill()

    with client:
        assert FIRST + DRAINING == split(begun + read_all(client))[2]
    for pid in children:
        until(lambda pid=pid: not alive(pid))  # type: ignore[misc]
    with pytest.raises(ConnectionRefusedError):
        many.connect()


@pytest.mark.parametrize(("flaw", "why"), [("broken", "BROKEN: cannot be made"), ("flawed", "status 9")])
def test_what_cannot_start_is_not_started_for_ever(start: Start, flaw: str, why: str) -> None:
    """All would fail alike; who started it is told by the exit status."""
    many = start("2", flaw)

    assert (0, "failed\n") == many.ends()
    assert why in many.log.read_text()
