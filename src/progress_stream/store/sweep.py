"""Somebody owns time: looks at jobs whose time has come, and steps in where `verdicts.verdict` says so.

Workers run it, and the web server too: a lease lets one of them sweep at a time. Who calls it, and when, is left to them.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Final

from .. import events
from ..errors import AlreadyEnded, NoSuchJob, StoreError, Tombstoned
from ..events import TERMINAL, EventId
from ..jobs import Record
from ..settings import Settings
from ..verdicts import Follow, Limits, Lose, Stall, Tidy, Wait, verdict
from .answers import Look
from .calls import Command
from .commands import last_look_seconds
from .keys import parent_of, partition_of
from .list_commands import listed
from .relisting import Relisting
from .sync import SyncStore

log = logging.getLogger(__name__)

#: Longest time between two sweeps: `stalled` is promised at STALLED_SECONDS + 10 s.
EVERY_SECONDS: Final = 4.0
#: Jobs of one partition looked at in one sweep; more wait for the next.
_AT_ONCE: Final = 100
#: Of each sweep, for what a server of a Cluster has lost: well within the lease.
_RELIST_SECONDS: Final = 1.0
#: Between two looks at what a deleted job may have left.
_TOMBSTONE_MS: Final = 3_600_000
#: Between two looks at what is no job of this version.
_FOREIGN_MS: Final = 600_000


class Sweeper:
    """One process' hand in the sweep. `forget_files` is called with the id of a job that has expired, `send` with a message that
    its broker should have had; a process that cannot send leaves it to one that can."""

    def __init__(
        self,
        store: SyncStore,
        settings: Settings,
        forget_files: Callable[[str], None] | None = None,
        send: Callable[[bytes], None] | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._send = send
        self._limits = Limits(settings.stalled_seconds * 1000, settings.abandoned_seconds * 1000)
        self._last_look_ms = last_look_seconds(settings) * 1000 + 1_000
        self._forget_files = forget_files or (lambda job: None)
        self._relisting = Relisting(store)
        self._name = uuid.uuid4().hex

    def run_once(self) -> int:
        """Sweep if nobody else does; the number of jobs stepped into. Raises StoreUnavailable."""
        commands = self._store.commands
        if not self._store.send(commands.lease(self._name, int(EVERY_SECONDS * 1000) - 500)):
            return 0
        now = self._store.send(commands.clock())
        due = self._store.send(commands.due(now, _AT_ONCE))
        stepped_in = sum(self._settle(job) for job in due)
        self._relisting.go_on(_RELIST_SECONDS)
        return stepped_in

    def _settle(self, job: str) -> int:
        look = self._store.send(self._store.commands.look(job))
        partition = partition_of(job)
        if look.foreign:
            # A later version's, perhaps, after this one was brought back: it keeps its files and its place.
            log.warning("job %s: what lies there is no job that this version knows", job)
            self._store.send(self._store.commands.postpone(partition, job, look.now + _FOREIGN_MS))
            return 0
        if look.record is None or look.record.terminal:
            if look.record is None:
                self._forget_files(job)
                self._store.send(self._after_its_end(partition, job, look))
            else:
                self._see_to_ended(partition, look.record, look.now)
            return 0
        match verdict(look.record, look.now, self._limits):
            case Wait(None):
                self._store.send(self._store.commands.settle(partition, job))
                return 0
            case Wait(until):
                self._store.send(self._store.commands.postpone(partition, job, until or 0))
                return 0
            case Stall(silent):
                return self._stall(job, look.record, silent, look.now)
            case Lose(message):
                return self._lose(job, look.record, message, look.now)
            case Tidy():
                self._tidy(look.record)
                self._store.send(self._store.commands.settle(partition, job))
                return 1
            case Follow():
                return self._follow(job)

    def _after_its_end(self, partition: int, job: str, look: Look) -> Command[None]:
        """A deleted job's worker may live and save one more file: come again for as long as the tombstone stands."""
        if look.tombstone:
            return self._store.commands.postpone(partition, job, look.now + _TOMBSTONE_MS)
        return self._store.commands.settle(partition, job)

    def _see_to_ended(self, partition: int, record: Record, now: int) -> None:
        """It has just ended and was spread; or it expires soon."""
        finished_at = str(record.packed["finished_at"] if record.end is None else record.end["at"])
        last_look = events.ms_of(finished_at) + self._settings.state_seconds * 1000 - self._last_look_ms
        if parent_of(record.packed["id"]) is not None and now >= last_look:
            # It lives as long as its parent, which may not have ended.
            last_look = self._end_of_parent(record.packed["id"], now) or last_look
        if record.spread is not None and now < last_look:
            self._tidy(record)
            self._store.send(
                self._store.commands.lists.hint(*listed(record.packed), record.control.status, done=True)
            )
        if now < last_look:
            self._store.send(self._store.commands.postpone(partition, record.packed["id"], last_look))
        else:
            self._unlist(partition, record)

    def _end_of_parent(self, job: str, now: int) -> int | None:
        """When to look again at a part whose parent is open; None: it has ended or is gone."""
        record = self._store.send(self._store.commands.look(parent_of(job) or job)).record
        return None if record is None or record.terminal else now + self._settings.state_seconds * 1000

    def _tidy(self, record: Record) -> None:
        """What is open of its parts is cancelled, and they live no longer than it does."""
        commands = self._store.commands.spreads
        for first, last in commands.ranges(record):
            self._store.send(commands.tidy(record.packed["id"], first, last))

    def _follow(self, job: str) -> int:
        """Whoever learned that the last part had ended did not live to send what follows."""
        commands = self._store.commands.spreads
        message = self._store.send(commands.follow_up(job))
        if self._send is None or message is None:
            return 0
        self._send(message)
        self._store.send(commands.sent(job, [0]))
        self._store.send(self._store.commands.settle(partition_of(job), job))
        return 1

    def _unlist(self, partition: int, record: Record) -> None:
        """It expires soon: it leaves its owner's lists while it is still known whose it is. Then its files are next."""
        owner, job, _, actor = listed(record.packed)
        now = self._store.send(self._store.commands.lists.unlist(owner, job, actor, self._last_look_ms))
        self._store.send(self._store.commands.postpone(partition, job, now + self._last_look_ms))

    def _stall(self, job: str, record: Record, silent_ms: int, now: int) -> int:
        event = events.make(job, "stalled", at=events.text_of(now), silent_seconds=silent_ms // 1000)
        due = self._limits.abandoned_ms - silent_ms
        return self._step_in(job, record, event, field="stalled_at", due_ms=max(due, 1))

    def _lose(self, job: str, record: Record, message: str, now: int) -> int:
        event = events.make(job, "failed", at=events.text_of(now), error={"type": "Lost", "message": message})
        return self._step_in(job, record, event)

    def _step_in(
        self, job: str, record: Record, event: events.Event, *, field: str = "", due_ms: int | None = None
    ) -> int:
        call = self._store.commands.intervene(
            job, event, statuses=[record.control.status], attempt=record.control.attempt, seen_at=record.seen_at, field=field,
            due_ms=due_ms,
        )  # fmt: skip
        status = str(event["type"])
        if status in TERMINAL:
            self._store.send(self._store.commands.lists.hint(*listed(record.packed), status))
        try:
            done: EventId | None = self._store.send(call)
        except (AlreadyEnded, NoSuchJob, Tombstoned):
            return 0
        if done is None:
            return 0
        if status in TERMINAL:
            self._store.send(self._store.commands.lists.hint(*listed(record.packed), status, done=True))
        else:
            self._store.send(self._store.commands.lists.changed(record.packed["owner"], job))
        log.warning("job %s: %s", job, event["type"], extra={"job": job, "type": event["type"]})
        return 1


__all__ = ["EVERY_SECONDS", "StoreError", "Sweeper"]
