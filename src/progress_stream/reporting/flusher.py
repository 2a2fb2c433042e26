"""The one thread of a process that talks to Redis for its jobs: when to look at which, and the calls that others ask for.

It is bound to its process (a fork starts with none) and begins with the first job. While Redis is away it tries again at growing
pauses; nobody else waits, but for the bounded waits of `wait`. What is said to Redis is `sender`'s, how Redis answers `link`'s.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

from .. import metrics, tracing
from ..errors import ProgressStreamError, StoreUnavailable
from ..events import Event
from ..jobs import Header
from ..metrics import WorkerTally
from ..settings import Settings
from ..store.answers import Created
from ..store.connect import sync_client
from ..store.sync import SyncStore
from .buffer import Rates
from .link import PAUSE_SECONDS, Link
from .losses import Losses
from .run import Run
from .sender import SIGN_SECONDS, Sender

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Events that come this close together share a round trip; own types are promised to leave within 20 ms.
GATHER_SECONDS: Final = 0.004
#: One answer; a server that hangs is tried again after it.
ANSWER_SECONDS: Final = 2.0
#: Calls that wait for Redis to come back; older ones are let go, the sweep and the job's start make up for them.
MOST_CALLS: Final = 1_000
CALL_SECONDS: Final = 60.0
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
        self.tally = WorkerTally(self._count_up)
        self._link = Link(self.store)
        self._losses = Losses(self._link, self._offer_again)
        self._sender = Sender(self._link, self._losses, settings, self.tally)
        self._awake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._runs: list[Run] = []
        self._calls: deque[Answer[Any]] = deque(maxlen=MOST_CALLS)
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
        """See `Sender.create`; it carries the trace of whoever calls."""
        trace = tracing.carried()
        return self.ask(
            partial(self._sender.create, header, confirmed=confirmed, arguments=arguments, trace=trace)
        )

    def intervene(self, header: Header, event: Event) -> Answer[None]:
        """See `Sender.intervene`."""
        return self.ask(partial(self._sender.intervene, header, event))

    @property
    def in_outage(self) -> bool:
        """See `Link.in_outage`."""
        return self._link.in_outage

    def wait(self, done: threading.Event, milliseconds: float) -> bool:
        """True when it is done. Waits no longer, and only once an outage."""
        return self._link.wait(done, milliseconds)

    def wake(self) -> None:
        """There is something to send."""
        if self._thread is None:
            self._begin()
        if not self._awake.is_set():
            self._awake.set()

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
        if self.pid == os.getpid() and not self._link.is_away:
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
                self._link.missed(error)
            except Exception:
                # A fault of ours must not end the thread on which every job of the process depends.
                log.exception("the flusher failed; it goes on")
                time.sleep(PAUSE_SECONDS[1])
            else:
                if whole:
                    self._link.reached()

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
        left = self._link.sent_at + GATHER_SECONDS - time.monotonic()
        if left > 0:
            time.sleep(left)

    def _pause(self) -> float:
        """How long nothing has to be done, as far as is known."""
        if self._calls:
            return 0.0
        now = time.monotonic()
        due = min((run.look_at for run in list(self._runs)), default=now + SIGN_SECONDS)
        return max(0.0, min(due - now, SIGN_SECONDS))

    def _pass(self) -> bool:
        """False where a shard was away, and another was not. Raises StoreUnavailable where Redis is away."""
        now = time.monotonic()
        steps: list[Callable[[], None]] = [partial(self._answer, answer) for answer in list(self._calls)]
        steps += [partial(self._serve, run) for run in list(self._runs) if run.look_at <= now]
        missed = self._each([*steps, partial(self._losses.look, at_work=bool(self._runs))])
        self._losses.forget()
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
            self._link.missed_some(missed[0])
        return bool(missed)

    def _serve(self, run: Run) -> None:
        """Send what is due of it; forget it once it is over."""
        run.begin_look()
        try:
            self._sender.serve(run)
        except StoreUnavailable:
            run.look_again(0.0)
            # Others come first at the next try: what Redis refuses of one job must not hold up the rest.
            with self._lock:
                self._runs.append(self._runs.pop(self._runs.index(run)))
            raise
        except Exception:
            log.exception("job %s: a fault in reporting; the job goes on unheard", run.header.id)
            run.mute()
        if run.silent or run.worn or (run.closed and run.drained.is_set()):
            self._forget(run)
        else:
            run.look_again(self._sender.next_look(run, time.monotonic()))

    def _answer(self, answer: Answer[Any]) -> None:
        try:
            answer.value = self._link.during(answer.call)
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
        with contextlib.suppress(ValueError):
            self._calls.remove(answer)
        answer.done.set()

    def _forget(self, run: Run) -> None:
        with self._lock:
            if run in self._runs:
                self._runs.remove(run)
                self._count(run)
                self.tally.superseded += run.superseded

    def _offer_again(self, ended: Sequence[Run]) -> None:
        with self._lock:
            for run in ended:
                run.offer_again()
                if run not in self._runs:
                    self._runs.append(run)
        self._awake.set()


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
