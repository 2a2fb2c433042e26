"""Does anything grow that should not? `python -m tests.chaos.soak --seconds 1800` (`make soak FOR=1800`).

A real web process, real workers and a real Redis of its own; jobs that begin and end, and watchers who come and go. Every few
seconds memory, threads and open files (without watchers' connections) of each are sampled, and Redis' keys; the last line says what
each gains in an hour. Exits with 3 where one of them grows. Jobs live seconds here and not a day, so that all that is to go
has gone many times over.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from pydantic import SecretStr

from progress_stream import ProgressMiddleware
from progress_stream.auth.verify import sign
from progress_stream.settings import Settings, load
from progress_stream.store.embedded import Guarded
from tests.chaos.check import FOUND
from tests.chaos.faults import WebProcess
from tests.chaos.trend import Trend, trend
from tests.support.redis import RedisServer
from tests.support.server import SECRET
from tests.support.streams import EVENT_STREAM, Response, request

WORKERS: Final = 2
THREADS: Final = 4
#: Between two jobs; each takes some seconds, so that about as many run as there are threads.
BETWEEN_JOBS_SECONDS: Final = 0.5
JOB_SECONDS: Final = (1.0, 6.0)
#: How long a watcher stays at most: most leave before the end, some stay for it.
STAY_SECONDS: Final = (0.5, 20.0)
#: What an ended job has left: short, so that what is to expire does so all the time.
REPLAY_SECONDS: Final = 5
STATE_SECONDS: Final = 10
#: What may be gained in an hour. A leak of 1 KiB at each of 50 watchers a second would be 170 MiB.
BOUNDS: Final = {"MiB": 12.0, "files": 20.0, "threads": 4.0, "keys": 150.0}
#: How `/proc/net/tcp` writes it.
ESTABLISHED: Final = "01"
#: In a minute nothing has found its level: only what grows at once is found.
COARSE: Final = 60


@dataclass(slots=True)
class Samples:
    """Of one process or all of a worker's, one list for each figure."""

    seconds: list[float] = field(default_factory=list)
    figures: defaultdict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def note(self, at: float, found: dict[tuple[str, str], float]) -> None:
        self.seconds.append(at)
        for name, value in found.items():
            self.figures[name].append(value)

    def trends(self) -> dict[tuple[str, str], Trend]:
        return {name: trend(self.seconds, values) for name, values in self.figures.items()}


def tree(pid: int) -> list[int]:
    """A process and all below it, as far as they live."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{one}/task").glob("*/children"):
                found += map(int, file.read_text().split())
    return found


def watched(port: int) -> set[str]:
    """The files of the web process' open connections, whose number is the watchers' affair: it goes up and down by hundreds.

    One whose peer has left is not among them (its state is CLOSE_WAIT), so that what is not closed counts.
    """
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == ESTABLISHED and local.endswith(f":{port:04X}"):
            found.add(f"socket:[{inode}]")
    return found


def open_files(pid: int, but: Set[str]) -> int:
    """So many besides these."""
    count = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(file) not in but
    return count


def resources(pid: int, but: Set[str]) -> dict[str, float]:
    """Of all of a tree: memory that is nobody else's and no file's, open files besides these, threads.

    What has just gone counts nothing.
    """
    total = Counter[str]()
    for one in tree(pid):
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            total["KiB"] += next(
                int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:")
            )
            total["files"] += open_files(one, but)
            total["threads"] += len(os.listdir(f"/proc/{one}/task"))
    return {"MiB": total["KiB"] / 1024, "files": total["files"], "threads": total["threads"]}


class Watchers:
    """So many at a time, each with one job after the other; nothing is parsed but the answer's frame, for they are many."""

    def __init__(self, url: str, count: int, jobs: deque[str], random: Random) -> None:
        where = urlsplit(url)
        self._host, self._port = where.hostname or "", where.port or 0
        self._headers = {
            "Authorization": f"Bearer {sign(SECRET, 'alice', 'jobs:read', 7 * 86_400)}", "Accept": EVENT_STREAM,
        }  # fmt: skip
        self._count = count
        self._jobs = jobs
        self._random = random
        self.came = 0
        self.bytes = 0
        self.statuses: Counter[int] = Counter()

    async def watch(self) -> None:
        await asyncio.gather(*(self._one_after_the_other() for _ in range(self._count)))

    async def _one_after_the_other(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0, 1))
            if self._jobs:
                with contextlib.suppress(OSError):
                    await self._stay(self._random.choice(self._jobs))

    async def _stay(self, job: str) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        self.came += 1
        response = Response()
        try:
            writer.write(request(f"/jobs/{job}/events", f"{self._host}:{self._port}", self._headers))
            async with asyncio.timeout(self._random.uniform(*STAY_SECONDS)):
                while not response.complete and (data := await reader.read(65_536)):
                    self.bytes += len(data)
                    if not response.status:
                        response.feed(data)
                    elif data.endswith(b"0\r\n\r\n"):
                        break
        except TimeoutError:
            pass
        finally:
            self.statuses[response.status] += 1
            if self._random.random() < 0.5:
                writer.transport.abort()
            writer.close()


class Jobs:
    """Sends one after the other to the workers, and remembers the last ones."""

    def __init__(self, settings: Settings, random: Random) -> None:
        self._broker = RedisBroker(url=settings.effective_broker_url)
        self._broker.add_middleware(ProgressMiddleware(settings))
        self._actor = dramatiq.actor(
            lambda seconds: None, actor_name="count", broker=self._broker, progress=True, max_retries=0
        )
        self._random = random
        self.recent: deque[str] = deque(maxlen=2 * WORKERS * THREADS)
        self.sent = 0

    async def send(self) -> None:
        while True:
            message = await asyncio.to_thread(
                self._actor.send_with_options, args=(self._random.uniform(*JOB_SECONDS),), owner="alice"
            )
            self.recent.append(message.message_id)
            self.sent += 1
            await asyncio.sleep(BETWEEN_JOBS_SECONDS)

    def close(self) -> None:
        self._broker.close()


@contextmanager
def workers(settings: Settings, folder: Path, env: dict[str, str]) -> Iterator[Guarded]:
    """`dramatiq`'s own processes, which cannot outlive this one."""
    folder.mkdir()
    root = Path(__file__).parents[2]
    command = [
        sys.executable, "-m", "dramatiq", "tests.worker.actors", "--processes", str(WORKERS), "--threads", str(THREADS),
        "--path", str(root),
    ]  # fmt: skip
    known = {
        "PROGRESS_STREAM_REDIS_URL": str(settings.redis_url), "PROGRESS_STREAM_BROKER_URL": str(settings.effective_broker_url),
        "PROGRESS_STREAM_NAMESPACE": settings.namespace, "PROGRESS_STREAM_DATA": str(folder),
    }  # fmt: skip
    running = Guarded(command, folder=root, log=folder / "workers.log", env=os.environ | known | env)
    try:
        yield running
    finally:
        running.stop()


async def run(folder: Path, *, seconds: float, watchers: int, every: float, seed: int) -> Samples:
    """The whole of it, and what was sampled."""
    env = {
        "PROGRESS_STREAM_REPLAY_SECONDS": str(REPLAY_SECONDS), "PROGRESS_STREAM_STATE_SECONDS": str(STATE_SECONDS),
        "PROGRESS_STREAM_MAX_STREAMS_PER_OWNER": str(4 * watchers),
    }  # fmt: skip
    random = Random(seed)
    with RedisServer(folder / "redis", persistent=False) as server, server.client() as client:
        settings = load(
            redis_url=server.url(0), broker_url=server.url(1), namespace="soak", data=folder, jwt_secret=SecretStr(SECRET),
            replay_seconds=REPLAY_SECONDS, state_seconds=STATE_SECONDS,
        )  # fmt: skip
        with (
            WebProcess(settings, SECRET, folder / "web", env=env) as web,
            workers(settings, folder / "workers", env) as working,
            contextlib.closing(Jobs(settings, random)) as jobs,
        ):
            crowd = Watchers(web.url, watchers, jobs.recent, random)
            going = [asyncio.create_task(jobs.send()), asyncio.create_task(crowd.watch())]
            try:
                samples = await sample(
                    {"web": web.pid, "worker": working.pid, "redis": server.pid},
                    urlsplit(web.url).port or 0,
                    client,
                    seconds,
                    every,
                    going,
                )
            finally:
                for task in going:
                    task.cancel()
                await asyncio.gather(*going, return_exceptions=True)
    print(
        f"{seconds:.0f} s, {jobs.sent} jobs, {crowd.came} watchers came ({watchers} at a time), "
        f"{crowd.bytes / 2**20:.0f} MiB to them, answers {dict(crowd.statuses)}"
    )
    if bad := {status: many for status, many in crowd.statuses.items() if status not in {0, 200, 204, 404}}:
        raise AssertionError(f"watchers were refused: {bad}")
    if not crowd.statuses[200]:
        raise AssertionError("nobody has watched anything")
    return samples


async def sample(
    pids: dict[str, int],
    port: int,
    client: redis.Redis,
    seconds: float,
    every: float,
    going: list[asyncio.Task[None]],
) -> Samples:
    """For so long. Raises what jobs or watchers raised."""
    samples, began = Samples(), time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        await asyncio.wait(going, timeout=every, return_when=asyncio.FIRST_COMPLETED)
        for task in going:
            if task.done():
                task.result()
        but = watched(port)
        found = {
            (name, kind): value for name, pid in pids.items() for kind, value in resources(pid, but).items()
        }
        samples.note(at, found | {("redis", "keys"): float(int(client.dbsize()))})
    return samples


def verdict(samples: Samples, slack: float) -> tuple[bool, str]:
    """Whether all is flat, and the last line. `slack`: so many times as much may be gained."""
    trends = samples.trends()
    grows = {name: one for name, one in trends.items() if not one.is_flat(BOUNDS[name[1]] * slack)}
    words = [f"{name} {one.slope:+.1f} {kind}/h" for (name, kind), one in trends.items()]
    last = "flat" if not grows else "GROWS: " + ", ".join(f"{name} {kind}" for name, kind in grows)
    return not grows, f"slope {', '.join(words)}: {last}"


def levels(samples: Samples) -> str:
    """What each figure was after a third of the run, and at its end."""
    third = len(samples.seconds) // 3
    return ", ".join(
        f"{name} {values[third]:.0f} → {values[-1]:.0f} {kind}"
        for (name, kind), values in samples.figures.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1_800)
    parser.add_argument("--watchers", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coarse", action="store_true", help="for a minute: only what grows at once")
    chosen = parser.parse_args()
    every = min(max(chosen.seconds / 200, 1.0), 10.0)
    with tempfile.TemporaryDirectory() as folder:
        samples = asyncio.run(
            run(Path(folder), seconds=chosen.seconds, watchers=chosen.watchers, every=every, seed=chosen.seed)
        )
    flat, line = verdict(samples, COARSE if chosen.coarse else 1)
    print(levels(samples))
    print(line)
    sys.exit(0 if flat else FOUND)


if __name__ == "__main__":
    main()
