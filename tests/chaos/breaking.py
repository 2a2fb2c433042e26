"""Every way to break a stage. Those of LOSSLESS leave Redis what it acknowledged; each of LOSSY takes some of it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from progress_stream import jobs
from progress_stream.errors import ProgressStreamError
from progress_stream.store.connect import sync_client
from progress_stream.store.keys import Keys
from progress_stream.store.sync import SyncStore
from tests.chaos.faults import kill_subscriptions
from tests.chaos.stage import THREADS, Stage
from tests.chaos.traffic import OWN_TYPE
from tests.support.redis import RedisServer
from tests.support.streams import EVENT_STREAM, request
from tests.support.switch import Switch
from tests.support.waiting import until

Fault = Callable[[Stage], None]

#: Until the broker gives a silent worker's messages to another one: its heartbeat is 1.5 s (`tests.worker.actors`).
REDELIVERED_SECONDS = 4.0
#: Until Redis, which tries once a second, has written what it could not.
WRITES_SECONDS = 20.0
#: Those who connect and never read.
NEVER_READING = 50


# -- processes


def web_killed(stage: Stage) -> None:
    stage.web.kill9()
    stage.web.start()


def worker_killed(stage: Stage) -> None:
    """Its jobs begin again, elsewhere, as their next attempts."""
    if stage.workers.started:
        process = stage.random.choice(stage.workers.started)
        stage.workers.signal(process, signal.SIGKILL)
        stage.workers.start(threads=THREADS)


def worker_stopped(stage: Stage) -> None:
    """It sleeps past the redelivery of its messages and wakes up as a zombie."""
    if stage.workers.started:
        process = stage.random.choice(stage.workers.started)
        stage.workers.signal(process, signal.SIGSTOP)
        time.sleep(REDELIVERED_SECONDS)
        stage.workers.signal(process, signal.SIGCONT)


def zombie(stage: Stage) -> None:
    """Somebody who once held a job goes on reporting it."""
    job = stage.random.choice(stage.jobs)
    client = sync_client(stage.server.url(0), connections=1)
    store = SyncStore(client, stage.settings)
    line = (OWN_TYPE, b'{"data":987654321}')
    with contextlib.suppress(ProgressStreamError):
        record = store.send(store.commands.look(job)).record
        sequence = 1 if record is None else record.control.sequence + 1
        state = jobs.new(jobs.Header(job, "chaos", owner="alice"))
        store.send(store.commands.append(job, 1, "a zombie's", sequence, [line], state))
    client.close()


def descriptors_used_up(stage: Stage) -> None:
    """The web process may open no file more, for a moment."""
    pid = stage.web.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 2, hard))
    time.sleep(stage.random.uniform(0.5, 1.5))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def never_reading(stage: Stage) -> None:
    """Watchers that take nothing, until the round is over."""
    where = urlsplit(stage.web.url)
    for _ in range(NEVER_READING):
        one = socket.create_connection((where.hostname, where.port), timeout=5)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        headers = {"Authorization": f"Bearer {stage.token()}", "Accept": EVENT_STREAM}
        one.sendall(request(f"/jobs/{stage.random.choice(stage.jobs)}/events", where.netloc, headers))
        stage.idle.append(one)


# -- the network


def network_cut(stage: Stage) -> None:
    _line(stage).cut()


def network_slow(stage: Stage) -> None:
    line = _line(stage)
    line.delay = stage.random.uniform(0.05, 0.3)
    time.sleep(stage.random.uniform(0.5, 2))
    line.delay = 0


def network_half_open(stage: Stage) -> None:
    """Nothing comes through, and nobody is told; then the old connections turn out to be gone."""
    line = _line(stage)
    line.dead = True
    time.sleep(stage.random.uniform(0.5, 4))
    line.cut()
    line.dead = False


def answer_lost(stage: Stage) -> None:
    """What was written is not known to have been: its answer ends at any byte."""
    stage.reporting.swallow_next_answer(stage.server.port, let_through=stage.random.randint(0, 120))


def _line(stage: Stage) -> Switch:
    return stage.random.choice((stage.reporting, stage.serving))


# -- Redis, with all that it acknowledged


def subscriptions_killed(stage: Stage) -> None:
    with stage.client() as client:
        kill_subscriptions(client)


def connections_killed(stage: Stage) -> None:
    with stage.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def redis_stopped(stage: Stage) -> None:
    stage.server.sigstop()
    time.sleep(stage.random.uniform(0.2, 1.5))
    stage.server.sigcont()


def redis_killed(stage: Stage) -> None:
    """The machine lives: what was acknowledged is in the kernel's hands. It comes back with either way to write its file."""
    stage.server.set_option("appendfsync", stage.random.choice(("everysec", "always")))
    stage.server.kill9()
    time.sleep(stage.random.uniform(0, 0.5))
    stage.server.start()


def redis_full(stage: Stage) -> None:
    """It refuses what would grow."""
    with stage.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        time.sleep(stage.random.uniform(0.1, 1))
        client.config_set("maxmemory", 0)


def redis_paused(stage: Stage) -> None:
    with stage.client() as client:
        client.execute_command("CLIENT", "PAUSE", stage.random.randint(100, 800), "WRITE")


def redis_demoted(stage: Stage) -> None:
    """A primary that is made a replica by mistake, and back: READONLY meanwhile, another server afterwards."""
    stage.server.cut_off()
    time.sleep(stage.random.uniform(0.1, 1))
    stage.server.promote()


def disk_full(stage: Stage) -> None:
    """Redis cannot write its file: MISCONF to all who write. With `always` it would end itself instead."""
    with stage.client() as client:
        client.config_set("appendfsync", "everysec")
    stage.disk_full.touch()
    time.sleep(stage.random.uniform(1, 3))
    stage.disk_full.unlink()
    # What it answered and could not write it writes now: killed before that, it would have lost it.
    until(_writes_again(stage), WRITES_SECONDS)


def _writes_again(stage: Stage) -> Callable[[], bool]:
    def writes() -> bool:
        with stage.client() as client:
            return bool(client.info("persistence")["aof_last_write_status"] == "ok")

    return writes


# -- Redis, without some of what it acknowledged


def tail_lost(stage: Stage) -> None:
    """The machine goes: what was acknowledged is gone, and is given again by those who reported it."""
    stage.server.kill9()
    (file,) = (stage.server.folder / "appendonlydir").glob("*.incr.aof")
    os.truncate(file, max(file.stat().st_size - stage.random.randint(20_000, 400_000), 0))
    stage.server.start()


#: Longer than between two events of a job.
IDENTITY_SECONDS: Final = 1.0


def replica_promoted(stage: Stage) -> None:
    """Without the last moments, and in half of the cases with a clock that is an hour behind."""
    behind = stage.clock_shim is not None and stage.random.random() < 0.5
    lies = {"LD_PRELOAD": str(stage.clock_shim), "CLOCK_OFFSET_SECONDS": "-3600"} if behind else {}
    replica = RedisServer(stage.folder / f"replica{len(stage.others)}", env=lies).start()
    stage.others.append(replica)
    replica.replicate(stage.server)
    # A server takes another identity with its first replica. Each job has an event under it before the replica is cut off: a change
    # of which the replica never heard, and the next within a minute, are docs/guarantees.md's "Two losses".
    time.sleep(IDENTITY_SECONDS)
    replica.cut_off()
    time.sleep(stage.random.uniform(0.1, 0.5))
    stage.server.kill9()
    replica.promote()
    stage.lead_to(replica)


def emptied(stage: Stage) -> None:
    with stage.client() as client:
        client.flushall()


def begun_empty(stage: Stage) -> None:
    """Its disk is a new one."""
    stage.server.kill9()
    for file in (stage.server.folder / "appendonlydir").iterdir():
        file.unlink()
    stage.server.start()


def stream_deleted(stage: Stage) -> None:
    """The events of some jobs; their states stay."""
    keys = Keys(stage.settings.namespace)
    with stage.client() as client:
        for job in stage.random.sample(stage.jobs, max(len(stage.jobs) // 4, 1)):
            client.delete(keys.events(job))


LOSSLESS: tuple[Fault, ...] = (
    web_killed, worker_killed, worker_stopped, zombie, descriptors_used_up, never_reading, network_cut, network_slow,
    network_half_open, answer_lost, subscriptions_killed, connections_killed, redis_stopped, redis_killed, redis_full, redis_paused,
    redis_demoted, disk_full,
)  # fmt: skip
LOSSY: tuple[Fault, ...] = (tail_lost, replica_promoted, emptied, begun_empty, stream_deleted)
#: After these a reporter gives again all that was lost: in the end nothing is missing.
GIVEN_AGAIN: tuple[Fault, ...] = (tail_lost, replica_promoted)
#: How often a watcher may be told of it: where all is gone the job is begun anew, and then its reporter brings the whole state;
#: where the stream is gone, who comes before the next event is told, and again if that event begins another epoch (a restart).
TELLINGS: dict[Fault, int] = {emptied: 2, begun_empty: 2, stream_deleted: 2}
