"""One job's talk with Redis, in the flusher's thread: takes its attempt, sends what it said, and does what the answers ask for.

Also what its owner's watchers are told of it. When to send is the flusher's to decide; what a lost server lacks is `losses`'.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from .. import events, tracing
from ..errors import AlreadyEnded, NoSuchJob, SequenceHole, StaleAttempt, StoreUnavailable, Tombstoned
from ..events import TERMINAL, Event
from ..jobs import Header
from ..metrics import WorkerTally
from ..settings import Settings
from ..store.answers import Appended, Busy, Created, Rolled, Started, Worn
from ..store.list_commands import listed
from .buffer import Batch
from .link import Link
from .losses import Losses
from .run import Run

log = logging.getLogger(__name__)

#: A running job's sign of life, at the longest: three are missed before it is `stalled`.
SIGN_SECONDS: Final = 5.0
#: Between two words to an owner's list that a running job has moved on.
TELL_SECONDS: Final = 0.25


class Sender:
    """Used by the flusher's thread. Whatever it is asked raises StoreUnavailable while Redis is away, and is then asked again."""

    def __init__(self, link: Link, losses: Losses, settings: Settings, tally: WorkerTally) -> None:
        self._link = link
        self._store = link.store
        self._losses = losses
        self._settings = settings
        self._tally = tally
        self._sign_seconds = min(SIGN_SECONDS, settings.stalled_seconds / 3)

    def serve(self, run: Run) -> None:
        """All that is due of it."""
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
        if run.is_open and now - run.signed_at >= self._sign_seconds:
            self._append(run, None)
        if (run.untold or run.parent_untold) and not run.silent and now - run.told_at >= TELL_SECONDS:
            self._tell(run, None)

    def next_look(self, run: Run, now: float) -> float:
        """When there is something to send of an open run that was just served, of `time.monotonic`, as far as is known."""
        if run.closed and run.drained.is_set():
            return now
        due = run.due(now)
        times = [run.signed_at + self._sign_seconds, now + SIGN_SECONDS if due is None else due]
        if run.untold or run.parent_untold:
            times.append(run.told_at + TELL_SECONDS)
        if run.outcome is not None:
            times.append(now)
        return min(times)

    def create(
        self, header: Header, *, confirmed: bool, arguments: bytes = b"", trace: dict[str, str] | None = None
    ) -> Created:
        """The job's `queued` event, or the note that the broker has its message. `arguments` are kept for a retry."""
        commands = self._store.commands
        event = events.make(header.id, "queued", at=events.text_of(header.created_at))
        if trace:
            kept = tracing.pack(trace)
            self._link.send(commands.put_record(tracing.KEY, header.id, kept, self._settings.state_seconds))
        if not confirmed:
            self.hint(header, "queued")
        created = self._link.send(commands.create(header, event, confirmed=confirmed, arguments=arguments))
        self.hint(header, created.status, done=True)
        return created

    def intervene(self, header: Header, event: Event) -> None:
        """The end of a job of which this process holds no attempt, made first if nothing is known of it."""
        commands = self._store.commands
        queued = events.make(header.id, "queued", at=events.text_of(header.created_at))
        self._link.send(commands.create(header, queued, confirmed=True))
        status = str(event["type"])
        self.hint(header, status)
        call = commands.intervene(header.id, event, statuses=("queued", "running", "retrying"))
        if self._link.send(call) is not None:
            self.hint(header, status, done=True)

    def hint(self, header: Header, state: str, *, done: bool = False) -> None:
        """Where the job is about to be in its owner's lists, or is. A part is in none: it is shown with its job."""
        if header.parent is not None:
            self._link.send(self._store.commands.lists.changed(header.owner, header.id))
            return
        self._link.send(
            self._store.commands.lists.hint(
                header.owner, header.id, header.created_at, header.actor, state, done=done
            )
        )

    def _start(self, run: Run) -> None:
        """Take the attempt, or learn why there is none to take."""
        commands = self._store.commands
        try:
            self.hint(run.header, "running")
            answer = self._link.send(
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
        commands = self._store.commands
        if batch is None:
            call = commands.append(run.header.id, attempt, run.nonce, run.buffer.next_sequence, (), None)
        else:
            file = run.file if batch.ends and batch.lines[-1][0] == "succeeded" else None
            if (status := _becomes(batch)) is not None:
                self.hint(run.header, status)
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
            appended = self._link.send(call)
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
                self._losses.keep(run)
            # Before it counts as taken: what fails here is sent again with the batch, whose answer is known then.
            self._tell(run, _becomes(batch))
            self._note_parent(run, appended.parent)
            run.acknowledge(now, appended.id)
            self._tally.appended += len(batch.lines)
        if appended.cancel_requested:
            run.request_cancel()
        if appended.stalled and batch is None:
            with run.lock:
                run.buffer.poke(time.time())
        self._losses.note(appended.replid, run.header.id)

    def _taken_over(self, run: Run) -> None:
        """Superseded, or the server was promoted without our start: then it holds a lower attempt, and ours is taken again."""
        look = self._link.send(self._store.commands.look(run.header.id))
        attempt = run.attempt or 0
        if look.record is None or look.record.control.attempt >= attempt:
            run.supersede()
            return
        self._begin_again(run, whole=True)

    def _restore(self, run: Run) -> None:
        """Redis was emptied. Whoever was heard lately brings the job back; an old process must not raise the dead."""
        heard = run.heard_at
        if heard is None or time.monotonic() - heard > self._settings.abandoned_seconds:
            run.mute()
            return
        self._begin_again(run, whole=False)

    def _begin_again(self, run: Run, *, whole: bool) -> None:
        commands = self._store.commands
        call = commands.start(
            run.header,
            run.started_event,
            run.nonce,
            may_create=True,
            last=run.last_id,
            least_attempt=run.attempt or 1,
        )
        try:
            self.hint(run.header, "running")
            answer = self._link.send(call)
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
        commands = self._store.commands.spreads
        try:
            answer = self._link.send(commands.release(run.header.id, run.attempt or 0, run.nonce, outcome))
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
        record = self._link.send(self._store.commands.look(job)).record
        if record is not None:
            lists = self._store.commands.lists
            self._link.send(lists.hint(*listed(record.packed), record.control.status, done=True))

    def _replicate(self, run: Run) -> None:
        """Narrows the window in which a failover loses a start or an end; no guarantee."""
        wait = self._settings.replica_wait_ms
        if wait and not self._store.wait_for_replica(wait, run.header.id):
            log.debug("no replica answered in time")

    def _tell(self, run: Run, status: str | None) -> None:
        """Tell who watches the owner's list: at once of another status, else often enough to look alive and no more."""
        now = time.monotonic()
        if status is not None:
            self.hint(run.header, status, done=True)
        elif now - run.told_at < TELL_SECONDS:
            run.untold = True
            return
        elif not self._told_of_change(run):
            run.told_at, run.untold = now, True
            return
        if run.header.parent is not None and (run.parent_untold or status is not None):
            self._link.send(self._store.commands.lists.changed(run.header.owner, run.header.parent))
            run.parent_untold = False
        run.told_at, run.untold = now, False

    def _told_of_change(self, run: Run) -> bool:
        """False where the list's shard is away and the job's is not: the job goes on, and its owner hears of it later."""
        try:
            self._link.send(self._store.commands.lists.changed(run.header.owner, run.header.id))
        except StoreUnavailable:
            if not self._store.is_sharded:
                raise
            return False
        return True


def _becomes(batch: Batch) -> str | None:
    """The status that the job has with this batch; None: the same as before."""
    types = (type for type, _ in reversed(batch.lines))
    return next((type for type in types if type == "retrying" or type in TERMINAL), None)
