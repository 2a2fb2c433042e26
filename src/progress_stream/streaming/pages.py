"""The frames a watcher gets from one look at the store, folded where it is live and far behind. Pure."""

from __future__ import annotations

from typing import Any, Final

from .. import events, jobs
from ..events import EventId
from ..frames import sse
from ..jobs import Record
from .formats import Format
from .resume import Entry, Gap

#: A live connection that is further behind gets consecutive `progress` events folded into the latest.
FOLD_BEYOND: Final = 1_000


def snapshot(format: Format, record: Record, *, id: EventId | None, reason: str | None) -> bytes:
    """The whole state as one frame; `reason` tells why history is missing, None where it was only not asked for."""
    body: dict[str, Any] = {
        "gap": reason is not None,
        "reason": reason,
        "through": str(record.control.last),
        "state": jobs.view(record),
    }
    return format.added("snapshot", events.encode(body), id=None if id is None else str(id))


def gap_frame(format: Format, gap: Gap, record: Record) -> bytes:
    return snapshot(format, record, id=gap.id, reason=gap.reason)


def frames(format: Format, entries: list[Entry]) -> bytes:
    """These entries as frames."""
    return b"".join(frame(format, entry) for entry in entries)


def frame(format: Format, entry: Entry) -> bytes:
    """One entry as a frame; empty for what somebody else wrote and cannot be framed."""
    id, type, data = entry
    return format.stored(b"%d-%d" % id, type, data) if sse.is_frameable(type, data) else b""


def folded(entries: list[Entry]) -> list[Entry]:
    """Runs of `progress` as one entry each, that says how many it stands for."""
    kept: list[Entry] = []
    run = 0
    for index, entry in enumerate(entries):
        run = run + 1 if entry[1] == b"progress" else 0
        if run and index + 1 < len(entries) and entries[index + 1][1] == b"progress":
            continue
        kept.append(_with_count(entry, run) if run > 1 else entry)
        run = 0
    return kept


def _with_count(entry: Entry, count: int) -> Entry:
    id, type, data = entry
    try:
        body = events.decode(data)
    except ValueError:
        return entry
    return id, type, events.encode({**body, "folded": count})
