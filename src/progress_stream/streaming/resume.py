"""Whether a position is found, and what a watcher is told when it is not. Pure: one rule for join, re-read and reconnect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..events import BEGINNING, EventId
from ..jobs import Record

Entry = tuple[EventId, bytes, bytes]
Reason = Literal["trimmed", "lost", "unknown", "malformed"]


@dataclass(frozen=True, slots=True)
class Gap:
    """History that cannot be shown. `id` is where the snapshot stands: right before the first event that follows it."""

    reason: Reason
    id: EventId


@dataclass(frozen=True, slots=True)
class Page:
    """What a watcher gets from one look: a gap to tell first (or none), the events after it, and where it is then."""

    gap: Gap | None
    entries: list[Entry]
    position: EventId


def resume(position: EventId | None, record: Record, entries: list[Entry]) -> Page:
    """`entries` were read from `position` on, inclusively (None, a malformed one: from the first).

    Stops before a number that is missing inside the page: the next look starts there and finds the gap.
    """
    if position is None:
        return _after_gap("malformed", record, entries)
    last = record.control.last
    if position == last or (position == BEGINNING and last.n == 0):
        return Page(None, [], position)
    if not _is_found(position, record, entries):
        return _after_gap(_reason(position, record, entries), record, entries)
    if entries and entries[0][0] == position:
        entries = entries[1:]
    if not entries or entries[0][0].n != position.n + 1:
        # One look is of one moment: what the state counts and the stream does not hold is missing.
        return _after_gap("lost", record, entries)
    return _dense(None, entries, position)


def _is_found(position: EventId, record: Record, entries: list[Entry]) -> bool:
    if not entries:
        return False
    first = entries[0][0]
    if position == BEGINNING:
        return first.n == 1
    return first == position or first.follows(position)


def _reason(position: EventId, record: Record, entries: list[Entry]) -> Reason:
    born = record.control.born
    if position == BEGINNING:
        return "trimmed" if born.n == 1 else "lost"
    if position.epoch > record.control.epoch:
        return "unknown"
    # n is dense over all epochs: after a trimmed event come greater numbers, after a lost one its own number again.
    follows = not entries or entries[0][0].n > position.n
    return "trimmed" if born <= position < record.control.last and follows else "lost"


def _after_gap(reason: Reason, record: Record, entries: list[Entry]) -> Page:
    if not entries:
        return Page(Gap(reason, record.control.last), [], record.control.last)
    first = entries[0][0]
    before = EventId(first.epoch, first.n - 1)
    return _dense(Gap(reason, before), entries, before)


def _dense(gap: Gap | None, entries: list[Entry], position: EventId) -> Page:
    """The entries as far as no number is missing between them; epochs may change on the way."""
    n = position.n
    for index, (id, _, _) in enumerate(entries):
        if id.n != n + 1:
            entries = entries[:index]
            break
        n = id.n
    return Page(gap, entries, entries[-1][0] if entries else position)
