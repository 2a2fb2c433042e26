"""One job's stream as the scripts keep it, and its subscribers: a model in plain Python, without a server.

What the scripts do is proved on a real Redis (tests/store); here is as much of it as a hub and a reporter notice: numbers without
a hole, an epoch for each life of the server, answers that come late or never, wake-ups that may be lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from types import SimpleNamespace
from typing import Any

from progress_stream import events, jobs
from progress_stream.errors import StoreUnavailable
from progress_stream.events import TERMINAL, EventId
from progress_stream.jobs import Control, Header, Record, State
from progress_stream.store.answers import Look
from tests.simulation.clock import INSTANT

JOB = "job"
AT = "2026-01-01T00:00:00.000Z"
CHANNEL = "channel"
Entry = tuple[EventId, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Kept:
    """All that a server holds of the job."""

    control: Control
    entries: tuple[Entry, ...]
    state: State


class Server:
    """The Redis that has the job, over its lives."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.replid = self._new_id()
        self.away = False
        self.subscribers: set[Any] = set()
        self.lost: set[EventId] = set()
        self._born_ms = 10**12
        epoch = self._born_ms
        control = Control(epoch, 0, 1, "nonce", 0, "running", self.replid, EventId(epoch, 1))
        self.kept = Kept(control, (), jobs.new(Header(JOB, "actor")))
        self._earlier: list[Kept] = []
        begun = [events.make(JOB, "queued", at=AT), events.make(JOB, "started", at=AT, attempt=1)]
        self._add(
            [(event["type"], events.encode(event)) for event in begun], jobs.fold(self.kept.state, begun[1])
        )

    def _new_id(self) -> str:
        return f"{self._random.getrandbits(160):040x}"

    @property
    def last(self) -> EventId:
        return self.kept.control.last

    @property
    def over(self) -> bool:
        return self.kept.control.status in TERMINAL

    def append(
        self, base: int, lines: tuple[tuple[str, bytes], ...], state: State, *, jump: bool
    ) -> tuple[str, int]:
        """("ok" | "ended", 0) or ("hole", last), as append.lua answers."""
        control, count = self.kept.control, len(lines)
        if base + count - 1 <= control.sequence:
            return "ok", 0
        if self.over:
            return "ended", 0
        if base > control.sequence + 1:
            if not jump:
                return "hole", control.sequence
            self.kept = replace(self.kept, control=replace(control, n=control.n + 1, sequence=base - 1))
        self._earlier = [*self._earlier[-4:], self.kept]
        if self.kept.control.replid != self.replid:
            epoch = max(self._born_ms, self.kept.control.epoch + 1 + self._random.randint(0, 65_535))
            self.kept = replace(
                self.kept, control=replace(self.kept.control, epoch=epoch, replid=self.replid)
            )
        self._add(list(lines[self.kept.control.sequence - base + 1 :]), state)
        self.kept = replace(self.kept, control=replace(self.kept.control, sequence=base + count - 1))
        return "ok", 0

    def _add(self, lines: list[tuple[str, bytes]], state: State) -> None:
        control, entries = self.kept.control, list(self.kept.entries)
        first = EventId(control.epoch, control.n + 1)
        payload = [str(first).encode()]
        for n, (type, data) in enumerate(lines, first.n):
            entries.append((EventId(control.epoch, n), type.encode(), data))
            payload += [type.encode(), data]
        status = lines[-1][0] if lines[-1][0] in TERMINAL else control.status
        control = replace(control, n=first.n + len(lines) - 1, status=status)
        self.kept = Kept(control, tuple(entries), state)
        for subscriber in list(self.subscribers):
            subscriber.publish(b"\n".join(payload))

    def begin_again(self, *, lose: bool) -> bool:
        """Another life: all connections are gone; with `lose`, some of the last appends too. True when something was lost."""
        before = {id for id, _, _ in self.kept.entries}
        if lose and self._earlier:
            self.kept = self._earlier[self._random.randrange(len(self._earlier))]
        self._earlier = []
        # Lives are minutes apart: an epoch may be ahead of its server's clock by the 65 s that are drawn for it.
        self._born_ms += 120_000
        self.replid = self._new_id()
        gone = before - {id for id, _, _ in self.kept.entries}
        self.lost |= gone
        for subscriber in list(self.subscribers):
            subscriber.drop()
        return bool(gone)

    def look(self, place: EventId, count: int) -> Look:
        record = Record(self.kept.state, self.kept.control)
        entries = [entry for entry in self.kept.entries if entry[0] >= place][:count]
        return Look("master", self.replid, record, False, entries, 0)


class Store:
    """What the hub knows of `AsyncStore`, with a network between."""

    def __init__(self, server: Server, network: Network) -> None:
        self._server = server
        self._network = network
        self.commands = SimpleNamespace(
            keys=SimpleNamespace(channel=lambda job: CHANNEL, probe=lambda word, tag: f"probe-{word}"),
            look=lambda job, place, count, enough_bytes=0: (place, count),
            tail=lambda job: ("tail",),
        )

    async def drop_idle(self) -> None: ...

    async def refresh(self) -> None: ...

    def place_of(self, job: str) -> None: ...

    def tags(self) -> list[None]:
        return [None]

    async def look(self, call: tuple[EventId, int]) -> Look:
        await self._network.there(self._server)
        found = self._server.look(*call)
        await self._network.back(self._server)
        return found

    async def tails(self, jobs: list[str]) -> list[Any]:
        await self._network.there(self._server)
        entries = self._server.kept.entries
        tail = [(str(id).encode(), [b"t", type, b"d", data]) for id, type, data in entries[-1:]]
        await self._network.back(self._server)
        return [tail for _ in jobs]


class Network:
    """How long words take, and which are lost."""

    def __init__(self, random: Random, sleep: Any) -> None:
        self._random = random
        self._sleep = sleep

    def delay(self) -> float:
        """Mostly a millisecond; now and then a tenth of a second."""
        return self._random.choice((0.0, 0.001, 0.001, 0.003, 0.02, 0.1)) * self._random.random()

    async def there(self, server: Server) -> None:
        """Raises StoreUnavailable for a question that does not arrive."""
        await self._sleep(self.delay())
        if server.away or self._random.random() < 0.01:
            raise StoreUnavailable("it did not arrive")

    async def back(self, server: Server) -> None:
        """Raises StoreUnavailable for an answer that does not: what was asked was done."""
        await self._sleep(self.delay())
        if server.away or self._random.random() < 0.01:
            raise StoreUnavailable("no answer came")


class Listening:
    """What the hub knows of `Wakeups`: one subscription connection, in whose order things come, and which may be lost."""

    def __init__(self, server: Server, network: Network, loop: Any, random: Random) -> None:
        self._server = server
        self._network = network
        self._loop = loop
        self._random = random
        self._channels: set[bytes] = set()
        self._life = 0
        self._arrives_at = 0.0
        self.heard: Any = None
        self.confirmed: Any = None
        self.connected = True
        self.reconnects = 0

    def hears(self, channel: bytes) -> bool:
        return self.connected

    def subscribe(self, channel: bytes) -> None:
        self._channels.add(channel)
        if self.connected:
            self._later(lambda: self._arrived(channel))

    def _arrived(self, channel: bytes) -> None:
        if channel in self._channels:
            self._server.subscribers.add(self)
            self._later(lambda: self.confirmed(channel))

    def unsubscribe(self, channel: bytes) -> None:
        self._channels.discard(channel)
        self._server.subscribers.discard(self)

    def publish(self, payload: bytes) -> None:
        self._later(lambda: [self.heard(channel, payload) for channel in list(self._channels)])

    def _later(self, what: Any) -> None:
        """In order; nothing of an earlier connection arrives."""
        life = self._life
        self._arrives_at = max(self._arrives_at + INSTANT, self._loop.time() + self._network.delay())
        self._loop.call_at(self._arrives_at, lambda: what() if life == self._life else None)

    def renew(self, channel: bytes | None = None) -> None:
        self.drop()

    def drop(self) -> None:
        """The connection is gone, with all that was under way on it."""
        self._life += 1
        self.connected = False
        self.reconnects += 1
        self._server.subscribers.discard(self)
        self._loop.call_later(self._random.uniform(0.02, 0.5), self._connect, self._life)

    def _connect(self, life: int) -> None:
        if life != self._life:
            return
        if self._server.away:
            self._loop.call_later(0.1, self._connect, life)
            return
        self.connected = True
        for channel in list(self._channels):
            self.subscribe(channel)
