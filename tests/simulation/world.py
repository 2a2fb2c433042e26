"""A reporter, a hub and its watchers against a model of Redis, in made-up time: a seed decides all that happens.

`python -m tests.simulation.world 1 10000` runs these seeds until one fails, and exits with 3 then.

The hub, its history, logs and tail checks, the watcher's place, the reporter's buffer, the answers to long-polls and the Python
client's rules are the product's own. Redis, the network, the sockets and the clock are models.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random as chance
import sys
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

from progress_stream import events, jobs
from progress_stream.api import poll
from progress_stream.client.retry import Backoff
from progress_stream.client.rules import Rules, WatchEvent
from progress_stream.errors import StoreUnavailable
from progress_stream.events import BEGINNING, EventId
from progress_stream.frames.sse import Parser
from progress_stream.jobs import Header
from progress_stream.reporting.buffer import Batch, Buffer, Rates
from progress_stream.settings import load
from progress_stream.streaming import formats
from progress_stream.streaming.hub import Hub
from progress_stream.streaming.watcher import Start, Watcher
from tests.chaos.check import FOUND, Entry, against_stream, faults_of
from tests.chaos.history import History, Seen
from tests.simulation.clock import INSTANT, VirtualLoop
from tests.simulation.redis import AT, JOB, Listening, Network, Server, Store

OWN_TYPE = "line"
#: Made-up seconds after which whoever has no end will never have one.
PATIENCE = 300.0
#: Of a state what a job's own events make.
FOLDED = ("state", "attempt", "done", "total", "message", "steps", "result")
SETTINGS = load(redis_url="redis://127.0.0.1:1")


class Complaints(logging.Handler):
    """What the product logged as an error: a task of the hub that failed begins again, and might go unnoticed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.getMessage()}: {record.exc_info[1] if record.exc_info else ''}")


class Socket:
    """A sink whose bytes take their time to the client, and which may be full, or cut with all that is under way."""

    def __init__(self, client: Client) -> None:
        self._client = client
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
            self._later(lambda: self._client.take(data))

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
        self._parser = Parser()

    def take(self, data: bytes) -> None:
        for frame in self._parser.feed(data):
            self._last = frame.id or self._last
            if frame.event == "snapshot":
                self._told(frame.id, json.loads(frame.data))
            else:
                self.seen.events.append((frame.id, frame.event, json.loads(frame.data)))

    def _told(self, id: str, snapshot: dict[str, Any]) -> None:
        if snapshot["gap"]:
            self.seen.gaps.append((len(self.seen.events), snapshot["reason"], id))

    async def watch(self) -> None:
        await asyncio.sleep(self.random.random())
        while not self._is_over(self._last):
            await self._connect(self._last)
            await asyncio.sleep(self.random.uniform(0, 0.1))
        self.seen.stopped = True

    def _is_over(self, last: str) -> bool:
        """Asked from here, the answer is 204."""
        return self._world.server.over and last == str(self._world.server.last)

    async def _connect(self, last: str) -> Socket:
        socket = Socket(self)
        self._parser = Parser()
        watcher = self._world.hub.follow(JOB, socket, Start(EventId.parse(last) if last else BEGINNING))
        self.seen.connects += 1
        try:
            await self._live(socket, watcher)
        finally:
            watcher.on_lost()
        return socket

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


class Follower(Client):
    """The Python client by its own rules, over streams and long-polls that are cut: what its caller is given is what it saw."""

    def __init__(self, name: str, world: World, *, steady: bool) -> None:
        super().__init__(name, world, steady=steady)
        backoff = Backoff(self.random.random, asyncio.get_running_loop().time)
        self.rules = Rules("http://127.0.0.1:1", JOB, backoff=backoff)
        self.state: dict[str, Any] = {}

    def take(self, data: bytes) -> None:
        self._give(self.rules.feed(data))

    def _give(self, given: list[WatchEvent]) -> None:
        for event in given:
            self.state = dict(event.state)
            if event.type == "snapshot":
                self._told(event.id, event.data)
            else:
                self.seen.events.append((event.id, event.type, event.data))

    async def watch(self) -> None:
        rules = self.rules
        await asyncio.sleep(self.random.random())
        while True:
            ask = rules.ask(None)
            last = ask.headers.get("Last-Event-ID", "")
            if ask.kind in {"stream", "poll"} and self._is_over(last):
                rules.answered(204, {})
            elif ask.kind == "stream":
                rules.answered(200, {"content-type": "text/event-stream"})
                socket = await self._connect(last)
                if socket.cut:
                    rules.dropped("it was cut")
            else:
                await self._ask_once(ask.kind, last)
            pause = rules.pause()
            if rules.over:
                self.seen.stopped = True
                return
            await asyncio.sleep(pause.seconds)

    async def _ask_once(self, kind: str, last: str) -> None:
        """The job's state, or a long-poll; the answer is lost now and then, and Redis may be away."""
        try:
            body = await (self._poll(last) if kind == "poll" else self._state())
        except StoreUnavailable:
            self.rules.answered(503, {})
            self.rules.whole(503, {}, b"")
            return
        if self.random.random() < 0.1:
            self.rules.dropped("it was cut")
            return
        self.rules.answered(200, {"content-type": "application/json"})
        self._give(self.rules.whole(200, {}, body))

    async def _state(self) -> bytes:
        record = (await self._world.store.look((BEGINNING, 1))).record
        return events.encode(jobs.view(record))

    async def _poll(self, last: str) -> bytes:
        world: Any = SimpleNamespace(history_store=self._world.store, hub=self._world.hub)
        begin = EventId.parse(last) if last else BEGINNING
        found = await poll._look(world, JOB, begin)
        if found.is_empty:
            await poll._wait(
                world, JOB, Start(begin, format=formats.WAKING), self.random.uniform(0, 25), _stays
            )
            found = await poll._look(world, JOB, begin)
        return found.encode()


async def _stays() -> dict[str, str]:
    """As the server would hear of a client that leaves: this one does not."""
    await asyncio.Event().wait()
    return {}


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
            self._say_more(number)
            if self._world.random.random() < 0.5:
                await asyncio.sleep(self._world.random.random() * 0.2)
        await self._world.quiet.wait()
        self._buffer.lifecycle(asyncio.get_running_loop().time(), AT, "succeeded", result=None)
        await sending

    def _say_more(self, number: int) -> None:
        """What a state is folded of."""
        now = asyncio.get_running_loop().time()
        if self._world.random.random() < 0.3:
            self._buffer.progress(now, done=number, total=self._count, message=f"at {number}")
        if self._world.random.random() < 0.1:
            self._buffer.step(now, AT, f"part {number}", self._world.random.choice(("started", "finished")))

    async def _send_all(self) -> None:
        loop, buffer = asyncio.get_running_loop(), self._buffer
        while not (buffer.closed and buffer.empty):
            batch = buffer.freeze(loop.time(), AT, 1)
            if batch is None:
                await asyncio.sleep(0.05)
                continue
            try:
                said, last = await self._send(batch)
            except StoreUnavailable:
                await asyncio.sleep(self._world.random.random() * 0.1)
                continue
            if said == "hole":
                buffer.resend(last)
            else:
                buffer.acknowledge()

    async def _send(self, batch: Batch) -> tuple[str, int]:
        server, network = self._world.server, self._world.network
        await network.there(server)
        answer = server.append(batch.base, batch.lines, batch.state, jump=batch.jump)
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
        self.store: Any = Store(self.server, self.network)
        self.hub = Hub(SETTINGS, self.store, SETTINGS.redis_url or "")
        self.listening.heard, self.listening.confirmed = self.hub._heard, self.hub._confirmed
        self.hub.wakeups = self.listening  # type: ignore[assignment]
        self.quiet = asyncio.Event()
        self.lost = False
        kinds = (Client, Client, Follower, Follower)
        self.clients = [kinds[n](f"client {n}", self, steady=n % 2 == 0) for n in range(self.plan.clients)]

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
        kept = [(str(id), type.decode(), json.loads(data)) for id, type, data in self.server.kept.entries]
        found = faults_of(history, OWN_TYPE, self.plan.events, gaps_allowed=self.lost)
        found += against_stream(history, kept, losses=int(self.lost))
        return [*map(str, found), *self._misfolded(kept)]

    def _misfolded(self, kept: list[Entry]) -> list[str]:
        """Whose state is not that which Redis holds, and whether that one is the fold of the stream."""
        wanted = self.server.kept.state
        folded = jobs.new(Header(JOB, "actor"))
        for _, _, data in kept:
            folded = jobs.fold(folded, data)
        states = {client.seen.name: client.state for client in self.clients if isinstance(client, Follower)}
        if not self.lost:
            states["the fold of the stream"] = folded
        return [
            f"{who}: {name} is {state[name]!r} and not {wanted[name]!r}"
            for who, state in states.items()
            for name in FOLDED
            if state.get(name) != wanted[name]
        ]


def simulate(seed: int) -> list[str]:
    """One run; the same seed is the same run."""
    loop, complaints = VirtualLoop(), Complaints()
    logging.getLogger("progress_stream").addHandler(complaints)
    try:
        asyncio.set_event_loop(loop)

        async def run() -> list[str]:
            return await World(seed).run()

        return loop.run_until_complete(run()) + complaints.said
    finally:
        logging.getLogger("progress_stream").removeHandler(complaints)
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
