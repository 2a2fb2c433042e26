"""A serving process: where it listens, what a signal does, and that it always exits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop

from progress_stream.errors import InvalidInput
from progress_stream.server import run
from progress_stream.server.notify import Systemd
from progress_stream.server.run import drain_of, listen, make_server, serve_async, url_of
from progress_stream.settings import Settings

from .application import FIRST, Application, Failing, eventually
from .conftest import Serve, read_all, read_until, split
from .test_notify import Listening

ROOT = Path(__file__).parents[2]
DRAINING = b"event: draining\ndata: {}\n\n"


class Process:
    """The serving process, and one open stream."""

    def __init__(self, mode: str, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.process", mode],
            cwd=ROOT,
            env=os.environ | env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        url = urlsplit(self.lines.readline().strip())
        self.client = socket.create_connection((url.hostname, url.port or 0), timeout=10)
        self.client.sendall(b"GET /open HTTP/1.1\r\nHost: x\r\n\r\n")
        self.begun = read_until(self.client, FIRST + b"\r\n")


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes to be ended, whatever happens."""
    processes: list[Process] = []
    yield processes
    for each in processes:
        each.client.close()
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate(timeout=10)


@pytest.mark.contract("serve")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_then_exits_cleanly(started: list[Process], number: signal.Signals) -> None:
    """The drain runs before anything is closed, the stream ends whole, and the exit is no failure."""
    started.append(running := Process("drain"))
    running.process.send_signal(number)

    assert FIRST + DRAINING == split(running.begun + read_all(running.client))[2]
    assert 0 == running.process.wait(10)
    assert ["draining", "drained", "returned"] == running.lines.read().split()


def test_a_signal_in_the_middle_of_a_log_line_drains_too() -> None:
    """Writing a second line inside the first is refused with an exception, which would end the process instead."""
    command = [sys.executable, "-m", "tests.server.process", "line"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert ["draining", "drained", "returned"] == ended.stdout.split()[1:], ended.stderr
    assert 0 == ended.returncode
    assert "SIGTERM: draining" in ended.stderr


def test_without_a_drain_streams_still_end_cleanly(started: list[Process]) -> None:
    """Each stream says its last words, and the process exits at once."""
    started.append(running := Process("none"))
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)

    assert FIRST + DRAINING == split(running.begun + read_all(running.client))[2]
    assert 0 == running.process.wait(10)
    assert time.monotonic() - began < 3


def test_a_second_signal_forces_the_exit(started: list[Process]) -> None:
    """A drain that takes too long for somebody is cut short."""
    started.append(running := Process("hang"))
    running.process.send_signal(signal.SIGTERM)
    assert "draining" == running.lines.readline().strip()
    running.process.send_signal(signal.SIGTERM)

    assert 0 == running.process.wait(3)


def test_systemd_is_told_of_a_process_life(started: list[Process], tmp_path: Path) -> None:
    """Ready, alive, and stopping; a reload is answered, though one process alone cannot do it."""
    systemd = Listening(str(tmp_path / "notify"))
    started.append(running := Process("drain", NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="300000"))

    assert "serving" == systemd.until("READY")["STATUS"]
    for _ in range(3):
        systemd.until("WATCHDOG")
    running.process.send_signal(signal.SIGHUP)
    assert "MONOTONIC_USEC" in systemd.until("RELOADING")
    assert "nothing was reloaded" in systemd.until("READY")["STATUS"]
    running.process.send_signal(signal.SIGTERM)
    assert "EXTEND_TIMEOUT_USEC" in systemd.until("STOPPING")
    assert 0 == running.process.wait(10)
    systemd.socket.close()


def test_who_is_connected_is_answered_once_more_where_others_take_over(serve: Serve) -> None:
    """New connections are not taken; the next answer is the last; who has not asked yet is waited for, and streams go on."""
    serving = serve()
    asking, idle, half = serving.connect(), serving.ask("/plain"), serving.connect()
    read_until(idle, b"plain 0")
    stream = serving.ask("/open")
    begun = read_until(stream, FIRST + b"\r\n")
    serving.call(run.stop_accepting, serving.server)
    with pytest.raises(ConnectionRefusedError):
        serving.connect()

    asking.sendall(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, body = split(read_all(asking))
    assert (b"HTTP/1.1 200 OK", b"close", b"plain 0") == (status, headers[b"connection"], body)
    half.sendall(b"GET /plain HTTP/1.1\r\nHo")
    waiting = asyncio.run_coroutine_threadsafe(run.all_have_asked(serving.server, 60), serving.loop)
    with pytest.raises(TimeoutError):
        waiting.result(0.5)
    half.sendall(b"st: x\r\n\r\n")
    assert b"plain 0" == split(read_all(half))[2]
    waiting.result(20)

    serving.server.stop()
    assert FIRST + DRAINING == split(begun + read_all(stream))[2]
    assert b"" == read_all(idle)


@pytest.mark.parametrize("patience", [0.3, 60])
def test_ready_is_said_when_it_is_so_or_patience_has_ended(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, patience: float
) -> None:
    """Without Redis a restart would help nobody: a start does not fail for it."""
    monkeypatch.setattr(run, "PATIENCE_SECONDS", patience)
    systemd = Listening(str(tmp_path / "notify"))
    faults = ["Redis does not answer"]

    async def fault() -> str | None:
        return faults[0] if faults else None

    app = Application()
    app.state.fault = fault
    serving = serve(app, options={"systemd": Systemd(systemd.address)})
    if patience < 1:
        assert "not ready yet: Redis does not answer" == systemd.message()["STATUS"]
    time.sleep(1)
    assert systemd.is_silent
    faults.clear()

    assert {"READY": "1", "STATUS": "serving"} == systemd.message()
    serving.server.stop()
    assert "STOPPING" in systemd.message()
    systemd.socket.close()


def test_a_shutdown_is_told_once_and_everything_exits(serve: Serve) -> None:
    """Open, failing and stalled streams alike: none keeps the server from its exit."""
    serving = serve(write_stall_seconds=60)
    client = serving.ask("/open")
    begun = read_until(client, FIRST + b"\r\n")
    failing = serving.ask("/failing")
    read_until(failing, FIRST)
    serving.ask("/flood", receive_buffer=4_096)
    eventually(lambda: len(serving.app.streams) == 3)
    serving.server.stop()

    assert FIRST + DRAINING == split(begun + read_all(client))[2]
    with contextlib.suppress(ConnectionError):
        read_all(failing)
    serving.thread.join(12)
    assert not serving.thread.is_alive()
    for stream in serving.app.streams:
        told = ["lost"] if isinstance(stream, Failing) else ["shutdown", "lost"]
        assert told == [call for call in stream.calls if call != "ready"]


def test_a_drain_that_fails_still_ends_in_an_exit(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The application's fault is logged; the process does not stay for it."""
    app = Application()

    async def broken() -> None:
        raise RuntimeError("broken on purpose")

    app.state.drain = broken
    serving = serve(app)
    serving.server.stop()
    serving.thread.join(5)

    assert not serving.thread.is_alive()
    assert "The drain failed" in caplog.text


def test_requests_are_served_while_it_drains(serve: Serve) -> None:
    """Load balancers need to see `readyz` change: the listener stays open until the drain is over."""
    app = Application()
    over = asyncio.Event()
    app.state.drain = over.wait
    serving = serve(app)
    serving.server.stop()
    eventually(lambda: serving.server._drain)

    assert b"plain 0" == split(read_all(serving.ask("/plain", extra="Connection: close\r\n")))[2]

    serving.call(over.set)
    serving.thread.join(5)
    assert not serving.thread.is_alive()


def test_it_serves_in_a_running_loop_too() -> None:
    """`dev` has other things in the same loop; port 0 says which port it is."""

    async def ask() -> bytes:
        urls: asyncio.Queue[str] = asyncio.Queue()
        task = asyncio.create_task(
            serve_async(Application(), Settings(), "127.0.0.1", 0, on_listening=urls.put_nowait)
        )
        url = urlsplit(await urls.get())
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(b"GET /finite HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        signal.raise_signal(signal.SIGINT)
        await asyncio.wait_for(task, 10)
        return answer

    for loop_factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert FIRST in runner.run(ask())


@pytest.mark.parametrize(
    ("soft", "hard", "allowed"), [(256, 2_000, 1_500), (256, 1_000, 1_000), (1_800, 2_000, 1_800)]
)
def test_as_many_files_may_be_open_as_streams_need(soft: int, hard: int, allowed: int) -> None:
    """As far as the hard limit goes; where that is not enough, it is said before people find out."""
    program = (
        "import logging, resource; from progress_stream.server import run; logging.basicConfig();"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); run._allow_files(1_500);"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )

    assert f"{allowed}" == ended.stdout.strip()
    assert (allowed < 1_500) == ("MAX_STREAMS wants 1500" in ended.stderr)


def test_an_address_that_is_taken_is_a_clear_error() -> None:
    """One error that names the address, and what would do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            InvalidInput, match=f"127.0.0.1:{port} cannot be listened on.*allowed: a free port"
        ):
            listen("127.0.0.1", port, Settings())


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_cannot_be_is_a_clear_error(host: str, port: int) -> None:
    """A host that is none, a port that is none."""
    with pytest.raises(InvalidInput, match="cannot be listened on"):
        listen(host, port, Settings())


def test_the_url_is_one_that_a_browser_can_open() -> None:
    """Wildcards are no addresses to go to."""
    with listen("0.0.0.0", 0, Settings()) as every:
        assert f"http://127.0.0.1:{every.getsockname()[1]}" == url_of(every)
    if socket.has_dualstack_ipv6():
        with listen("::", 0, Settings()) as both:
            assert f"https://[::1]:{both.getsockname()[1]}" == url_of(both, secure=True)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux knows TCP_USER_TIMEOUT")
def test_accepted_connections_inherit_what_the_kernel_watches() -> None:
    """A client that vanished is found by the kernel, although its heartbeats fit the buffer."""
    with listen("127.0.0.1", 0, Settings(write_stall_seconds=7)) as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert 7_000 == accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert 131_072 == accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


def test_only_the_loopback_may_say_who_a_client_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """X-Forwarded-For from anywhere would let anybody be anybody."""
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    config = make_server(Application(), Settings()).config

    assert (True, "127.0.0.1,::1") == (config.proxy_headers, config.forwarded_allow_ips)


def test_nothing_says_what_the_server_is_made_of(serve: Serve) -> None:
    """No `Server` header, in answers and in refusals."""
    serving = serve()
    _, headers, _ = split(read_all(serving.ask("/plain", extra="Connection: close\r\n")))

    assert b"server" not in headers
    assert b"date" in headers


def test_an_application_without_a_drain_is_none() -> None:
    """Any ASGI application will do."""
    assert drain_of(object()) is None
    assert drain_of(Application()) is None
