"""Drives the append and resume scripts against a real Redis, in any order of calls, repeats, zombies, losses and clocks.

`python -m tests.store.machine 200 60` runs so many examples of so many steps, and exits with 3 when one fails.

Reporters call what the flusher calls and answer refusals as it does; watchers resume by the hub's own decision
(`streaming.replay`, `streaming.resume`, `streaming.pages`) on real looks. What must come of it is `model.Held`.
A server that lost its tail is made of an older DUMP and a new replication id, for it comes back by a restart or a promotion; a dump
that somebody puts back into a server that runs on cannot be told from nothing having happened, and no promise covers it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from progress_stream import events, jobs
from progress_stream.errors import AlreadyEnded, NoSuchJob, SequenceHole, StaleAttempt, StoreError
from progress_stream.events import BEGINNING, EventId
from progress_stream.frames.sse import Frame, Parser
from progress_stream.jobs import Header, Record, State
from progress_stream.settings import load
from progress_stream.store.answers import Appended, Started, entry_of
from progress_stream.store.calls import Call
from progress_stream.store.sync import SyncStore
from progress_stream.streaming import pages
from progress_stream.streaming.formats import SSE
from progress_stream.streaming.replay import Shown
from tests.chaos.check import FOUND
from tests.store.model import Held, is_tail
from tests.support.clock import MovingClock
from tests.support.redis import RedisServer

T = TypeVar("T")
Line = tuple[str, bytes]

JOB: Final = "job"
AT: Final = "2026-01-01T00:00:00.000Z"
#: Entries of a page: few, so that most resumes take several.
PAGE: Final = 4
#: Of a stream's node: a stream is trimmed by whole nodes, and short ones make short histories.
NODE_ENTRIES: Final = 4
#: Where a watcher may stand that arrives.
PLACES: Final = ("beginning", "ever", "edge", "edge", "nowhere", "malformed")
#: What a watcher's own fold and the stored state must agree in.
COMPARED: Final = (
    "state", "attempt", "done", "total", "message", "steps", "error", "stalled", "cancel_requested",
)  # fmt: skip


@dataclass(slots=True)
class Sent:
    """One append as it went out, so that it can go out again."""

    call: Call[Appended]
    base: int
    batch: Sequence[Line]
    jump: bool


@dataclass(slots=True)
class Reporter:
    """One attempt, as its process knows it."""

    nonce: str
    attempt: int
    state: State
    last: EventId
    said: list[Line] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    @property
    def is_through(self) -> bool:
        """It has said the end, and says nothing after it."""
        return bool(self.said) and self.said[-1][0] == "succeeded"


@dataclass(slots=True)
class Reader:
    """A watcher over all of its connections. `state` is its own fold; None until it has a beginning or a snapshot."""

    place: EventId | None = BEGINNING
    state: State | None = None
    seen: set[EventId] = field(default_factory=set)


class Machine(RuleBasedStateMachine):
    """One job, its attempts and its watchers; each rule is something that happens to it."""

    def __init__(self, server: RedisServer, clock: MovingClock) -> None:
        super().__init__()
        self._server = server
        self._clock = clock
        self._client = server.client()
        self._header = Header(JOB, "actor", owner="alice", created_at=1_700_000_000_000)
        self._held = Held()
        self._life = 0
        #: Whatever id was ever given, and for what.
        self._ever: dict[EventId, bytes] = {}
        self._dumps: list[tuple[Held, bytes | None, bytes | None]] = []
        self._reporter: Reporter | None = None
        self._reporters: list[Reporter] = []
        self._live = Reader(state=jobs.new(self._header))
        self._readers = [Reader(state=jobs.new(self._header)) for _ in range(3)]
        self._serial = 0

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # Else a step has failed already, and that is to be told.
                for reader in self._readers:
                    self._resume(reader)
        finally:
            self._clock.move(0)
            self._client.close()

    @initialize(history=st.sampled_from((8, 10_000)))
    def begin(self, history: int) -> None:
        """The job as `create` and its first attempt leave it."""
        self._client.flushall()
        self._history = history
        known = load(
            redis_url=self._server.url(), namespace=f"t{uuid4().hex[:8]}", history_events=history, max_starts=10_000
        )  # fmt: skip
        self._store = SyncStore(self._client, known)
        self._commands = self._store.commands
        self._events_key, self._state_key, _ = self._commands.keys.of(JOB)
        queued = self._event("queued")
        created = self._store.send(self._commands.create(self._header, queued, confirmed=True))
        assert created.id is not None
        self._held = Held(there=True, line=(BEGINNING,), has_stream=False)
        self._written(created.id, [events.encode(queued)])
        self._held = replace(self._held, line=self._held.line[1:])
        self._start("first")

    # -- what reporters do

    @rule(count=st.integers(1, 6), counting=st.booleans(), keeps=st.booleans())
    @precondition(lambda self: self._speaks)
    def report(self, count: int, counting: bool, keeps: bool) -> None:
        """Events of the newest attempt; `keeps`: it still has what Redis may have lost."""
        assert self._reporter is not None
        self._say(
            self._reporter, [self._new_event(self._reporter, counting) for _ in range(count)], keeps=keeps
        )

    @rule()
    @precondition(lambda self: self._reporter is not None and self._reporter.sent)
    def retry(self) -> None:
        """The newest call again, for its answer did not come: nothing is written twice, and the answer is the same."""
        assert self._reporter is not None
        self._send_again(self._reporter, self._reporter.sent[-1])

    @rule(which=st.integers(0, 1_000))
    @precondition(lambda self: self._reporter is not None and self._reporter.sent)
    def repeat_late(self, which: int) -> None:
        """Any earlier call once more."""
        assert self._reporter is not None
        self._send_again(self._reporter, self._reporter.sent[which % len(self._reporter.sent)])

    @rule(back=st.integers(1, 8), count=st.integers(1, 3))
    @precondition(lambda self: self._speaks and self._reporter.said)
    def report_over(self, back: int, count: int) -> None:
        """What is known in part: from there on it is appended."""
        reporter = self._reporter
        assert reporter is not None
        first = max(len(reporter.said) - back, 0)
        for event in [self._new_event(reporter, False) for _ in range(count)]:
            self._fold(reporter, event)
        self._deliver(reporter, first + 1, reporter.said[first:], keeps=True)

    @rule()
    @precondition(lambda self: self._reporter is not None)
    def give_sign_of_life(self) -> None:
        """A call without events writes none."""
        assert self._reporter is not None
        self._try(self._reporter, len(self._reporter.said) + 1, [])

    @rule()
    @precondition(lambda self: not self._held.ended)
    def take_over(self) -> None:
        """Another process begins the next attempt, or brings a job that is gone back from its message."""
        self._start(uuid4().hex)

    @rule()
    @precondition(lambda self: self._reporter is not None and self._held.holder == self._reporter.nonce)
    def start_again(self) -> None:
        """The start's answer did not come: the same attempt, and no other event."""
        assert self._reporter is not None
        assert self._reporter.attempt == self._begin(self._reporter.nonce, None, 1).attempt

    @rule(which=st.integers(0, 1_000), count=st.integers(0, 3), repeats=st.booleans())
    @precondition(lambda self: len(self._reporters) > 1)
    def zombie_reports(self, which: int, count: int, repeats: bool) -> None:
        """A worker that was taken for dead goes on, or sends its last call again."""
        held = self._held
        zombies = [one for one in self._reporters if one is not self._reporter and one.nonce != held.holder]
        if not zombies:
            return
        zombie = zombies[which % len(zombies)]
        if repeats and zombie.sent:
            self._send_again(zombie, zombie.sent[-1])
        else:
            batch = [self._line(self._new_event(zombie, False)) for _ in range(count)]
            self._try(zombie, len(zombie.said) + 1, batch)

    @rule(which=st.integers(0, 1_000))
    def zombie_starts(self, which: int) -> None:
        """A start that arrives when a later attempt has begun must not oust it."""
        known = self._held.earlier
        if known:
            self._refused(StaleAttempt, self._start_call(known[which % len(known)], None, 1))

    @rule()
    @precondition(lambda self: self._speaks and self._serial > 12)
    def end(self) -> None:
        """After it nothing is appended."""
        assert self._reporter is not None
        self._say(self._reporter, [self._event("succeeded", self._reporter.attempt, result=None)], keeps=True)

    # -- what others do

    @rule(kind=st.sampled_from(("stalled", "cancelling", "failed")), late=st.booleans())
    def step_in(self, kind: str, late: bool) -> None:
        """The sweep or a cancel: once, and only where all is as it was seen (`late`: it is not). An end only after much."""
        held = self._held
        if kind == "failed" and self._serial < 12:
            return
        there = {"stalled": held.stalled, "cancelling": held.cancelled}.get(kind, False)
        call = self._commands.intervene(
            JOB, self._event(kind), statuses=["running"], attempt=held.attempt + late,
            field={"stalled": "stalled_at", "cancelling": "cancel_at"}.get(kind, ""),
        )  # fmt: skip
        if not held.there or held.ended:
            self._refused(NoSuchJob if not held.there else AlreadyEnded, call)
            return
        id = self._granted(call)
        assert (id is None) == (late or there or held.status != "running"), "stepped in where it must not"
        if id is None:
            return
        self._written(id, [events.encode(self._event(kind, held.attempt))])
        self._held = replace(
            self._held, stalled=held.stalled or kind == "stalled", cancelled=held.cancelled or kind == "cancelling",
            status="failed" if kind == "failed" else held.status,
        )  # fmt: skip

    # -- what becomes of Redis

    @rule(count=st.integers(0, 6))
    def trim(self, count: int) -> None:
        """So many entries stay."""
        self._client.xtrim(self._events_key, maxlen=count, approximate=False)
        kept = self._held.kept
        self._held = replace(self._held, kept=kept[max(len(kept) - count, 0) :])

    @rule()
    def lose_stream(self) -> None:
        """Evicted, or deleted by hand: the state alone is left."""
        self._client.delete(self._events_key)
        self._held = replace(self._held, kept=(), has_stream=False)

    @rule()
    def lose_state(self) -> None:
        """The stream alone is left, which nobody can read without its count."""
        self._client.delete(self._state_key)
        self._gone()

    @rule()
    def flush(self) -> None:
        """Emptied, its scripts too; the replication id stays."""
        self._client.flushall()
        self._client.script_flush()
        self._gone()

    @rule()
    def restart(self) -> None:
        """Another life, and nothing is lost."""
        self._client.execute_command("DEBUG", "CHANGE-REPL-ID")
        self._life += 1

    @rule()
    def dump(self) -> None:
        """What a replica has that hears no more from now on."""
        kept = self._client.dump(self._events_key), self._client.dump(self._state_key)
        self._dumps.append((self._held, *kept))

    @rule(which=st.integers(0, 1_000))
    @precondition(lambda self: self._dumps)
    def fall_back(self, which: int) -> None:
        """That replica is promoted: its tail is lost, and it is another server."""
        held, *dumps = self._dumps[which % len(self._dumps)]
        for key, dump in zip((self._events_key, self._state_key), dumps, strict=True):
            self._client.delete(key)
            if dump is not None:
                self._client.restore(key, 0, dump)
        self.restart()
        self._held = held
        _let_a_millisecond_pass()

    @rule(seconds=st.sampled_from((-600, -90, 0, 90)))
    def move_clock(self, seconds: int) -> None:
        """The server's clock is so far beside the machine's."""
        self._clock.move(seconds)

    # -- what watchers do

    @rule(which=st.integers(0, 2))
    def come_back(self, which: int) -> None:
        """With the last id it has."""
        self._resume(self._readers[which])

    @rule(which=st.integers(0, 2), index=st.integers(0, 1_000), where=st.sampled_from(PLACES))
    def arrive(self, which: int, index: int, where: str) -> None:
        """Another watcher: a new one, one from nowhere, or one whose last event was any that there ever was, or stood right before
        what is kept."""
        reader = self._readers[which] = Reader(self._place(where, index))
        if where == "beginning":
            reader.state = jobs.new(self._header)
        self._resume(reader)

    def _place(self, where: str, index: int) -> EventId | None:
        ids = sorted(self._ever)
        first = self._held.kept[0].n if self._held.kept else 0
        edge = [id for id in ids if id.n + 1 == first] or ids
        places = {
            "beginning": BEGINNING, "ever": ids[index % len(ids)], "edge": edge[index % len(edge)],
            "nowhere": EventId(ids[-1].epoch + 10**9, index), "malformed": None,
        }  # fmt: skip
        return places[where]

    # -- what holds after each step

    @invariant()
    def redis_holds_what_it_must(self) -> None:
        """Every entry, under its id, with its data; and the state is the fold of all events, where all are kept."""
        if not self._held.there:
            assert self._store.send(self._commands.look(JOB)).record is None
            return
        found = [entry for raw in self._client.xrange(self._events_key) if (entry := entry_of(raw))]
        assert self._held.kept == tuple(id for id, _, _ in found), "the stream holds other entries"
        assert all(self._ever[id] == data for id, _, data in found), "an entry holds other data"
        if self._held.is_whole:
            state = jobs.new(self._header)
            for _, _, data in found:
                state = jobs.fold(state, events.decode(data))
            self._agree(state, self._record())

    @invariant()
    def who_stayed_has_all(self) -> None:
        """A watcher that looks after every step."""
        self._resume(self._live)

    # -- how it is done

    @property
    def _speaks(self) -> bool:
        return self._reporter is not None and not self._reporter.is_through

    def _event(self, type: str, attempt: int | None = None, **fields: Any) -> dict[str, Any]:
        return events.make(JOB, type, at=AT, attempt=attempt, **fields)

    def _new_event(self, reporter: Reporter, counting: bool) -> dict[str, Any]:
        """One that is like no other."""
        self._serial += 1
        if counting:
            return self._event(
                "progress", reporter.attempt, done=self._serial, total=1_000, message=f"at {self._serial}"
            )
        return self._event("line", reporter.attempt, data=self._serial)

    @staticmethod
    def _line(event: dict[str, Any]) -> Line:
        return str(event["type"]), events.encode(event)

    def _fold(self, reporter: Reporter, event: dict[str, Any]) -> None:
        reporter.state = jobs.fold(reporter.state, event)
        reporter.said.append(self._line(event))

    def _say(self, reporter: Reporter, said: list[dict[str, Any]], *, keeps: bool) -> None:
        for event in said:
            self._fold(reporter, event)
        base = len(reporter.said) - len(said) + 1
        self._deliver(reporter, base, reporter.said[base - 1 :], keeps=keeps)

    def _deliver(self, reporter: Reporter, base: int, batch: Sequence[Line], *, keeps: bool) -> None:
        """Until Redis has it or the attempt is over, as `reporting.flusher` does it."""
        jump = False
        for _ in range(4):
            refused = self._try(reporter, base, batch, jump=jump)
            if refused is None:
                return
            if isinstance(refused, SequenceHole):
                jump = not keeps
                if keeps:
                    base, batch = refused.last + 1, reporter.said[refused.last :]
            elif isinstance(refused, NoSuchJob):
                self._begin_again(reporter)
                jump = base > 1
            elif isinstance(refused, StaleAttempt) and self._record().control.attempt < reporter.attempt:
                self._begin_again(reporter)
                base, batch = (1, reporter.said) if keeps else (base, batch)
                jump = base > 1
            else:
                self._reporter = None
                return
        raise AssertionError("what a reporter is to do when it is refused does not help it")

    def _try(
        self, reporter: Reporter, base: int, batch: Sequence[Line], *, jump: bool = False
    ) -> Exception | None:
        call = self._commands.append(
            JOB, reporter.attempt, reporter.nonce, base, batch, reporter.state if batch else None, jump=jump
        )
        sent = Sent(call, base, batch, jump)
        refused = self._send_again(reporter, sent)
        if refused is None and batch:
            reporter.sent.append(sent)
        return refused

    def _send_again(self, reporter: Reporter, sent: Sent) -> Exception | None:
        """One call, and whether what it did and answered is what it must. The refusal, if it had to be refused."""
        held, count = self._held, len(sent.batch)
        expected = held.refuses(reporter.nonce, sent.base, count, jump=sent.jump)
        if expected is not None:
            return self._refused(expected, sent.call)
        id = self._granted(sent.call).id
        if held.knows(sent.base, count) or not count:
            assert (held.answer_again(sent.base, count) if count else None) == id, (
                "another answer than before"
            )
            return None
        assert id is not None
        known = max(held.sequence - sent.base + 1, 0)
        self._written(id, [data for _, data in sent.batch[known:]], empty=sent.base > held.sequence + 1)
        reporter.last = id
        self._held = replace(
            self._held, sequence=sent.base + count - 1, answered=(sent.base + count - 1, id), stalled=False,
            status="succeeded" if sent.batch[-1][0] == "succeeded" else held.status,
        )  # fmt: skip
        return None

    def _granted(self, call: Call[T]) -> T:
        try:
            return self._store.send(call)
        except StoreError as error:
            raise AssertionError(f"refused where it must be granted: {error!r}") from error

    def _refused(self, expected: type[Exception], call: Call[Any]) -> Exception:
        try:
            answer = self._store.send(call)
        except expected as error:
            if isinstance(error, SequenceHole):
                assert self._held.sequence == error.last, "a hole that begins elsewhere"
            return error
        raise AssertionError(f"answered {answer} where it must be refused as {expected.__name__}")

    def _start_call(self, nonce: str, last: EventId | None, least: int) -> Call[Any]:
        return self._commands.start(
            self._header, self._event("started"), nonce, may_create=True, last=last, least_attempt=least
        )

    def _start(self, nonce: str) -> None:
        started = self._begin(nonce, None, 1)
        state = jobs.fold(jobs.new(self._header), self._event("started", started.attempt))
        self._reporter = Reporter(nonce, started.attempt, state, started.id)
        self._reporters.append(self._reporter)

    def _begin_again(self, reporter: Reporter) -> None:
        """By a process that still runs: Redis was emptied, or holds a server's contents that has not heard of its attempt."""
        started = self._begin(reporter.nonce, reporter.last, reporter.attempt)
        reporter.attempt, reporter.last = started.attempt, started.id

    def _begin(self, nonce: str, last: EventId | None, least: int) -> Started:
        """A start that must be granted."""
        held = self._held
        started = self._granted(self._start_call(nonce, last, least))
        assert isinstance(started, Started)
        if held.there and held.holder == nonce:
            assert held.answered[1] == started.id
            return started
        if not held.there:
            # Whoever brings the job back counts on from what it was told last: what came before is missing.
            self._held = held = Held(there=True, line=(last or BEGINNING,), has_stream=False)
        assert max(held.attempt + 1, least) == started.attempt
        self._written(started.id, [events.encode(self._event("started", started.attempt))])
        if held.line[0] == BEGINNING:
            self._held = replace(self._held, line=self._held.line[1:])
        self._held = replace(
            self._held, status="running", attempt=started.attempt, holder=nonce, earlier=held.with_earlier(), sequence=0,
            answered=(0, started.id), stalled=False,
        )  # fmt: skip
        return started

    def _written(self, last: EventId, datas: Sequence[bytes], *, empty: bool = False) -> None:
        """These entries came to be, the last of them under this id, after a number that stays empty or none."""
        held = self._held
        before = held.last
        first = before.n + 1 + empty
        ids = [EventId(last.epoch, n) for n in range(first, first + len(datas))]
        assert ids[-1] == last, f"{last} is not the last of {len(datas)} after {before}"
        if held.has_stream and held.life == self._life:
            assert before.epoch == last.epoch, "an epoch began for no reason"
        else:
            assert before.epoch < last.epoch, "no epoch began where something may have been lost"
        for id, data in zip(ids, datas, strict=True):
            assert id not in self._ever, f"{id} was given before"
            self._ever[id] = data
        unused = (EventId(last.epoch, before.n + 1),) if empty else ()
        self._held = replace(
            held, line=(*held.line, *unused, *ids), kept=self._kept_of((*held.kept, *ids)), has_stream=True, life=self._life
        )  # fmt: skip

    def _kept_of(self, all: tuple[EventId, ...]) -> tuple[EventId, ...]:
        """What the append's own trimming left of these: the newest, and no fewer than `history`."""
        kept = tuple(entry[0] for raw in self._client.xrange(self._events_key) if (entry := entry_of(raw)))
        assert is_tail(kept, all), "other entries are kept than the newest"
        assert len(kept) >= min(len(all), self._history), "more was trimmed than may be"
        return kept

    def _gone(self) -> None:
        self._held = Held()
        _let_a_millisecond_pass()

    def _record(self) -> Record:
        record = self._store.send(self._commands.look(JOB)).record
        assert record is not None, "the job is gone"
        return record

    def _agree(self, state: State, record: Record) -> None:
        view = jobs.view(record)
        assert {name: view[name] for name in COMPARED} == {name: state[name] for name in COMPARED}

    def _resume(self, reader: Reader) -> None:
        """As a connection does it; nothing where the job is gone, for then the hub waits for it."""
        held, place = self._held, reader.place
        if not held.there:
            return
        frames, reader.place = self._served(place)
        gaps = [frame for frame in frames if frame.event == "snapshot"]
        ids = [EventId.parse(frame.id) for frame in frames if frame.event != "snapshot"]
        least, most = (1, 10) if place is None else held.owed_gaps(place)
        assert least <= len(gaps) <= most, f"told of {len(gaps)} gaps, and owed {least} to {most}"
        assert held.shown_after(BEGINNING if place is None else place) == ids, "sent other events"
        assert held.last == reader.place, "not where the job is"
        if gaps:
            # Told that another history is shown: an emptied server that was given an old one again shows what was seen before.
            reader.seen.clear()
        assert not reader.seen & set(ids), "sent again"
        reader.seen |= set(ids)
        self._fold_frames(reader, frames)

    def _fold_frames(self, reader: Reader, frames: list[Frame]) -> None:
        """As a client does it; then it must know what Redis knows."""
        through = BEGINNING
        for frame in frames:
            body = events.decode(frame.data.encode())
            if frame.event == "snapshot":
                assert body["gap"]
                reader.state, through = body["state"], EventId.parse(body["through"])
                continue
            id = EventId.parse(frame.id)
            assert self._ever[id] == frame.data.encode(), "sent other data"
            if reader.state is not None and id > through:
                reader.state = jobs.fold(reader.state, body)
        if reader.state is not None:
            self._agree(reader.state, self._record())

    def _served(self, place: EventId | None) -> tuple[list[Frame], EventId]:
        """What `streaming.history` writes from this place on until the watcher would be live, and where it is then."""
        parser, frames = Parser(), list[Frame]()
        for _ in range(len(self._ever) + 5):
            begin = place or BEGINNING
            shown = Shown(begin, self._store.send(self._commands.look(JOB, begin, PAGE)))
            record = shown.look.record
            assert record is not None
            page = shown.page(place)
            if page.gap is not None:
                frames += parser.feed(pages.gap_frame(SSE, page.gap, record))
            frames += parser.feed(shown.piece(place, SSE))
            place = page.position
            if place == record.control.last:
                assert not frames or str(place) == frames[-1].id, "a client would come back to another place"
                return frames, place
        raise AssertionError(f"never comes to the end from {place}")


def _let_a_millisecond_pass() -> None:
    """No server is emptied, or promoted, and written to in the same millisecond, which would be the same epoch."""
    time.sleep(0.002)


@contextmanager
def server_with_clock(folder: Path) -> Iterator[tuple[RedisServer, MovingClock]]:
    """Of the machine's own: it is emptied again and again."""
    clock = MovingClock(folder)
    options = {"stream-node-max-entries": str(NODE_ENTRIES)}
    with RedisServer(folder / "redis", persistent=False, env=clock.env, options=options) as server:
        yield server, clock


def run(
    server: RedisServer,
    clock: MovingClock,
    *,
    examples: int,
    steps: int,
    by_chance: bool,
    shrink: bool = True,
) -> None:
    """Raises AssertionError for the first example that fails; `by_chance`: other examples each time."""
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    profile = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, derandomize=not by_chance,
        phases=phases, report_multiple_bugs=False, suppress_health_check=list(HealthCheck), verbosity=Verbosity.normal,
    )  # fmt: skip
    run_state_machine_as_test(lambda: Machine(server, clock), settings=profile)


def main() -> None:
    examples, steps = map(int, sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder, server_with_clock(Path(folder)) as (server, clock):
        try:
            run(server, clock, examples=examples, steps=steps, by_chance=False, shrink=False)
        except AssertionError as found:
            print(f"found: {found}")
            sys.exit(FOUND)
    print(f"{examples} examples of {steps} steps: all as it must be")


if __name__ == "__main__":
    main()
