"""The embedded Redis, as a process: it keeps what it was told, it is private, and it never outlives its parent."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from progress_stream.errors import InvalidSetting, StoreUnavailable
from progress_stream.store import embedded
from progress_stream.store.connect import sync_client
from progress_stream.store.embedded import EmbeddedRedis


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that has ended but was not yet collected by its parent is as good as gone.
    return not Path(f"/proc/{pid}/stat").exists() or ") Z " not in Path(f"/proc/{pid}/stat").read_text()


def comes_true(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def started_elsewhere(data: Path, program: str) -> tuple[subprocess.Popen[str], int]:
    """A process that starts a server in `data` and then runs `program`, and the server's pid."""
    text = textwrap.dedent(
        f"""
        import os, sys, threading, time
        from pathlib import Path
        from progress_stream.store.embedded import EmbeddedRedis
        {textwrap.indent(textwrap.dedent(program), " " * 8).strip()}
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", text, str(data)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


SERVE = "server = EmbeddedRedis.start(Path(sys.argv[1])); print(server.pid, flush=True); time.sleep(60)"


def test_what_it_was_told_is_there_at_the_next_start(tmp_path: Path) -> None:
    """The append-only file in the data folder is the whole memory."""
    with EmbeddedRedis.start(tmp_path) as server, sync_client(server.url()) as client:
        client.set("a", "1")

    with EmbeddedRedis.start(tmp_path) as server, sync_client(server.url()) as client:
        assert b"1" == client.get("a")


def test_it_keeps_what_it_acknowledged_and_evicts_nothing(tmp_path: Path) -> None:
    """A full memory is an error, never a job that vanishes; a second database is there for the broker."""
    with EmbeddedRedis.start(tmp_path) as server, sync_client(server.url(1)) as client:
        asked = ("appendonly", "appendfsync", "maxmemory-policy")

        assert ["yes", "everysec", "noeviction"] == [client.config_get(name)[name] for name in asked]
        assert client.ping()


def test_nobody_else_can_reach_it(tmp_path: Path) -> None:
    """No port at all, and a socket in a folder that only this user can enter."""
    with EmbeddedRedis.start(tmp_path) as server, sync_client(server.url()) as client:
        assert "0" == client.config_get("port")["port"]
        assert 0o700 == (tmp_path / "redis").stat().st_mode & 0o777
        assert server.pid == client.info("server")["process_id"]


def test_a_deep_data_folder_is_no_obstacle(tmp_path: Path) -> None:
    """A socket's path has 108 bytes at most; a longer one moves to a short private folder, the data does not."""
    deep = tmp_path / ("long " * 20) / ("ü?#" * 20)

    with EmbeddedRedis.start(deep) as server, sync_client(server.url(1)) as client:
        client.set("a", "1")

    with EmbeddedRedis.start(deep) as server, sync_client(server.url(1)) as client:
        assert b"1" == client.get("a")
    assert (deep / "redis" / "appendonlydir").is_dir()


def test_it_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """A parent killed with -9 cannot stop it; it ends all the same, and the folder is free again."""
    parent, server = started_elsewhere(tmp_path, SERVE)

    parent.kill()
    parent.wait()

    assert comes_true(lambda: not alive(server))
    EmbeddedRedis.start(tmp_path).stop()


def test_it_ends_with_a_killed_parent_that_had_forked(tmp_path: Path) -> None:
    """A forked child inherits the pipe that says whether the parent lives; the guard does not rely on it alone."""
    parent, server = started_elsewhere(
        tmp_path,
        """
        server = EmbeddedRedis.start(Path(sys.argv[1]))
        child = os.fork()
        if child:
            print(server.pid, child, sep="\\n", flush=True)
        time.sleep(60)
        """,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())

    try:
        parent.kill()
        parent.wait()

        assert comes_true(lambda: not alive(server))
    finally:
        os.kill(child, signal.SIGKILL)


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """Linux ties its signal at a parent's death to the parent's thread; that must not end a server too early."""
    parent, server = started_elsewhere(
        tmp_path,
        """
        servers = []
        thread = threading.Thread(target=lambda: servers.append(EmbeddedRedis.start(Path(sys.argv[1]))))
        thread.start()
        thread.join()
        print(servers[0].pid, flush=True)
        time.sleep(60)
        """,
    )

    try:
        time.sleep(1.5)

        assert alive(server)
    finally:
        parent.kill()
        parent.wait()
    assert comes_true(lambda: not alive(server))


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death"
)
def test_it_ends_with_a_guard_that_was_killed(tmp_path: Path) -> None:
    """The process between is no weaker link than the parent is."""
    with EmbeddedRedis.start(tmp_path) as server:
        guard = int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1])

        os.kill(guard, signal.SIGKILL)

        assert comes_true(lambda: not alive(server.pid))


def test_ctrl_c_leaves_it_to_the_parent(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole foreground group at once; the server stays for the workers' last words."""
    with EmbeddedRedis.start(tmp_path) as server:
        assert os.getpgid(server.pid) != os.getpgid(0)


def test_a_stopped_server_is_ended_too(tmp_path: Path) -> None:
    """One that was paused (SIGSTOP) cannot hear the signal to end; it is woken for it."""
    server = EmbeddedRedis.start(tmp_path)
    os.kill(server.pid, signal.SIGSTOP)

    server.stop()

    assert not alive(server.pid)


def test_a_second_one_on_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers on one append-only file would destroy it. The first one goes on undisturbed."""
    monkeypatch.setattr(embedded, "HANDOVER_SECONDS", 0.2)
    with EmbeddedRedis.start(tmp_path) as first:
        with pytest.raises(
            InvalidSetting, match=rf"in use by another progress-stream \(process {os.getpid()}\)"
        ):
            EmbeddedRedis.start(tmp_path)

        with sync_client(first.url()) as client:
            assert client.ping()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The error names the setting and the fault."""
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidSetting, match=r"DATA: .*Not a directory"):
        EmbeddedRedis.start(tmp_path / "file" / "data")


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """Its own last words are in the error, and nothing of it is left."""
    EmbeddedRedis.start(tmp_path).stop()
    (tmp_path / "redis" / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(b"no command\n" * 9)

    with pytest.raises(StoreUnavailable, match=r"did not start: .*[Bb]ad file format"):
        EmbeddedRedis.start(tmp_path)


def test_without_any_server_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on the PATH nor in a wheel: both ways to get one are named."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)

    with pytest.raises(
        InvalidSetting, match=r"REDIS_URL: not set.*progress-stream\[dev\].*apt-get install redis-server"
    ):
        embedded.find_server()


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis 6 lacks what the scripts use; the wheel's server is taken in its place."""
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    assert old != embedded.find_server()


def test_the_wheels_server_reads_what_the_systems_wrote_and_back(tmp_path: Path) -> None:
    """A redis-server that is installed later takes the same data folder over."""
    for number, program in enumerate([*embedded._candidates(), embedded.find_server()]):
        with EmbeddedRedis.start(tmp_path, server=program) as server, sync_client(server.url()) as client:
            assert [b"%d-1" % n for n in range(1, number + 1)] == [key for key, _ in client.xrange("s")]
            client.xadd("s", {"n": number}, id=f"{number + 1}-1")
            client.bgrewriteaof()
