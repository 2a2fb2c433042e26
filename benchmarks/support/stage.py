"""One way of serving on its core, a real Redis, the reporter and the watchers on the other."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from progress_stream import events, report
from progress_stream.auth.verify import sign
from progress_stream.reporting.job import Job
from progress_stream.settings import Settings, load
from progress_stream.store.embedded import EmbeddedRedis

from . import machine, nchan
from .crowd import Crowd
from .load import DATA, OWNER, SECRET, TYPE

Way = Literal["hand-over", "send", "tutorial", "bare", "nchan", "hello"]
WAYS: tuple[Way, ...] = get_args(Way)
#: What nchan is given: an event as our own frames carry it.
MESSAGE = events.encode(events.make("0" * 36, TYPE, at=events.now_text(), data=DATA, attempt=1))
#: Seconds between two handfuls of events: about as often as the reporter's own thread sends.
_STEP_SECONDS = 0.005


class Stage:
    """A server of one way, and what it serves."""

    def __init__(self, way: Way, url: str, pid: int, settings: Settings) -> None:
        self.way = way
        self.url = url
        self.pid = pid
        self.settings = settings
        self._publisher: nchan.Publisher | None = None

    def crowd(self) -> Crowd:
        return Crowd(self.url, sign(SECRET, OWNER, "jobs:read", 3_600))

    @property
    def ids_at_start(self) -> int:
        """`id:` lines that a watcher gets of a job that was only begun: its position, `queued`, `started`."""
        return {"hand-over": 3, "send": 3, "tutorial": 2, "bare": 1, "nchan": 1, "hello": 0}[self.way]

    @contextmanager
    def job(self) -> Iterator[Job]:
        with report("bench", owner=OWNER, settings=self.settings) as job:
            if self.way == "nchan":
                self.publish([(job.id, MESSAGE)])
            yield job

    def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """To nchan, which has a way in of its own."""
        if self._publisher is None:
            self._publisher = nchan.Publisher(self.url)
        self._publisher.publish(messages)

    def flood(self, job: Job, count: int, rate: int) -> None:
        """So many events at that rate, a handful at a time."""
        if self.way == "bare":
            with urllib.request.urlopen(f"{self.url}/flood/{count}/{rate}") as response:
                response.read()
            return
        began, sent = time.monotonic(), 0
        while sent < count:
            due = min(count, int((time.monotonic() - began) * rate) + 1)
            if self.way == "nchan":
                self.publish([(job.id, MESSAGE)] * (due - sent))
            else:
                for _ in range(sent, due):
                    job.event(TYPE, DATA)
            sent = due
            time.sleep(_STEP_SECONDS)

    def cpu_seconds(self) -> float:
        return machine.cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        return machine.resident_bytes(self.pid)


@contextmanager
def private_redis() -> Iterator[str]:
    """The URL of a Redis of our own."""
    with private_server() as server:
        yield server.url()


@contextmanager
def private_server() -> Iterator[EmbeddedRedis]:
    """A Redis of our own, on the other core like all that is not measured."""
    machine.pin(machine.OTHER_CORE)
    with (
        tempfile.TemporaryDirectory(prefix="progress-stream-") as folder,
        EmbeddedRedis.start(Path(folder)) as server,
    ):
        yield server


@contextmanager
def stage(way: Way, redis_url: str) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="progress-stream-") as folder:
        if way == "nchan":
            with nchan.served(Path(folder)) as (url, pid):
                yield Stage(way, url, pid, load(redis_url=redis_url, data=Path(folder)))
            return
        words = [sys.executable, "-m", "benchmarks.support.served", way, redis_url, folder]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().strip()
                if not url:
                    raise RuntimeError(f"the server of the way {way} did not begin")
                yield Stage(way, url, process.pid, load(redis_url=redis_url, data=Path(folder)))
            finally:
                process.kill()
