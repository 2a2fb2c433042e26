"""What the scripts publish on a job's channel, read back. Pure; a message may be anybody's, and is believed as little."""

from __future__ import annotations

import re
from typing import Final

from ..events import EventId

#: The job was deleted: whoever follows it finds a tombstone.
REMOVED: Final = b"removed"
_TYPE: Final = re.compile(rb"[a-z][a-z0-9_.-]{0,63}").fullmatch


def events_of(payload: bytes) -> tuple[EventId, list[tuple[bytes, bytes]]] | None:
    """The first id and the (type, data) pairs of a wake-up; None for what no reporter of ours publishes.

    A line break in somebody else's type or data would shift all pairs after it: each must look like what it is.
    """
    head, *rest = payload.split(b"\n")
    epoch, _, n = head.partition(b"-")
    if len(rest) % 2 or not epoch.isdigit() or not n.isdigit():
        return None
    batch = list(zip(rest[::2], rest[1::2], strict=True))
    if not all(_TYPE(type) and data[:1] == b"{" and data[-1:] == b"}" for type, data in batch):
        return None
    return EventId(int(epoch), int(n)), batch
