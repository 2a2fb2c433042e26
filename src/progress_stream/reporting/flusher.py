"""The one thread of a process that talks to Redis for its jobs: sends what they said, brings back what they must know.

It is bound to its process (a fork starts with none) and begins with the first job. While Redis is away it tries again at growing
pauses; nobody else waits, but for the bounded waits of `wait`.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

from .. import events, metrics, tracing
from ..errors import (
    AlreadyEnded,
    NoSuchJob,
    ProgressStreamError,
    SequenceHole,
    StaleAttempt,
    StoreUnavailable,
    Tombstoned,
)
from ..events import TERMINAL, Event
from ..jobs import Header
from ..metrics import WorkerTally
from ..settings import Settings
from ..store.calls import Call, Command
from ..store.commands import Appended, Busy, Created, Rolled, Started, Worn
from ..store.connect import sync_client
from ..store.list_commands import listed
from ..store.sync import SyncStore
from .buffer import Batch, Rates
from .run import Run

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A running job's sign of life: three are missed before it is `stalled`.
SIGN_SECONDS: Final = 5.0
#: Events that come this close together share a round trip; own types are promised to leave within 20 ms.
GATHER_SECONDS: Final = 0.004
#: Pauses while Redis is away: the first and the longest.
PAUSE_SECONDS: Final = (0.05, 2.0)
#: How long an ended job's last events are kept, for a server that was promoted without them.
REOFFER_SECONDS: Final = 60.0
#: How often to look whether Redis was emptied.
MARKER_SECONDS: Final = 5.0
#: One answer; a server that hangs is tried again after it.
ANSWER_SECONDS: Final = 2.0
#: Before the jobs of a shard that is away are tried again beside those of the others.
SHARD_PAUSE_SECONDS: Final = 0.2
#: Calls that wait for Redis to come back; older ones are let go, the sweep and the job's start make up for them.
MOST_CALLS: Final = 1_000
CALL_SECONDS: Final = 60.0
#: Between two words to an owner's list that a running job has moved on.
TELL_SECONDS: Final = 0.25
#: How often numbers for Prometheus are brought up to date; a scrape comes more seldom.
PUBLISH_SECONDS: Final = 1.0
#: What a process that ends gives its last events.
GOODBYE_SECONDS: Final = 1.0


class Answer(Generic[T]):
    """What a call will have been answered."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.call = call
        self.asked_at = time.monotonic()
        self.done = threading.Event()
        self.value: T | None = None
        self.error: ProgressStreamError | None = None


class Flusher:
    """See the module. `flusher_of` gives a process its one."""

    def __init__(self, settings: Settings) -> None:
        if settings.redis_url is None:
            raise ValueError("reporting needs redis_url")
        self.settings = settings
        self.pid = os.getpid()
        self.rates = Rates(settings.event_bytes, settings.log_rate, settings.log_burst)
        client = sync_client(settings.redis_url, connections=2, timeout_seconds=ANSWER_SECONDS, retries=0)
        self.store = SyncStore(client, settings)
        self._awake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._runs: list[Run] = []
        self._ended: deque[tuple[float, Run]] = deque()
        self._calls: deque[Answer[Any]] = deque(maxlen=MOST_CALLS)
        self._away_since: float | None = None
        self._sending_since: float | None = None
        self._answers = False
        self._failures = 0
        self._sent_at = 0.0
        self._replids: dict[int | None, str] = {}
        self._markers: dict[str | None, str] = {}
        self._marker_at = 0.0
        self._leaving = False
        self.tally = WorkerTally(self._count_up)
        self._published_at = 0.0

    # For everybody

    def run(self, header: Header, *, may_create: bool) -> Run:
        """A new attempt; its start is on its way to Redis."""
        run = Run(header, self.rates, self.wake, may_create=may_create)
        with self._lock:
            self._runs.append(run)
        self.wake()
        return run

    def ask(self, call: Callable[[], T]) -> Answer[T]:
        """Have something asked of Redis in this thread's turn; it is asked again until Redis answers."""
        answer = Answer(call)
        self._calls.append(answer)
        self.wake()
        return answer

    def create(self, header: Header, *, confirmed: bool, arguments: bytes = b"") -> Answer[Created]:
        """The job's `queued` event, or the note that the broker has its message. `arguments` are kept for a retry."""
        event = events.make(header.id, "queued", at=events.text_of(header.created_at))
        trace = tracing.carried()

        def call() -> Created:
            if trace:
                commands = self.store.commands
                kept = tracing.pack(trace)
                self.store.send(
                    commands.put_record(tracing.KEY, header.id, kept, self.settings.state_seconds)
                )
            if not confirmed:
                self._hint(header, "queued")
            commands = self.store.commands
            created = self.store.send(
                commands.create(header, event, confirmed=confirmed, arguments=arguments)
            )
            self._hint(header, created.status, done=True)
            return created

        return self.ask(call)

    def intervene(self, header: Header, event: Event) -> Answer[None]:
        """The end of a job of which this process holds no attempt, made first if nothing is known of it."""

        def call() -> None:
            commands = self.store.commands
            queued = events.make(header.id, "queued", at=events.text_of(header.created_at))
            self.store.send(commands.create(header, queued, confirmed=True))
            status = str(event["type"])
            self._hint(header, status)
            call = commands.intervene(header.id, event, statuses=("queued", "running", "retrying"))
            if self.store.send(call) is not None:
                self._hint(header, status, done=True)

        return self.ask(call)

    def wait(self, done: threading.Event, milliseconds: float) -> bool:
        """True when it is done. Waits no longer, and only once an outage: what is known to be away is not waited for again."""
        budget = milliseconds / 1000
        deadline = time.monotonic() + budget
        trouble = (self._away_since if self._is_away else None) or self._sending_since
        if trouble is not None:
            deadline = min(deadline, trouble + budget)
        return done.wait(max(0.0, deadline - time.monotonic()))

    def wake(self) -> None:
        """There is something to send."""
        if self._thread is None:
            self._begin()
        if not self._awake.is_set():
            self._awake.set()

    @property
    def _is_away(self) -> bool:
        """Nothing was answered since it went away. A server that is back has answered before all that waited is with it."""
        return self._away_since is not None and not self._answers

    def flush(self, seconds: float) -> None:
        """Wait until nothing is left to send, but no longer."""
        deadline = time.monotonic() + seconds
        for run in list(self._runs):
            run.drained.wait(max(0.0, deadline - time.monotonic()))
        for answer in list(self._calls):
            answer.done.wait(max(0.0, deadline - time.monotonic()))

    # The thread

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="progress-stream-flusher", daemon=True
                )
                self._thread.start()
                atexit.register(self._leave)

    def _leave(self) -> None:
        if self.pid == os.getpid() and not self._is_away:
            self.flush(GOODBYE_SECONDS)

    def _work(self) -> None:
        while True:
            pause = self._pause()
            if pause > 0:
                self._awake.wait(pause)
            self._awake.clear()
            self._gather()
            try:
                self._publish()
                whole = self._pass()
            except StoreUnavailable as error:
                self._missed(error)
            except Exception:
                # A fault of ours must not end the thread on which every job of the process depends.
                log.exception("the flusher failed; it goes on")
                time.sleep(PAUSE_SECONDS[1])
            else:
                if whole:
                    self._reached()

    def _publish(self) -> None:
        now = time.monotonic()
        if now - self._published_at >= PUBLISH_SECONDS and metrics.wanted():
            self._published_at = now
            self.tally.publish()

    def _count_up(self) -> None:
        """What the runs have counted."""
        with self._lock:
            self.tally.buffered = sum(self._count(run) for run in self._runs)

    def _count(self, run: Run) -> int:
        """Takes over what a run has counted since; how many of its events wait."""
        with run.lock:
            buffer = run.buffer
            self.tally.coalesced += buffer.coalesced
            self.tally.dropped += buffer.dropped
            buffer.coalesced = buffer.dropped = 0
            return 0 if run.silent else buffer.waiting

    def _gather(self) -> None:
        left = self._sent_at + GATHER_SECONDS - time.monotonic()
        if left > 0:
            time.sleep(left)

    def _pause(self) -> float:
        """How long nothing has to be done, as far as is known."""
        now = time.monotonic()
        times = [now + SIGN_SECONDS]
        for run in list(self._runs):
            due = run.due(now)
            times.append(min(due if due is not None else now + SIGN_SECONDS, run.signed_at + SIGN_SECONDS))
            if run.attempt is None or (run.closed and run.drained.is_set()):
                times.append(now)
            if run.untold or run.parent_untold:
                times.append(run.told_at + TELL_SECONDS)
            if run.outcome is not None and not run.silent:
                times.append(now)
        if self._calls:
            times.append(now)
        return max(0.0, min(times) - now)

    def _missed(self, error: StoreUnavailable) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("progress is kept in memory: %s", error)
        self._sending_since = None
        self._answers = False
        first, longest = PAUSE_SECONDS
        pause = min(longest, first * 2 ** min(self._failures, 10))
        self._failures += 1
        time.sleep(pause * random.uniform(0.5, 1.0))

    def _missed_some(self, error: StoreUnavailable) -> None:
        """One shard of several is away: the jobs of the others are not held up by it."""
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("progress of some jobs is kept in memory: %s", error)
        time.sleep(SHARD_PAUSE_SECONDS)

    def _reached(self) -> None:
        if self._away_since is not None:
            log.warning("Redis is back after %.1f seconds", time.monotonic() - self._away_since)
        self._away_since = None
        self._failures = 0

    def _send(self, call: Call[T] | Command[T]) -> T:
        self._sending_since = self._sent_at = time.monotonic()
        try:
            answer = self.store.send(call)
        finally:
            self._sending_since = None
        self._answers = True
        return answer

    def _pass(self) -> bool:
        """False where a shard was away, and another was not. Raises StoreUnavailable where Redis is away."""
        steps: list[Callable[[], None]] = [partial(self._answer, answer) for answer in list(self._calls)]
        steps += [partial(self._serve_and_forget, run) for run in list(self._runs)]
        missed = self._each([*steps, self._look_at_marker])
        self._forget_ended()
        return not missed

    def _each(self, steps: Sequence[Callable[[], None]]) -> bool:
        """Take all of these steps; True when one was missed. One server that is away ends it: the others would wait as long."""
        missed: list[StoreUnavailable] = []
        for step in steps:
            try:
                step()
            except StoreUnavailable as error:
                if not self.store.is_sharded:
                    raise
                missed.append(error)
        if missed and len(missed) == len(steps):
            raise missed[0]
        if missed:
            self._missed_some(missed[0])
        return bool(missed)

    def _serve_and_forget(self, run: Run) -> None:
        self._serve_safely(run)
        if run.silent or run.worn or (run.closed and run.drained.is_set()):
            self._forget(run)

    def _answer(self, answer: Answer[Any]) -> None:
        self._sending_since = self._sent_at = time.monotonic()
        try:
            answer.value = answer.call()
        except StoreUnavailable:
            if time.monotonic() - answer.asked_at < CALL_SECONDS:
                raise
            answer.error = StoreUnavailable("Redis was away too long")
        except ProgressStreamError as error:
            answer.error = error
        except Exception:
            # Asked again it would fail again, and hold up all that other jobs ask.
            log.exception("a fault in reporting; a call to Redis is given up")
            answer.error = StoreUnavailable("the call could not be made")
        finally:
            self._sending_since = None
        with contextlib.suppress(ValueError):
            self._calls.remove(answer)
        answer.done.set()

    def _serve_safely(self, run: Run) -> None:
        try:
            self._serve(run)
        except StoreUnavailable:
            # Others come first at the next try: what Redis refuses of one job must not hold up the rest.
            with self._lock:
                self._runs.append(self._runs.pop(self._runs.index(run)))
            raise
        except Exception:
            log.exception("job %s: a fault in reporting; the job goes on unheard", run.header.id)
            run.mute()

    def _serve(self, run: Run) -> None:
        if run.silent or run.worn:
            return
        if run.attempt is None:
            self._start(run)
        now = time.monotonic()
        batch = run.take(now)
        while batch is not None and not run.silent:
            self._append(run, batch)
            batch = run.take(time.monotonic())
        if run.outcome is not None and not run.silent and run.attempt is not None:
            self._release(run, run.outcome)
        if run.is_open and now - run.signed_at >= SIGN_SECONDS:
            self._append(run, None)
        if (run.untold or run.parent_untold) and not run.silent and now - run.told_at >= TELL_SECONDS:
            self._tell(run, None)

    def _start(self, run: Run) -> None:
        """Take the attempt, or learn why there is none to take."""
        commands = self.store.commands
        try:
            self._hint(run.header, "running")
            answer = self._send(
                commands.start(run.header, run.started_event, run.nonce, may_create=run.may_create)
            )
        except AlreadyEnded as error:
            run.end_by_others(error.state)
        except StaleAttempt:
            run.supersede()
        except Tombstoned:
            run.delete()
        except NoSuchJob:
            run.mute()
        else:
            self._take(run, answer)

    def _take(self, run: Run, answer: Started | Worn | Busy) -> None:
        if isinstance(answer, Busy):
            run.postpone(answer.milliseconds)
            return
        if isinstance(answer, Worn):
            run.wear_out()
            return
        self._replicate(run)
        self._tell(run, "running")
        if answer.cancel_requested:
            run.request_cancel()
        run.began(time.monotonic(), answer.attempt, answer.id)

    def _append(self, run: Run, batch: Batch | None) -> None:
        """Send a batch, or a sign of life; and do what the answer asks for."""
        attempt = run.attempt or 0
        commands = self.store.commands
        if batch is None:
            call = commands.append(run.header.id, attempt, run.nonce, run.buffer.next_sequence, (), None)
        else:
            file = run.file if batch.ends and batch.lines[-1][0] == "succeeded" else None
            if (status := _becomes(batch)) is not None:
                self._hint(run.header, status)
            call = commands.append(
                run.header.id,
                attempt,
                run.nonce,
                batch.base,
                batch.lines,
                batch.state,
                jump=batch.jump,
                file=file,
            )
        try:
            appended = self._send(call)
        except SequenceHole as hole:
            with run.lock:
                run.buffer.resend(hole.last)
        except StaleAttempt:
            self._taken_over(run)
        except AlreadyEnded as error:
            run.end_by_others(error.state)
        except NoSuchJob:
            self._restore(run)
        except Tombstoned:
            run.mute()
        else:
            self._accepted(run, batch, appended)

    def _accepted(self, run: Run, batch: Batch | None, appended: Appended) -> None:
        now = time.monotonic()
        if batch is None:
            run.signed_at = run.heard_at = now
            self._note_parent(run, appended.parent)
        else:
            if batch.ends:
                self._replicate(run)
                self._ended.append((now, run))
            # Before it counts as taken: what fails here is sent again with the batch, whose answer is known then.
            self._tell(run, _becomes(batch))
            self._note_parent(run, appended.parent)
            run.acknowledge(now, appended.id)
            self.tally.appended += len(batch.lines)
        if appended.cancel_requested:
            run.request_cancel()
        if appended.stalled and batch is None:
            with run.lock:
                run.buffer.poke(time.time())
        self._note_replid(appended.replid, run.header.id)

    def _taken_over(self, run: Run) -> None:
        """Superseded, or the server was promoted without our start: then it holds a lower attempt, and ours is taken again."""
        look = self._send(self.store.commands.look(run.header.id))
        attempt = run.attempt or 0
        if look.record is None or look.record.control.attempt >= attempt:
            run.supersede()
            return
        self._begin_again(run, whole=True)

    def _restore(self, run: Run) -> None:
        """Redis was emptied. Whoever was heard lately brings the job back; an old process must not raise the dead."""
        heard = run.heard_at
        if heard is None or time.monotonic() - heard > self.settings.abandoned_seconds:
            run.mute()
            return
        self._begin_again(run, whole=False)

    def _begin_again(self, run: Run, *, whole: bool) -> None:
        commands = self.store.commands
        call = commands.start(
            run.header,
            run.started_event,
            run.nonce,
            may_create=True,
            last=run.last_id,
            least_attempt=run.attempt or 1,
        )
        try:
            self._hint(run.header, "running")
            answer = self._send(call)
        except AlreadyEnded as error:
            run.end_by_others(error.state)
        except StaleAttempt:
            run.supersede()
        except (NoSuchJob, Tombstoned):
            run.mute()
        else:
            self._take(run, answer)
            with run.lock:
                if whole:
                    run.buffer.resend(0)
                else:
                    run.buffer.skip()
                if not run.buffer.closed:
                    run.buffer.poke(time.time())

    def _release(self, run: Run, outcome: dict[str, Any]) -> None:
        """The actor of a job that was spread has returned: from here on its parts have it."""
        commands = self.store.commands.spreads
        try:
            answer = self._send(commands.release(run.header.id, run.attempt or 0, run.nonce, outcome))
        except StaleAttempt:
            run.supersede()
        except AlreadyEnded as error:
            run.end_by_others(error.state)
        except (NoSuchJob, Tombstoned):
            run.mute()
        else:
            if answer.ended:
                self._tell_of_end(run.header.id)
            else:
                self._tell(run, None)
            run.follow_up_due = answer.follow_up_due
            run.released()

    def _note_parent(self, run: Run, rolled: Rolled) -> None:
        """What a part's word did to its parent, for those who watch the owner's list."""
        parent = run.header.parent
        if parent is None:
            return
        run.follow_up_due = run.follow_up_due or rolled.follow_up_due
        run.parent_untold = run.parent_untold or rolled.moved
        if rolled.ended:
            self._tell_of_end(parent)

    def _tell_of_end(self, job: str) -> None:
        """A job that its parts have ended: where it belongs is in its own state."""
        record = self._send(self.store.commands.look(job)).record
        if record is not None:
            lists = self.store.commands.lists
            self.store.send(lists.hint(*listed(record.packed), record.control.status, done=True))

    def _replicate(self, run: Run) -> None:
        """Narrows the window in which a failover loses a start or an end; no guarantee."""
        wait = self.settings.replica_wait_ms
        if wait and not self.store.wait_for_replica(wait, run.header.id):
            log.debug("no replica answered in time")

    def _hint(self, header: Header, state: str, *, done: bool = False) -> None:
        """Where the job is about to be in its owner's lists, or is. A part is in none: it is shown with its job."""
        if header.parent is not None:
            self.store.send(self.store.commands.lists.changed(header.owner, header.id))
            return
        self.store.send(
            self.store.commands.lists.hint(
                header.owner, header.id, header.created_at, header.actor, state, done=done
            )
        )

    def _tell(self, run: Run, status: str | None) -> None:
        """Tell who watches the owner's list: at once of another status, else often enough to look alive and no more."""
        now = time.monotonic()
        if status is not None:
            self._hint(run.header, status, done=True)
        elif now - run.told_at < TELL_SECONDS:
            run.untold = True
            return
        elif not self._told_of_change(run):
            run.told_at, run.untold = now, True
            return
        if run.header.parent is not None and (run.parent_untold or status is not None):
            self.store.send(self.store.commands.lists.changed(run.header.owner, run.header.parent))
            run.parent_untold = False
        run.told_at, run.untold = now, False

    def _told_of_change(self, run: Run) -> bool:
        """False where the list's shard is away and the job's is not: the job goes on, and its owner hears of it later."""
        try:
            self.store.send(self.store.commands.lists.changed(run.header.owner, run.header.id))
        except StoreUnavailable:
            if not self.store.is_sharded:
                raise
            return False
        return True

    def _forget(self, run: Run) -> None:
        with self._lock:
            if run in self._runs:
                self._runs.remove(run)
                self._count(run)
                self.tally.superseded += run.superseded

    # Losses of the server

    def _note_replid(self, replid: str, job: str) -> None:
        place = self.store.place_of(job)
        if self._replids.get(place, replid) != replid:
            self._offer_again()
        self._replids[place] = replid

    def _look_at_marker(self) -> None:
        """FLUSHALL leaves the replid as it is; a random marker tells it."""
        now = time.monotonic()
        if now - self._marker_at < MARKER_SECONDS or not (self._ended or self._runs):
            return
        self._marker_at = now
        for tag in self.store.tags():
            marker = self._send(self.store.commands.marker(uuid.uuid4().hex, tag))
            if self._markers.get(tag, marker) != marker:
                self._offer_again()
            self._markers[tag] = marker
        self._look_at_shards()

    def _look_at_shards(self) -> None:
        """In a Cluster the answers to other jobs need not be of the server that had the last words of these."""
        ended = [run.header.id for _, run in self._ended]
        for shard in {self.store.shard_of(job) for job in ended} - {None}:
            there = [job for job in ended if self.store.shard_of(job) == shard]
            look = self._send(self.store.commands.look(there[0]))
            for job in there:
                self._note_replid(look.replid, job)

    def _offer_again(self) -> None:
        """Another server, or an emptied one: it may lack the last words of jobs that ended a moment ago."""
        with self._lock:
            for _, run in self._ended:
                with run.lock:
                    run.buffer.offer_last()
                if run not in self._runs:
                    self._runs.append(run)
                run.drained.clear()
        self._ended.clear()
        self._awake.set()

    def _forget_ended(self) -> None:
        now = time.monotonic()
        while self._ended and now - self._ended[0][0] > REOFFER_SECONDS:
            self._ended.popleft()


def _becomes(batch: Batch) -> str | None:
    """The status that the job has with this batch; None: the same as before."""
    types = (type for type, _ in reversed(batch.lines))
    return next((type for type in types if type == "retrying" or type in TERMINAL), None)


_flushers: dict[tuple[str | None, str], Flusher] = {}
_flushers_lock = threading.Lock()


def flusher_of(settings: Settings) -> Flusher:
    """This process' flusher for that Redis and namespace."""
    with _flushers_lock:
        key = (settings.redis_url, settings.namespace)
        if key not in _flushers:
            _flushers[key] = Flusher(settings)
        return _flushers[key]


def _after_fork() -> None:
    """A child has none of the parent's threads, and must not touch its connections."""
    global _flushers_lock
    _flushers_lock = threading.Lock()
    _flushers.clear()


os.register_at_fork(after_in_child=_after_fork)
