"""`progress-stream` as real processes: started, read line by line, signalled, and looked for after their end."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.support.tied import tied

T = TypeVar("T")

COMMAND = [sys.executable, "-m", "progress_stream.cli.main"]
#: Seconds for anything that takes two on an idle machine.
PATIENCE_SECONDS = 30.0

ACTORS = '''"""Actors for the tests of the command line, on a broker of their own."""

import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import SkipMessage

from progress_stream import ProgressMiddleware, Upload, current_job, load, track

settings = load()
broker = RedisBroker(
    client=redis.Redis.from_url(settings.effective_broker_url),
    namespace=settings.broker_namespace,
    heartbeat_timeout=2_000,
    maintenance_chance=1_000_000,
)
broker.add_middleware(ProgressMiddleware(settings))
dramatiq.set_broker(broker)


@dramatiq.actor(progress=True, submit=True, max_retries=0)
def count(seconds: float, ticks: int = 10) -> int:
    for _ in track(range(ticks), unit="ticks"):
        time.sleep(seconds / ticks)
    return ticks


@dramatiq.actor(progress=True, submit=True, max_retries=0)
def shout(text: str) -> str:
    with current_job().step("shout"):
        current_job().log(text)
    return text


@dramatiq.actor(progress=True, submit=True, max_retries=0)
def fail(reason: str) -> None:
    raise RuntimeError(reason)


@dramatiq.actor(progress=True, submit=True, max_retries=0)
def skip() -> None:
    raise SkipMessage("not today")


@dramatiq.actor(progress=True, submit=True, max_retries=0)
def measure(file: Upload, times: int) -> int:
    return len(file.bytes()) * times
'''


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings, plus these."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("PROGRESS_STREAM_")
    } | extra


def run(
    *arguments: str, timeout: float = PATIENCE_SECONDS, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Running:
    """A command that runs. A context manager: at its end it is gone, and so is all that it started."""

    def __init__(self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        cwd.mkdir(parents=True, exist_ok=True)
        self.out = cwd / f"out-{time.monotonic_ns()}"
        self.err = self.out.with_name(self.out.name.replace("out", "err"))
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*tied(), *COMMAND, *arguments],
                cwd=cwd,
                env=environment(**(env or {})),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.pid = self.process.pid
        self._seen: set[int] = set()

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def errors(self) -> str:
        return self.err.read_text()

    def line(self, start: str) -> str:
        """The rest of the line that starts so, as soon as it is complete."""

        def found() -> str | None:
            text = self.out.read_text()
            whole = text[: text.rfind("\n") + 1].splitlines()
            return next((line.removeprefix(start) for line in whole if line.startswith(start)), None)

        until(lambda: found() or self.process.poll() is not None, what=self.errors)
        line = found()
        assert line is not None, self.errors()
        return line

    def signal(self, name: signal.Signals) -> None:
        self.process.send_signal(name)

    def ends(self, seconds: float = PATIENCE_SECONDS) -> int:
        return self.process.wait(seconds)

    def family(self) -> dict[int, str]:
        """Every process below this one now, with its command line."""
        found = dict(descendants(self.pid))
        self._seen |= set(found)
        return found

    def child(self, what: str, *, beside: tuple[int, ...] = ()) -> int:
        """The pid of the process below this one whose command line holds `what`, as soon as there is one."""
        return until(
            lambda: next(
                (
                    pid
                    for pid, line in self.family().items()
                    if what in line and "guard.py" not in line and pid not in beside
                ),
                None,
            ),
            what=self.errors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self.family()
        # Twice: a test that wants to see an orderly end has waited for it.
        for _ in range(2):
            if self.process.poll() is None:
                self.signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.2)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        for pid in left:
            until(lambda pid=pid: not alive(pid))  # type: ignore[misc]


class Dev(Running):
    """`progress-stream dev` in a folder, with the actors above."""

    def __init__(self, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "actors.py").write_text(ACTORS)
        self.data = folder / "data"
        super().__init__("dev", "--port", "0", "--worker", "actors", *options, cwd=folder, env=env)

    @property
    def url(self) -> str:
        return self.line("link: ").partition("/?token=")[0]

    @property
    def token(self) -> str:
        return self.line("token: ")

    @property
    def client(self) -> dict[str, str]:
        """What a client command needs in its environment."""
        return {"PROGRESS_STREAM_URL": self.url, "PROGRESS_STREAM_TOKEN": self.token}

    def ready(self) -> Self:
        """Returns once the worker has announced its actors."""
        until(lambda: "422" not in run("submit", "skip", env=self.client).stderr, what=self.errors)
        return self

    def submit(self, *arguments: str) -> str:
        done = run("submit", *arguments, env=self.client)
        assert 0 == done.returncode, done.stderr
        return done.stdout.strip()

    def watch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run("watch", *arguments, env=self.client)


@contextmanager
def dev_in(folder: Path, *options: str) -> Iterator[Dev]:
    with Dev(folder, *options) as dev:
        yield dev.ready()


def until(
    look: Callable[[], T | None], *, seconds: float = PATIENCE_SECONDS, what: Callable[[], str] = str
) -> T:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise TimeoutError(f"did not come within {seconds} s: {what()[-3000:]}")


def alive(pid: int) -> bool:
    """It runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(root: int) -> Iterator[tuple[int, str]]:
    """Every process whose chain of parents leads to `root`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    below = {root}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    for pid in below - {root}:
        with suppress(OSError):
            yield pid, Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def in_a_terminal(*arguments: str, env: Mapping[str, str], columns: int = 100) -> tuple[int, str]:
    """One command with a terminal as its output, to its end: its exit status, and what it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*tied(), *COMMAND, *arguments],
        env=environment(**env, TERM="xterm", COLUMNS=str(columns)),
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65_536):
            shown += chunk
    except OSError:  # Linux' way to say that the other end is closed
        pass
    finally:
        os.close(ours)
    return process.wait(30), shown.decode(errors="replace")
