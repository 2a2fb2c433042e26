"""Newline-delimited JSON as bytes, and back: one object a line. Refuses what cannot be a line; never repairs it.

What a line means is left to others.
"""

from __future__ import annotations

import json
from typing import Any, Final

from ..errors import InvalidInput

MEDIA_TYPE: Final = "application/x-ndjson"
#: A line longer than this from a server is not an event of ours; the parser stops rather than buffer it.
MAX_LINE_BYTES: Final = 8 * 1024 * 1024


def line(data: bytes, **first: str) -> bytes:
    """The JSON object `data` (one line) as a line, its `first` fields before its own.

    Raises InvalidInput for a line break in `data`, and for what is no object.
    """
    if b"\n" in data or b"\r" in data or not _is_object(data):
        raise InvalidInput("data", "is not an object on one line", "one line of JSON")
    return _joined(b",".join(b'"%b":%b' % (name.encode(), _text(text)) for name, text in first.items()), data)


def stored(id: bytes, type: bytes, data: bytes) -> bytes:
    """The line of an entry read from Redis, of which the writer has checked type and data: its `id`, then the data's fields."""
    if not _is_object(data):
        # Somebody else's entry. That it is there is said, and its number with it: what it holds cannot be.
        return b'{"id":"%b","type":%b}\n' % (id, _text(type.decode("utf-8", "replace")))
    return _joined(b'"id":"%b"' % id, data)


def _is_object(data: bytes) -> bool:
    return data[:1] == b"{" and data[-1:] == b"}"


def _joined(fields: bytes, data: bytes) -> bytes:
    own = data[1:-1].strip()
    return b"{%b%b%b}\n" % (fields, b"," if fields and own else b"", own)


def _text(text: str) -> bytes:
    return json.dumps(text).encode()


class Parser:
    """Bytes in any cuts in, objects out. What is no JSON object on a line of its own is left out; so are empty lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The objects that this chunk completes. Raises InvalidInput when a line grows past MAX_LINE_BYTES."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise InvalidInput("stream", "holds an endless line", f"lines up to {MAX_LINE_BYTES} bytes")
        return [found for text in lines if (found := _object(text)) is not None]


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
