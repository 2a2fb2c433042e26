"""What the scripts publish on a job's channel, read back. Pure; a message may be anybody's, and is believed as little."""

from __future__ import annotations

import re
from typing import Final

from ..events import MAX_PART, EventId, is_job_id

#: The job was deleted: whoever follows it finds a tombstone.
REMOVED: Final = b"removed"
#: The digits reach beyond the year 5000, and no further: a larger number would be the last that lists ever hear of.
_CHANGE: Final = re.compile(rb"([0-9]{1,14})\n([A-Za-z0-9._~-]{1,140})(?:\n([0-9]{0,12}))?").fullmatch
_TYPE: Final = re.compile(rb"[a-z][a-z0-9_.-]{0,63}").fullmatch


def events_of(payload: bytes) -> tuple[EventId, list[tuple[bytes, bytes]]] | None:
    """The first id and the (type, data) pairs of a wake-up; None for what no reporter of ours publishes.

    A line break in somebody else's type or data would shift all pairs after it: each must look like what it is.
    """
    head, *rest = payload.split(b"\n")
    try:
        first = EventId.parse(head.decode("ascii"))
    except ValueError:
        return None
    if len(rest) % 2 or first.n + len(rest) // 2 > MAX_PART:
        return None
    batch = list(zip(rest[::2], rest[1::2], strict=True))
    if not all(_TYPE(type) and data[:1] == b"{" and data[-1:] == b"}" for type, data in batch):
        return None
    return first, batch


def change_of(payload: bytes) -> tuple[str, int, int] | None:
    """Of a word on an owner's channel the job, Redis' time (ms), and in how many milliseconds it will be gone (0: it has changed);
    None for what none of our scripts says."""
    found = _CHANGE(payload)
    if found is None or not is_job_id(job := found[2].decode()):
        return None
    return job, int(found[1]), int(found[3] or 0)
