"""Rounds of everything that goes wrong, by seed: `python -m tests.chaos.rounds --seed 1 --seconds 600`.

Each round is a stage (`stage.py`), jobs that programs report, that are appended by hand, and that workers run, a crowd that watches
each of them, and a sequence of faults drawn from the seed (`breaking.py`). `check.py` judges what each watcher saw, beside what
Redis holds in the end and what it had acknowledged. In a round without loss nobody may be told of a gap; in every third one Redis
loses something, and exactly those are told who saw what was lost. The last line says what came of all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Final

import redis

from progress_stream import jobs
from progress_stream.settings import Settings
from progress_stream.store.keys import Keys
from progress_stream.store.sync import SyncStore
from tests.chaos.appender import Appender
from tests.chaos.breaking import GIVEN_AGAIN, LOSSLESS, LOSSY, TELLINGS, Fault, subscriptions_killed
from tests.chaos.check import FOUND, Entry, against_stream, faults_of, out_of_attempt
from tests.chaos.history import History
from tests.chaos.stage import Stage, stage
from tests.chaos.traffic import OWN_TYPE, Program, crowd

_LAST_LINES: Final = 200
#: Of a state what events alone make.
FOLDED: Final = (
    "state",
    "done",
    "total",
    "message",
    "attempt",
    "steps",
    "error",
    "started_at",
    "finished_at",
    "stalled",
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much goes on in a round."""

    jobs: int = 200
    #: Of them those that are appended by hand, and those that worker processes run; a program reports each other one.
    appended: int = 20
    worked: int = 20
    workers: int = 2
    events: int = 60
    #: Of each job.
    watchers: int = 5
    seconds: float = 15.0
    faults: int = 8
    #: Beyond the time in which events come: then who has no end has lost it.
    patience: float = 60.0


@dataclass(slots=True)
class Outcome:
    """What came of a round, or of many."""

    rounds: int = 0
    injected: int = 0
    acknowledged: int = 0
    #: Calls of the appenders that were refused, and of which nobody knew what became: all of them were given again.
    refused: int = 0
    unknown: int = 0
    deliveries: int = 0
    #: Folded states that were compared with a fold of the stream.
    states: int = 0
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
            f"{self.rounds} rounds, {self.injected} faults injected, {self.acknowledged} events acknowledged, {self.refused} calls "
            f"refused, {self.unknown} of unknown fate, {self.deliveries} deliveries checked, {self.states} states",
            f"lost {self.lost} · repeated {self.repeated} · out of order {self.disordered} · gaps {self.gaps} "
            f"({self.gaps_of_loss} where Redis had lost something)",
        ]


class Round:
    """One round: its faults are drawn from those named; one that loses something comes once, among others that do not."""

    def __init__(self, seed: int, scale: Scale, faults: Sequence[Fault]) -> None:
        self._seed = seed
        self._scale = scale
        self._lossy = [fault for fault in faults if fault in LOSSY]
        self._lossless = [fault for fault in faults if fault not in LOSSY]
        self._noted: list[str] = []
        #: How often one watcher may be told of what was lost.
        self._tellings = 0
        #: Whether something was lost for good.
        self._given_again = True

    def run(self, folder: Path) -> Outcome:
        with stage(self._seed, folder, workers=self._scale.workers if self._scale.worked else 0) as made:
            return self._run(made)

    def _run(self, made: Stage) -> Outcome:
        scale = self._scale
        appended = 0 if self._lossy else scale.appended
        made.send_work(scale.worked, scale.events, scale.seconds / 2)
        made.start_programs(scale.jobs - scale.worked - appended, appended, scale.events, scale.seconds)
        if made.programs and not self._lossy:
            # The wake-up of one job's last event is lost, and no later one betrays it.
            made.programs[0].before_end = partial(_kill_subscriptions, made)
        histories = asyncio.run(self._watch_all(made))
        outcome = Outcome(rounds=1, injected=len(self._noted))
        for reporter in (*made.programs, *made.appenders):
            outcome.faults += _not_joined(reporter)
            outcome.acknowledged += reporter.reported
        for job, history in zip(made.jobs, histories, strict=True):
            self._judge(outcome, made, job, history)
        for appender in made.appenders:
            self._audit(outcome, made, appender)
        if outcome.faults:
            outcome.faults.insert(0, f"round of seed {self._seed}: {', '.join(self._noted)}")
        return outcome

    async def _watch_all(self, made: Stage) -> list[History]:
        scale, token = self._scale, made.token()
        crowds = [
            crowd(
                made.web.url, job, token, scale.watchers, seed=self._seed * 1_000 + number, cut_every=2,
                seconds=scale.seconds + scale.patience, may_be_missing=bool(self._lossy),
            )
            for number, job in enumerate(made.jobs)
        ]  # fmt: skip
        histories, _ = await asyncio.gather(asyncio.gather(*crowds), self._inject(made))
        return histories

    async def _inject(self, made: Stage) -> None:
        """Spread over the time in which events come."""
        drawn = [made.random.choice(self._lossless) for _ in range(self._scale.faults) if self._lossless]
        if self._lossy:
            drawn.insert(len(drawn) // 2, made.random.choice(self._lossy))
        began = asyncio.get_running_loop().time()
        for number, fault in enumerate(drawn):
            at = began + (number + made.random.uniform(0.5, 1)) * self._scale.seconds / (len(drawn) + 1)
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            if all(program.reported >= self._scale.events for program in made.programs):
                return
            await asyncio.to_thread(fault, made)
            self._noted.append(fault.__name__)
            if fault in LOSSY:
                self._tellings += TELLINGS.get(fault, 1)
                self._given_again = fault in GIVEN_AGAIN

    def _judge(self, outcome: Outcome, made: Stage, job: str, history: History) -> None:
        kept = entries_of(made, job)
        by_program = any(job == program.job for program in made.programs)
        found = against_stream(history, kept, losses=self._tellings)
        if by_program and self._given_again:
            found += faults_of(history, OWN_TYPE, self._scale.events, gaps_allowed=bool(self._lossy))
        if not self._lossy:
            outcome.faults += [
                f"job {job}: {text}" for text in out_of_attempt(kept, OWN_TYPE, self._scale.events)
            ]
            outcome.faults += [f"job {job}: {text}" for text in unfolded(made, job, kept)]
            outcome.states += 1
        outcome.faults += [f"job {job}: {fault}" for fault in found]
        outcome.deliveries += sum(len(seen.events) for seen in history.watchers)
        kinds = Counter(fault.kind for fault in found)
        outcome.lost += kinds["lost"] + kinds["unended"] + kinds["untold"]
        outcome.repeated += kinds["repeated"] + kinds["foreign"]
        outcome.disordered += kinds["disordered"]
        gaps = sum(len(seen.gaps) for seen in history.watchers)
        if self._lossy:
            outcome.gaps_of_loss += gaps
        else:
            outcome.gaps += gaps

    def _audit(self, outcome: Outcome, made: Stage, appender: Appender) -> None:
        kept = {id: data.get("data") for id, _, data in entries_of(made, appender.job)}
        outcome.faults += [f"job {appender.job}: {text}" for text in appender.wrong(kept)]
        outcome.refused += appender.refused
        outcome.unknown += appender.unknown


def _kill_subscriptions(made: Stage) -> None:
    """A Redis that another fault has just ended has no subscription left."""
    with suppress(redis.ConnectionError):
        subscriptions_killed(made)


def entries_of(made: Stage, job: str) -> list[Entry]:
    """What Redis holds of a job."""
    with made.client() as client:
        return entries_in(client, made.settings, job)


def entries_in(client: redis.Redis, settings: Settings, job: str) -> list[Entry]:
    """What the Redis of this client holds of a job."""
    rows = client.xrange(Keys(settings.namespace).events(job))
    return [(id.decode(), fields[b"t"].decode(), json.loads(fields[b"d"])) for id, fields in rows]


def unfolded(made: Stage, job: str, kept: Sequence[Entry]) -> list[str]:
    """Where the state that Redis holds is not the fold of the events that it holds."""
    with made.client() as client:
        store = SyncStore(client, made.settings)
        record = store.send(store.commands.look(job)).record
    if record is None:
        return ["Redis has no state"]
    state = jobs.new(jobs.Header(job, record.packed["actor"], owner="alice"))
    for _, _, data in kept:
        if not {"type", "at"} <= data.keys():
            return [f"somebody else wrote {data}"]
        state = jobs.fold(state, data)
    shown = jobs.view(record)
    return [
        f"{name} is {shown[name]!r}, and folded {state[name]!r}"
        for name in FOLDED
        if shown[name] != state[name]
    ]


def _not_joined(reporter: Program | Appender) -> list[str]:
    """How one that only reports came to an end that it should not have had."""
    try:
        reporter.join()
    except Exception as error:
        return [f"who reported job {reporter.job}: {type(error).__name__}: {error}"]
    return []


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
        drawn_from = faults or ((*LOSSLESS, *LOSSY) if number % 3 == 2 else LOSSLESS)
        with tempfile.TemporaryDirectory(prefix="progress-stream-chaos-") as folder:
            try:
                outcome = Round(seed + number, scale, drawn_from).run(Path(folder))
            except BaseException:
                say(_last_words(Path(folder)))
                raise
        say(f"seed {seed + number}: {'; '.join(outcome.lines()[-2:])}")
        whole.add(outcome)
        number += 1
    return whole


def _last_words(folder: Path) -> str:
    """Of the web process, for whoever looks for the reason."""
    return "\n".join((folder / "web" / "serve.log").read_text().splitlines()[-_LAST_LINES:])


def _option(name: str) -> str:
    return f"round_{name}" if name in {"seconds", "faults"} else name


def main() -> None:
    named = {fault.__name__: fault for fault in (*LOSSLESS, *LOSSY)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--faults", nargs="*", choices=named, default=[], help="these alone")
    for one in fields(Scale):
        parser.add_argument(
            f"--{_option(one.name).replace('_', '-')}",
            type=type(one.default),
            default=one.default,
        )
    options = parser.parse_args()
    scale = Scale(**{one.name: getattr(options, _option(one.name)) for one in fields(Scale)})
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
