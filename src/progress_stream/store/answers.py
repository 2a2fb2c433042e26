"""What Redis answers, as values, and how they are read out of its replies. What it is asked is `commands`' and its neighbours'.

Others can write to the same Redis: what a job's look holds is checked, and what is no job of this version is told apart.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from .. import events, jobs
from ..errors import UnknownForm
from ..events import EventId
from ..jobs import Record

log = logging.getLogger(__name__)

#: The last millisecond that RFC 3339 can write.
_LAST_MOMENT_MS: Final = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Created:
    """What `create` found: `id` is the `queued` event's when it made the job, None when one was there.

    `claimed`: a job that was there, and whose message is now for this caller alone to send.
    """

    id: EventId | None
    status: str = "queued"
    fingerprint: str = ""
    confirmed: bool = False
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    attempt: int
    id: EventId
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class Worn:
    """The job was begun MAX_STARTS times in a row without an end: it is not begun again."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else works on this part and gave a sign lately: it must not be begun twice before so many milliseconds."""

    milliseconds: int


@dataclass(frozen=True, slots=True)
class Rolled:
    """What a part's word did to its parent."""

    moved: bool = False
    follow_up_due: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """`id` of the last event of the call; None for a mere sign of life."""

    id: EventId | None
    cancel_requested: bool
    stalled: bool
    replid: str
    parent: Rolled = Rolled()


@dataclass(frozen=True, slots=True)
class Look:
    """Everything of one job at one moment of one server. `now` in that server's milliseconds."""

    role: str
    replid: str
    record: Record | None
    tombstone: bool
    entries: list[tuple[EventId, bytes, bytes]]
    now: int
    #: What lies there is no job that this version knows: somebody else wrote it, or (`newer`) a later release. Without a record.
    foreign: bool = False
    newer: bool = False


def id_of(text: bytes) -> EventId:
    """An event's id as a script or a stream gives it."""
    epoch, _, n = text.partition(b"-")
    return EventId(int(epoch), int(n))


def rolled_of(reply: list[int]) -> Rolled:
    """The last three of an append's answer; of a job that is no part it has none."""
    return Rolled(*map(bool, reply)) if reply else Rolled()


def look_of(reply: Any) -> Look:
    """The answer of `read.lua`. Never refuses what lies there: one job that cannot be read must not take others with it."""
    role, replid, fields, entries, now = reply
    record, foreign, newer = None, False, False
    try:
        record = _record(fields)
    except UnknownForm:
        _warn_of_form()
        foreign = newer = True
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError):
        foreign = True
    return Look(
        role.decode(), replid.decode(), record, fields[1] is not None,
        [entry for raw in entries if (entry := entry_of(raw)) is not None], now, foreign, newer,
    )  # fmt: skip


def entry_of(raw: Any) -> tuple[EventId, bytes, bytes] | None:
    """(id, type, data) of an entry; one that another program wrote without our fields keeps its place with empty ones."""
    id, values = raw
    if values is None:
        return None
    if len(values) == 4 and isinstance(values, list) and values[0] == b"t" and values[2] == b"d":
        return (
            id_of(id),
            values[1],
            values[3],
        )  # As our scripts write it: a dict for each costs as much as all the rest.
    # A script's answer is flat; redis-py makes a dict of a plain XRANGE's.
    pairs = values if isinstance(values, dict) else dict(zip(values[::2], values[1::2], strict=False))
    return id_of(id), pairs.get(b"t", b""), pairs.get(b"d", b"")


def _record(fields: list[bytes | None]) -> Record | None:
    control, _, packed, seen, stalled, cancel, end, file, confirmed, fingerprint, spread = fields
    if control is None or packed is None:
        return None
    return Record(
        packed=jobs.unpack(packed),
        control=jobs.Control.read(events.decode_any(control)),
        seen_at=_moment(seen), stalled_at=_moment(stalled), cancel_at=_moment(cancel),
        end=None if end is None else jobs.check_end(events.decode(end)), file=None if file is None else events.decode(file),
        confirmed=confirmed == b"1", fingerprint=(fingerprint or b"").decode(),
        spread=None if spread is None else jobs.Spread.read(events.decode(spread)),
    )  # fmt: skip


@cache
def _warn_of_form() -> None:
    """Once a process: while releases are mixed, each look at such a job would say it."""
    log.warning(
        "jobs are stored in a form that this release does not know (it knows %d): a newer one wrote them, and they are left alone",
        jobs.FORM,
    )


def _moment(text: bytes | None) -> int | None:
    """Milliseconds since 1970, as `events.text_of` can say them."""
    if text is None:
        return None
    moment = int(text)
    if not 0 <= moment <= _LAST_MOMENT_MS:
        raise ValueError("a moment that no clock shows")
    return moment
