"""What systemd hears, on a socket such as systemd's own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from progress_stream.server.notify import Systemd


class Listening:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(20)

    def message(self, seconds: float = 20) -> dict[str, str]:
        """The next one, a name and a value a line."""
        self.socket.settimeout(seconds)
        lines = self.socket.recv(65_536).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def until(self, name: str, seconds: float = 60) -> dict[str, str]:
        """The next message that has this name; a minute of others is too long."""
        deadline = time.monotonic() + seconds
        while name not in (message := self.message(max(deadline - time.monotonic(), 0.01))):
            pass
        return message

    @property
    def is_silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listening]:
    if request.param == "abstract" and os.uname().sysname != "Linux":
        pytest.skip("only Linux has abstract sockets")
    listening = Listening(str(tmp_path / "notify") if request.param == "path" else f"@{uuid4().hex}")
    yield listening
    listening.socket.close()


def test_what_is_said_arrives_as_systemd_reads_it(systemd: Listening) -> None:
    """sd_notify(3): one datagram each, a name and a value a line."""
    told = Systemd(systemd.address)
    told.ready("serving")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    told.reloading()
    told.stopping(12.5)

    assert {"READY": "1", "STATUS": "serving"} == systemd.message()
    reloading = systemd.message()
    assert "1" == reloading["RELOADING"]
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    assert {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "12500000", "STATUS": "draining"} == systemd.message()


def test_the_watchdog_is_told_twice_in_its_time(systemd: Listening) -> None:
    """However often the loop turns."""
    told = Systemd(systemd.address, watchdog_seconds=1.0)
    began = time.monotonic()
    turns = 0
    while time.monotonic() - began < 1.2:
        told.alive()
        turns += 1
    messages = 0
    while not systemd.is_silent:
        assert {"WATCHDOG": "1"} == systemd.message()
        messages += 1

    assert turns > 100
    assert 3 == messages


@pytest.mark.parametrize(
    ("env", "listens", "watched"),
    [
        ({}, False, False),
        ({"NOTIFY_SOCKET": "/run/x"}, True, False),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "2000000"}, True, True),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "self"}, True, True),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, True, False),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "0"}, True, False),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"}, True, False),
    ],
)
def test_the_environment_says_who_listens(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], listens: bool, watched: bool
) -> None:
    """And says it to this process alone: its children would speak out of turn."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, str(os.getpid()) if value == "self" else value)
    told = Systemd.here()

    assert (listens, watched) == (told.listens, told._every is not None)
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


def test_nobody_to_tell_is_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing listens nothing is said; where something should and does not, it is logged."""
    Systemd().ready("serving")
    assert "" == caplog.text

    Systemd(str(tmp_path / "gone")).ready("serving")
    assert "systemd could not be told READY=1" in caplog.text
