"""What does one bar over many parts cost: events in the parent's stream, Redis' time for each word of a part, and what it is worth?

For 10, 100 and 1,000 parts that report for some seconds, each up to ten times a second: how many events a second the parent's
stream gets (goal: about ten, however many parts), and the CPU of Redis for each report of a part, beside the same report of a job
of its own (the yardstick of the same run). Then `personalize` of 50,000 rows by one and by two worker processes.

What would fool the reader: one Python process sends all reports, so that 1,000 parts report less than ten times a second each. The
parts' begins and ends are events of the parent too, one each: they are not among those that are counted here. Redis, both workers
and this program share two cores: a second worker process cannot halve the time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from progress_stream import jobs
from progress_stream.reporting.middleware import ProgressMiddleware
from progress_stream.settings import Settings, load
from progress_stream.store.files import Files
from progress_stream.store.spread_commands import AT_ONCE, Closing, Part
from progress_stream.store.sync import SyncStore
from tests.support.redis import RedisServer
from tests.support.server import Attempt, Site

SECONDS = 4.0
MOST_A_SECOND = 10
ROWS = 50_000
_MANY = 10_000_000


def cpu_of(client: redis.Redis) -> float:
    """Seconds of Redis' own CPU so far."""
    known = client.info("cpu")
    return float(known["used_cpu_user"]) + float(known["used_cpu_sys"])


def reporters(site: Site, count: int, parent: str | None) -> list[Attempt]:
    """So many running jobs, or parts of one."""
    made = []
    if parent is not None:
        whole = site.job(parent)
        whole.start()
        commands, now = site.store.commands.spreads, int(time.time() * 1000)
        headers = [
            jobs.Header(f"{parent}~{n}", "rows", owner="alice", created_at=now, parent=parent)
            for n in range(1, count + 1)
        ]
        for first in range(0, count, AT_ONCE):
            some = [Part(n + 1, headers[n], b"-", _MANY) for n in range(first, min(count, first + AT_ONCE))]
            site.store.send(commands.put_by(parent, whole.attempt, whole.nonce, 1, some))
        site.store.send(
            commands.close(parent, whole.attempt, whole.nonce, Closing(1, count, _MANY * count, count))
        )
    for n in range(1, count + 1):
        header = jobs.Header(
            f"{parent}~{n}" if parent else f"plain-{count}-{n}", "rows", owner="alice", parent=parent
        )
        attempt = Attempt(site, header)
        if parent is None:
            attempt.create()
        attempt.start()
        made.append(attempt)
    return made


def report(site: Site, count: int, parent: str | None) -> tuple[int, float, float]:
    """Reports made, microseconds of Redis for each, and seconds taken."""
    writers = reporters(site, count, parent)
    before, began, made, rounds = cpu_of(site.redis), time.monotonic(), 0, 0
    while time.monotonic() - began < SECONDS:
        rounds += 1
        for writer in writers:
            writer.append("progress", done=rounds, total=_MANY, unit="rows")
            made += 1
        time.sleep(max(0.0, began + rounds / MOST_A_SECOND - time.monotonic()))
    took = time.monotonic() - began
    return made, 1e6 * (cpu_of(site.redis) - before) / made, took


def bar(site: Site) -> None:
    print(
        f"{'parts':>6} {'reports/s':>10} {'parent events/s':>16} {'Redis us/report':>16} {'plain':>7} {'ratio':>6}"
    )
    for count in (10, 100, 1_000):
        _, plain, _ = report(site, count, None)
        parent = f"whole-{count}"
        first = site.redis.xlen(site.store.commands.keys.events(parent))
        made, cost, took = report(site, count, parent)
        entries = site.redis.xrange(site.store.commands.keys.events(parent))
        shown = sum(fields[b"t"] == b"progress" for _, fields in entries) - first
        rate = shown / took
        print(
            f"{count:>6} {made / took:>10.0f} {rate:>16.1f} {cost:>16.1f} {plain:>7.1f} {cost / plain:>6.2f}"
        )
        verdict = "met" if rate <= 1.1 * MOST_A_SECOND else "missed"
        print(f"figure parent_events_{count}_parts {rate:.1f} a_second goal {MOST_A_SECOND} {verdict}")
        print(
            f"figure part_report_{count}_parts {cost:.1f} us ratio {cost / plain:.2f} vs a plain job's report"
        )


def personalize(settings: Settings, processes: int) -> float:
    """Seconds from the message to the end."""
    lines = ["first_name,company", *(f"Ann {n},Firm {n}" for n in range(ROWS)), ""]
    ref = Files(settings.effective_files_url).save(
        "upload", "people.csv", "text/csv", ["\n".join(lines).encode()]
    )
    env = os.environ | {
        "PROGRESS_STREAM_REDIS_URL": str(settings.redis_url), "PROGRESS_STREAM_BROKER_URL": str(settings.broker_url),
        "PROGRESS_STREAM_NAMESPACE": settings.namespace, "PROGRESS_STREAM_DATA": str(settings.data),
    }  # fmt: skip
    command = [sys.executable, "-m", "dramatiq", "workers", "--processes", str(processes), "--threads", "1"]
    worker = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    broker = RedisBroker(url=str(settings.broker_url), namespace=settings.broker_namespace)
    broker.add_middleware(ProgressMiddleware(settings))
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        store = SyncStore(client, settings)
        try:
            while not store.send(store.commands.announced_names()):
                time.sleep(0.1)
            began = time.monotonic()
            message: dramatiq.Message[object] = dramatiq.Message(
                "default",
                "personalize",
                (dict(ref), "Hi {{first_name}} of {{company}}"),
                {},
                {"progress": True},
            )
            job = broker.enqueue(message).message_id
            while (record := store.send(store.commands.look(job)).record) is None or not record.terminal:
                time.sleep(0.02)
            assert "succeeded" == record.control.status, jobs.view(record)["error"]
            return time.monotonic() - began
        finally:
            os.killpg(worker.pid, signal.SIGTERM)
            worker.wait(30)
            broker.close()


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder) / "redis") as server,
        server.client(0) as client,
    ):
        settings = load(
            redis_url=server.url(0), broker_url=server.url(1), data=Path(folder), namespace="bench"
        )
        bar(Site("", settings, client))
        took = {}
        for processes in (1, 2):
            own = settings.model_copy(update={"namespace": f"bench{processes}"})
            took[processes] = personalize(own, processes)
            print(f"personalize {ROWS:,} rows, {processes} worker processes: {took[processes]:.2f} s")
        print(f"figure personalize_speed_up {took[1] / took[2]:.2f} ratio vs one worker process")


if __name__ == "__main__":
    main()
