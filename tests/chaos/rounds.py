"""Rounds of everything that goes wrong, by seed: `python -m tests.chaos.rounds --seed 1 --seconds 600`.

Each round is a Redis, a web process, jobs that are reported and a crowd that watches them, and a sequence of faults drawn from the
seed; `check.py` judges what each watcher saw. In a round without loss nobody may be told of a gap; in one in which Redis loses the
tail of its file exactly those are told who saw what was lost. The last line says what came of all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from random import Random

import redis
from pydantic import SecretStr

from progress_stream import jobs
from progress_stream.auth.verify import sign
from progress_stream.errors import ProgressStreamError
from progress_stream.settings import Settings, load
from progress_stream.store.connect import sync_client
from progress_stream.store.keys import Keys
from progress_stream.store.sync import SyncStore
from tests.chaos.check import FOUND, faults_of, wrongly_told
from tests.chaos.faults import WebProcess, kill_subscriptions
from tests.chaos.history import History
from tests.chaos.traffic import OWN_TYPE, Program, crowd
from tests.support.redis import RedisServer
from tests.support.server import SECRET
from tests.support.switch import Switch


@dataclass(frozen=True, slots=True)
class Scale:
    """How much goes on in a round."""

    jobs: int = 20
    events: int = 400
    watchers: int = 5
    seconds: float = 8.0
    faults: int = 8
    #: Beyond the time in which events come: then who has no end has lost it.
    patience: float = 60.0


@dataclass(slots=True)
class Outcome:
    """What came of a round, or of many."""

    rounds: int = 0
    injected: int = 0
    acknowledged: int = 0
    deliveries: int = 0
    lost: int = 0
    repeated: int = 0
    disordered: int = 0
    #: Told where nothing was lost, and where something was.
    gaps: int = 0
    gaps_of_loss: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def lines(self) -> list[str]:
        return [
            *self.faults[:40],
            f"{self.rounds} rounds, {self.injected} faults injected, {self.acknowledged} events acknowledged, "
            f"{self.deliveries} deliveries checked",
            f"lost {self.lost} · repeated {self.repeated} · out of order {self.disordered} · gaps {self.gaps} "
            f"({self.gaps_of_loss} where Redis had lost something)",
        ]


class Stage:
    """The parts of one round."""

    def __init__(
        self, server: RedisServer, switch: Switch, web: WebProcess, settings: Settings, random: Random
    ) -> None:
        self.server = server
        self.switch = switch
        self.web = web
        self.settings = settings
        self.random = random
        self.programs: list[Program] = []

    def client(self) -> redis.Redis:
        return self.server.client(0)


Fault = Callable[[Stage], None]


def web_killed(stage: Stage) -> None:
    stage.web.kill9()
    stage.web.start()


def subscriptions_killed(stage: Stage) -> None:
    with stage.client() as client:
        kill_subscriptions(client)


def connections_killed(stage: Stage) -> None:
    with stage.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def answer_lost(stage: Stage) -> None:
    """What was written is not known to have been."""
    stage.switch.swallow_next_answer(stage.server.port)


def redis_stopped(stage: Stage) -> None:
    stage.server.sigstop()
    time.sleep(stage.random.uniform(0.2, 1.5))
    stage.server.sigcont()


def redis_killed(stage: Stage) -> None:
    """The machine lives: what was acknowledged is in the kernel's hands."""
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


def zombie(stage: Stage) -> None:
    """Somebody who once held a job goes on reporting it."""
    program = stage.random.choice(stage.programs)
    client = sync_client(stage.server.url(0), connections=1)
    store = SyncStore(client, stage.settings)
    line = (OWN_TYPE, b'{"data":987654321}')
    with contextlib.suppress(ProgressStreamError):
        record = store.send(store.commands.look(program.job)).record
        sequence = 1 if record is None else record.control.sequence + 1
        state = jobs.new(jobs.Header(program.job, "chaos", owner="alice"))
        store.send(store.commands.append(program.job, 1, "a zombie's", sequence, [line], state))
    client.close()


def tail_lost(stage: Stage) -> None:
    """The machine goes: what was acknowledged is gone, and is given again by those who reported it."""
    stage.server.kill9()
    (file,) = (stage.server.folder / "appendonlydir").glob("*.incr.aof")
    os.truncate(file, max(file.stat().st_size - 20_000, 0))
    stage.server.start()


LOSSLESS: tuple[Fault, ...] = (
    web_killed, subscriptions_killed, connections_killed, answer_lost, redis_stopped, redis_killed, redis_full, redis_paused,
    redis_demoted, zombie,
)  # fmt: skip


class Round:
    """One round: its faults are drawn from those named; `tail_lost` among them makes it one in which Redis loses something."""

    def __init__(self, seed: int, scale: Scale, faults: Sequence[Fault]) -> None:
        self._seed = seed
        self._scale = scale
        self._faults = faults
        self._lossy = tail_lost in faults
        self._noted: list[str] = []

    def run(self, folder: Path) -> Outcome:
        options = {"appendfsync": "everysec"}
        with RedisServer(folder / "redis", options=options) as server, Switch(server.port) as switch:
            settings = load(
                redis_url=server.url(0), broker_url=server.url(1), namespace=f"round{self._seed}", data=folder,
                jwt_secret=SecretStr(SECRET), ready_seconds=0, drain_seconds=0,
            )  # fmt: skip
            with WebProcess(settings, SECRET, folder / "web") as web:
                return self._run(Stage(server, switch, web, settings, Random(self._seed)))

    def _run(self, stage: Stage) -> Outcome:
        scale = self._scale
        reported = stage.settings.model_copy(update={"redis_url": stage.switch.url(0)})
        for number in range(scale.jobs):
            # The wake-up of one job's last event is lost, and no later one betrays it.
            before_end = partial(subscriptions_killed, stage) if number == 0 and not self._lossy else None
            stage.programs.append(Program(reported, scale.events, scale.seconds, before_end))
        for program in stage.programs:
            program.start()
        histories = asyncio.run(self._watch_all(stage))
        broken = [fault for program in stage.programs if (fault := _not_joined(program)) is not None]
        outcome = Outcome(
            rounds=1,
            injected=len(self._noted),
            acknowledged=sum(program.reported for program in stage.programs),
        )
        outcome.faults += broken
        for program, history in zip(stage.programs, histories, strict=True):
            self._judge(outcome, stage, program, history)
        if outcome.faults:
            outcome.faults.insert(0, f"round of seed {self._seed}: {', '.join(self._noted)}")
        return outcome

    async def _watch_all(self, stage: Stage) -> list[History]:
        scale, token = self._scale, sign(SECRET, "alice", "jobs:read", 3_600)
        crowds = [
            crowd(
                stage.web.url, program.job, token, scale.watchers, seed=self._seed * 1_000 + number, cut_every=2,
                seconds=scale.seconds + scale.patience,
            )
            for number, program in enumerate(stage.programs)
        ]  # fmt: skip
        histories, _ = await asyncio.gather(asyncio.gather(*crowds), self._inject(stage))
        return histories

    async def _inject(self, stage: Stage) -> None:
        """Spread over the time in which events come."""
        count = 1 if self._lossy else self._scale.faults
        for _ in range(count):
            await asyncio.sleep(stage.random.uniform(0.5, 1.5) * self._scale.seconds / (count + 1))
            fault = stage.random.choice(self._faults)
            if all(program.reported >= self._scale.events for program in stage.programs):
                return
            await asyncio.to_thread(fault, stage)
            self._noted.append(fault.__name__)

    def _judge(self, outcome: Outcome, stage: Stage, program: Program, history: History) -> None:
        found = faults_of(history, OWN_TYPE, self._scale.events, gaps_allowed=self._lossy)
        outcome.faults += map(str, found)
        outcome.deliveries += sum(len(seen.events) for seen in history.watchers)
        kinds = Counter(fault.kind for fault in found)
        outcome.lost += kinds["lost"] + kinds["unended"]
        outcome.repeated += kinds["repeated"] + kinds["foreign"]
        outcome.disordered += kinds["disordered"]
        gaps = sum(len(seen.gaps) for seen in history.watchers)
        if self._lossy:
            outcome.gaps_of_loss += gaps
            with stage.client() as client:
                kept = {
                    id.decode() for id, _ in client.xrange(Keys(stage.settings.namespace).events(program.job))
                }
            outcome.faults += wrongly_told(history, lambda id: id not in kept)
        else:
            outcome.gaps += gaps


def _not_joined(program: Program) -> str | None:
    """How a program that only reports came to an end that it should not have had."""
    try:
        program.join()
    except Exception as error:
        return f"the program of job {program.job}: {type(error).__name__}: {error}"
    return None


def run(
    seed: int,
    seconds: float,
    scale: Scale,
    faults: Sequence[Fault] = (),
    say: Callable[[str], object] = print,
) -> Outcome:
    """Rounds until the time is over, one at least; without faults named every third one with a loss."""
    whole, began, number = Outcome(), time.monotonic(), 0
    while number == 0 or time.monotonic() - began < seconds:
        drawn_from = faults or ((tail_lost,) if number % 3 == 2 else LOSSLESS)
        with tempfile.TemporaryDirectory(prefix="progress-stream-chaos-") as folder:
            outcome = Round(seed + number, scale, drawn_from).run(Path(folder))
        say(f"seed {seed + number}: {'; '.join(outcome.lines()[-2:])}")
        whole.add(outcome)
        number += 1
    return whole


def main() -> None:
    named = {fault.__name__: fault for fault in (*LOSSLESS, tail_lost)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--faults", nargs="*", choices=named, default=[], help="these alone")
    for one in fields(Scale):
        parser.add_argument(
            f"--{one.name}" if one.name not in {"seconds", "faults"} else f"--round-{one.name}",
            type=type(one.default),
            default=one.default,
        )
    options = parser.parse_args()
    scale = Scale(
        options.jobs,
        options.events,
        options.watchers,
        options.round_seconds,
        options.round_faults,
        options.patience,
    )
    whole = run(
        options.seed,
        options.seconds,
        scale,
        [named[name] for name in options.faults],
        lambda line: print(line, flush=True),
    )
    print("\n".join(whole.lines()), flush=True)
    sys.exit(FOUND if whole.faults else 0)


if __name__ == "__main__":
    main()
