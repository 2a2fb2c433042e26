"""The frames a watcher gets from one look at the store, folded where it is live and far behind. Pure."""

from __future__ import annotations

from typing import Any, Final

from .. import events, jobs
from ..events import EventId
from ..frames import sse
from ..jobs import Record
from .resume import Entry, Gap

#: A live connection that is further behind gets consecutive `progress` events folded into the latest.
FOLD_BEYOND: Final = 1_000


def snapshot(record: Record, *, id: EventId | None, reason: str | None) -> bytes:
    """The whole state as one frame; `reason` tells why history is missing, None where it was only not asked for."""
    body: dict[str, Any] = {
        "gap": reason is not None,
        "reason": reason,
        "through": str(record.control.last),
        "state": jobs.view(record),
    }
    return sse.encode(id=None if id is None else str(id), event="snapshot", data=events.encode(body))


def gap_frame(gap: Gap, record: Record) -> bytes:
    return snapshot(record, id=gap.id, reason=gap.reason)


def frames(entries: list[Entry], *, fold: bool) -> bytes:
    """These entries as frames; with `fold`, runs of `progress` are one frame each that says how many it stands for."""
    if fold:
        return b"".join(_folded(entries))
    return b"".join(_frame(entry) for entry in entries)


def _frame(entry: Entry) -> bytes:
    id, type, data = entry
    return sse.stored(str(id).encode(), type, data) if sse.is_frameable(type, data) else b""


def _folded(entries: list[Entry]) -> list[bytes]:
    pieces: list[bytes] = []
    run = 0
    for index, entry in enumerate(entries):
        run = run + 1 if entry[1] == b"progress" else 0
        if run and index + 1 < len(entries) and entries[index + 1][1] == b"progress":
            continue
        pieces.append(_with_count(entry, run) if run > 1 else _frame(entry))
        run = 0
    return pieces


def _with_count(entry: Entry, count: int) -> bytes:
    id, type, data = entry
    try:
        body = events.decode(data)
    except ValueError:
        return _frame(entry)
    return _frame((id, type, events.encode({**body, "folded": count})))
