"""The parts of one round, and where they are joined: Redis and its replica, the lines to them, a web process, workers, the jobs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from pydantic import SecretStr

from progress_stream import ProgressMiddleware
from progress_stream.auth.verify import sign
from progress_stream.settings import Settings, load
from tests.chaos.appender import Appender
from tests.chaos.faults import WebProcess
from tests.chaos.traffic import OWN_TYPE, Program
from tests.support.redis import RedisServer
from tests.support.server import SECRET
from tests.support.shims import build
from tests.support.switch import Switch
from tests.support.workers import Workers

#: Threads of a worker process: so many jobs run at once in each.
THREADS = 8


@dataclass(slots=True)
class Worked:
    """A job that workers run, each attempt from the beginning."""

    job: str


@dataclass(slots=True)
class Stage:
    """What a fault may break. `server` is the Redis that is asked now: another one after a failover."""

    random: Random
    folder: Path
    server: RedisServer
    broker: RedisServer
    web: WebProcess
    workers: Workers
    #: As the test itself reaches Redis.
    settings: Settings
    #: The line of those who report, and that of the web process.
    reporting: Switch
    serving: Switch
    clock_shim: Path | None
    programs: list[Program] = field(default_factory=list)
    appenders: list[Appender] = field(default_factory=list)
    worked: list[Worked] = field(default_factory=list)
    idle: list[socket.socket] = field(default_factory=list)
    others: list[RedisServer] = field(default_factory=list)

    def client(self) -> redis.Redis:
        return self.server.client(0)

    @property
    def jobs(self) -> list[str]:
        return [one.job for one in (*self.programs, *self.appenders, *self.worked)]

    @property
    def disk_full(self) -> Path:
        """While this file is there, Redis' disk is full."""
        return self.folder / "disk-is-full"

    def token(self) -> str:
        return sign(SECRET, "alice", "jobs:read", 3_600)

    def lead_to(self, server: RedisServer) -> None:
        """All who ask Redis ask this one from now on."""
        self.server = server
        for line in (self.reporting, self.serving):
            line.point(server.port)

    def send_work(self, jobs: int, events: int, seconds: float) -> None:
        broker = RedisBroker(url=self.broker.url(1))
        broker.add_middleware(
            ProgressMiddleware(self.settings.model_copy(update={"redis_url": self.reporting.url(0)}))
        )
        for _ in range(jobs):
            options = {"progress": True, "owner": "alice"}
            message = Message("default", "lines", (events, seconds), {}, options)
            self.worked.append(Worked(broker.enqueue(message).message_id))
        broker.close()

    def start_programs(self, programs: int, appenders: int, events: int, seconds: float) -> None:
        reported = self.settings.model_copy(update={"redis_url": self.reporting.url(0)})
        self.programs += [Program(reported, events, seconds) for _ in range(programs)]
        for seed in range(appenders):
            self.appenders.append(Appender(reported, OWN_TYPE, events, seconds, seed))
        for one in (*self.programs, *self.appenders):
            one.start()


@contextlib.contextmanager
def stage(seed: int, folder: Path, *, workers: int) -> Iterator[Stage]:
    """Everything runs; no job yet."""
    disk, clock = build("disk", folder), build("clock", folder)
    lies = {} if disk is None else {"LD_PRELOAD": str(disk), "DISK_FULL_FLAG": str(folder / "disk-is-full")}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            RedisServer(folder / "redis", options={"appendfsync": "everysec"}, env=lies)
        )
        broker = stack.enter_context(RedisServer(folder / "broker", persistent=False))
        reporting, serving = (stack.enter_context(Switch(server.port)) for _ in range(2))
        settings = load(
            redis_url=server.url(0), broker_url=broker.url(1), namespace=f"round{seed}", data=folder,
            jwt_secret=SecretStr(SECRET), ready_seconds=0, drain_seconds=0,
        )  # fmt: skip
        web = WebProcess(settings.model_copy(update={"redis_url": serving.url(0)}), SECRET, folder / "web")
        stack.enter_context(web)
        crew = Workers(settings.model_copy(update={"redis_url": reporting.url(0)}), folder)
        stack.callback(crew.end)
        for _ in range(workers):
            crew.start(threads=THREADS)
        made = Stage(Random(seed), folder, server, broker, web, crew, settings, reporting, serving, clock)
        stack.callback(_close, made)
        yield made


def _close(made: Stage) -> None:
    for one in made.idle:
        one.close()
    for server in made.others:
        server.stop()
