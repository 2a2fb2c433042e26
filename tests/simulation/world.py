"""A reporter, a hub and its watchers against a model of Redis, in made-up time: a seed decides all that happens.

`python -m tests.simulation.world 1 10000` runs these seeds until one fails, and exits with 3 then.

The hub, its history, logs and tail checks, the watcher's place and the reporter's buffer are the product's own. Redis, the network,
the sockets and the clock are models.
"""

from __future__ import annotations

import asyncio
import json
import random as chance
import sys
from dataclasses import dataclass, field
from random import Random
from typing import Any

from progress_stream import jobs
from progress_stream.errors import StoreUnavailable
from progress_stream.events import BEGINNING, EventId
from progress_stream.frames.sse import Frame, Parser
from progress_stream.jobs import Header
from progress_stream.reporting.buffer import Buffer, Rates
from progress_stream.settings import load
from progress_stream.streaming.hub import Hub
from progress_stream.streaming.watcher import Start, Watcher
from tests.chaos.check import FOUND, faults_of, wrongly_told
from tests.chaos.history import History, Seen
from tests.simulation.clock import INSTANT, VirtualLoop
from tests.simulation.redis import JOB, Listening, Network, Server, Store

OWN_TYPE = "line"
AT = "2026-01-01T00:00:00.000Z"
#: Made-up seconds after which whoever has no end will never have one.
PATIENCE = 300.0
SETTINGS = load(redis_url="redis://127.0.0.1:1")


class Socket:
    """A sink whose bytes take their time to the client, and which may be full, or cut with all that is under way."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._parser = Parser()
        self._loop = asyncio.get_running_loop()
        self._arrives_at = 0.0
        self.full = False
        self.ended = False
        self.cut = False
        self.over = asyncio.Event()

    @property
    def ready(self) -> bool:
        return not (self.full or self.ended or self.cut)

    @property
    def unsent(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        assert not self.ended, "written to after the end"
        if data:
            self._later(lambda: self._client.take(self._parser.feed(data)))

    def end(self) -> None:
        self.ended = True
        self._later(self.over.set)

    def abort(self) -> None:
        self.break_off()

    def break_off(self) -> None:
        self.cut = True
        self.over.set()

    def _later(self, what: Any) -> None:
        self._arrives_at = max(
            self._arrives_at + INSTANT, self._loop.time() + self._client.random.random() * 0.02
        )
        self._loop.call_at(self._arrives_at, lambda: None if self.cut else what())


class Client:
    """A browser's EventSource without its patience."""

    def __init__(self, name: str, world: World, *, steady: bool) -> None:
        self.seen = Seen(name)
        self.random = Random(world.random.random())
        self._world = world
        self._steady = steady
        self._last = ""

    def take(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._last = frame.id or self._last
            if frame.event == "snapshot":
                body = json.loads(frame.data)
                if body["gap"]:
                    self.seen.gaps.append((len(self.seen.events), body["reason"]))
            else:
                self.seen.events.append((frame.id, frame.event, json.loads(frame.data)))

    async def watch(self) -> None:
        server = self._world.server
        await asyncio.sleep(self.random.random())
        while True:
            if server.over and self._last == str(server.last):
                self.seen.stopped = True
                return
            await self._connect()
            await asyncio.sleep(self.random.uniform(0, 0.1))

    async def _connect(self) -> None:
        socket = Socket(self)
        begin = EventId.parse(self._last) if self._last else BEGINNING
        watcher = self._world.hub.follow(JOB, socket, Start(begin))
        self.seen.connects += 1
        try:
            await self._live(socket, watcher)
        finally:
            watcher.on_lost()

    async def _live(self, socket: Socket, watcher: Watcher) -> None:
        """Until the end, or until it is cut; slow now and then."""
        loop = asyncio.get_running_loop()
        cut_at = float("inf") if self._steady else loop.time() + self.random.expovariate(1.0)
        while not socket.over.is_set():
            pause = min(self.random.expovariate(2.0), max(cut_at - loop.time(), 0))
            try:
                async with asyncio.timeout(pause):
                    await socket.over.wait()
            except TimeoutError:
                if loop.time() >= cut_at:
                    self.seen.cuts += 1
                    socket.break_off()
                elif socket.full:
                    socket.full = False
                    watcher.on_ready()
                else:
                    socket.full = self.random.random() < 0.3
        # What is full gets its end all the same, as a kernel's buffer would.


class Reporter:
    """An attempt's buffer, and the loop that sends it: what the flusher does, without its thread."""

    def __init__(self, world: World, count: int) -> None:
        self._world = world
        self._count = count
        self._buffer = Buffer(JOB, jobs.new(Header(JOB, "actor")), Rates(), 0.0)
        self._buffer.state = jobs.fold(self._buffer.state, {"type": "started", "at": AT, "attempt": 1})

    async def run(self) -> None:
        sending = asyncio.create_task(self._send_all())
        for number in range(1, self._count + 1):
            self._buffer.own(AT, OWN_TYPE, number)
            if self._world.random.random() < 0.5:
                await asyncio.sleep(self._world.random.random() * 0.2)
        await self._world.quiet.wait()
        self._buffer.lifecycle(asyncio.get_running_loop().time(), AT, "succeeded", result=None)
        await sending

    async def _send_all(self) -> None:
        loop, buffer = asyncio.get_running_loop(), self._buffer
        while not (buffer.closed and buffer.empty):
            batch = buffer.freeze(loop.time(), AT, 1)
            if batch is None:
                await asyncio.sleep(0.01)
                continue
            try:
                said, last = await self._send(batch.base, batch.lines, batch.jump)
            except StoreUnavailable:
                await asyncio.sleep(self._world.random.random() * 0.1)
                continue
            if said == "hole":
                buffer.resend(last)
            else:
                buffer.acknowledge()

    async def _send(self, base: int, lines: tuple[tuple[str, bytes], ...], jump: bool) -> tuple[str, int]:
        server, network = self._world.server, self._world.network
        await network.there(server)
        answer = server.append(base, lines, jump=jump)
        await network.back(server)
        return answer


@dataclass(slots=True)
class Plan:
    """What is drawn from the seed."""

    events: int
    clients: int
    faults: list[str] = field(default_factory=list)

    @classmethod
    def draw(cls, random: Random) -> Plan:
        kinds = ("drop", "drop", "away", "restart", "restart", "loss")
        faults = [random.choice(kinds) for _ in range(random.randint(0, 5))]
        # A second loss could take what tells of the first.
        while faults.count("loss") > 1:
            faults.remove("loss")
        return cls(random.randint(1, 40), random.randint(1, 4), faults)


class World:
    """Made within a running virtual loop."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        chance.seed(seed)
        loop = asyncio.get_running_loop()
        self.plan = Plan.draw(self.random)
        self.server = Server(self.random)
        self.network = Network(self.random, asyncio.sleep)
        self.listening = Listening(self.server, self.network, loop, self.random)
        store: Any = Store(self.server, self.network)
        self.hub = Hub(SETTINGS, store, SETTINGS.redis_url or "")
        self.listening.heard, self.listening.confirmed = self.hub._heard, self.hub._confirmed
        self.hub.wakeups = self.listening  # type: ignore[assignment]
        self.quiet = asyncio.Event()
        self.lost = False
        self.clients = [Client(f"client {n}", self, steady=n % 2 == 0) for n in range(self.plan.clients)]

    async def run(self) -> list[str]:
        """What was wrong, in words."""
        self.hub.spawn(self.hub._for_ever(self.hub._tails.check))
        reporter = Reporter(self, self.plan.events)
        done = asyncio.gather(reporter.run(), self._break(), *(client.watch() for client in self.clients))
        try:
            async with asyncio.timeout(PATIENCE):
                await done
        except TimeoutError:
            pass  # Who lacks what is said below.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return self._faults()

    async def _break(self) -> None:
        for fault in self.plan.faults:
            await asyncio.sleep(self.random.random())
            if fault == "drop":
                self.listening.drop()
            elif fault == "away":
                self.server.away = True
                await asyncio.sleep(self.random.random())
                self.server.away = False
            else:
                self.lost |= self.server.begin_again(lose=fault == "loss")
        self.quiet.set()

    def _faults(self) -> list[str]:
        history = History([client.seen for client in self.clients])
        found = [
            str(fault) for fault in faults_of(history, OWN_TYPE, self.plan.events, gaps_allowed=self.lost)
        ]
        return found + wrongly_told(history, lambda id: EventId.parse(id) in self.server.lost)


def simulate(seed: int) -> list[str]:
    """One run; the same seed is the same run."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)

        async def run() -> list[str]:
            return await World(seed).run()

        return loop.run_until_complete(run())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def main() -> None:
    first, last = map(int, sys.argv[1:3])
    for seed in range(first, last + 1):
        if found := simulate(seed):
            print(f"seed {seed}: {'; '.join(found[:5])}")
            sys.exit(FOUND)
    print(
        f"seeds {first} to {last}: nothing lost, repeated or out of order, and whoever lost something was told"
    )


if __name__ == "__main__":
    main()
