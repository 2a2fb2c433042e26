"""Server-Sent Events as bytes, and back (WHATWG HTML §9.2). Refuses what cannot be framed; never repairs it.

What a frame means is left to others. JSON in `data` comes with U+0085, U+2028 and U+2029 escaped (`events.encode`).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..errors import InvalidInput

MEDIA_TYPE: Final = "text/event-stream"
#: A line longer than this from a server is not an event of ours; the parser stops rather than buffer it.
MAX_LINE_BYTES: Final = 8 * 1024 * 1024
#: A `retry` of more digits is centuries: ignored, as what is no number is (Python refuses to read 4,301 digits).
_RETRY_DIGITS: Final = 15


def encode(
    *, data: bytes | None = None, event: str | None = None, id: str | None = None, retry: int | None = None
) -> bytes:
    """One frame with its blank line. `data` is one line; `retry` milliseconds.

    The id comes last. §9.2.6 counts it at the blank line, but there are clients (@microsoft/fetch-event-source) that move on with
    the `id:` line alone: cut behind it, they would ask for what follows an event that they never handed over.

    Raises InvalidInput for CR, LF or NUL anywhere: a line break would begin another field, an id with NUL is ignored by
    clients (§9.2.6), and JSON in `data` never holds a bare one.
    """
    lines: list[bytes] = []
    if retry is not None:
        if type(retry) is not int or retry < 0:
            raise InvalidInput("retry", "is not usable", "milliseconds, 0 or more")
        lines.append(b"retry: %d\n" % retry)
    if event is not None:
        lines.append(b"event: %b\n" % _one_line("event", event))
    if data is not None:
        lines.append(b"data: %b\n" % _without_breaks("data", data))
    if id is not None:
        lines.append(b"id: %b\n" % _one_line("id", id))
    lines.append(b"\n")
    return b"".join(lines)


def stored(id: bytes, type: bytes, data: bytes) -> bytes:
    """The frame of an entry read from Redis, of which the writer has checked type and data; the hot path of the hub."""
    return b"event: %b\ndata: %b\nid: %b\n\n" % (type, data, id)


def parts_of_stored(frame: bytes) -> tuple[bytes, bytes, bytes]:
    """The id, type and data that `stored` made this frame of."""
    event, data, id, _ = frame.split(b"\n", 3)
    return id[4:], event[7:], data[6:]


def is_frameable(type: bytes, data: bytes) -> bool:
    """False for an entry that somebody else wrote into the stream and that would break the framing, also of those clients that
    split lines at U+0085, U+2028 and U+2029: ours come with these escaped."""
    return not (
        b"\n" in data or b"\r" in data or b"\n" in type or b"\r" in type or not type
        or b"\xe2\x80\xa8" in data or b"\xe2\x80\xa9" in data or b"\xc2\x85" in data
    )  # fmt: skip


def comment(text: str = "") -> bytes:
    """One comment line and no blank line after it: some clients fire an empty message at every blank line."""
    return b":%b\n" % _one_line("comment", text)


def _one_line(name: str, text: str) -> bytes:
    try:
        return _without_breaks(name, text.encode())
    except UnicodeEncodeError:
        raise InvalidInput(name, "holds a lone surrogate", "text that UTF-8 can hold") from None


def _without_breaks(name: str, line: bytes) -> bytes:
    if b"\n" in line or b"\r" in line or b"\0" in line:
        raise InvalidInput(name, "holds a line break or NUL", "one line of text")
    return line


@dataclass(frozen=True, slots=True)
class Frame:
    """One dispatched event: `id` is the last event id as of this event, `retry` what came with it."""

    event: str
    data: str
    id: str
    retry: int | None = None


class Parser:
    """Bytes in any cuts in, frames out, as §9.2.6 has it: BOM, CR, LF, CRLF, ids with NUL, events without data.

    `last_event_id` moves at a frame's blank line: of a frame that was cut off, the id does not count.
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._at_start = True
        self._after_cr = False
        self._id = ""
        self._reset()

    def _reset(self) -> None:
        self._data: list[str] = []
        self._event = ""
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that this chunk completes. Raises InvalidInput when a line grows past MAX_LINE_BYTES."""
        frames = [frame for line in self._lines(chunk) if (frame := self._take(line)) is not None]
        if len(self._text) > MAX_LINE_BYTES:
            raise InvalidInput("stream", "holds an endless line", f"lines up to {MAX_LINE_BYTES} characters")
        return frames

    def _lines(self, chunk: bytes) -> Iterator[str]:
        text = self._decoder.decode(chunk)
        if self._at_start and text:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if text:
            # A CR has ended its line already; an LF that comes with the next chunk belongs to it.
            if self._after_cr:
                text = text.removeprefix("\n")
            self._after_cr = text.endswith("\r")
        pieces = (self._text + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._text = pieces.pop()
        yield from pieces

    def _take(self, line: str) -> Frame | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) <= _RETRY_DIGITS:
            self.retry = self._retry = int(value)
        return None

    def _dispatch(self) -> Frame | None:
        frame = None
        self.last_event_id = self._id
        if self._data:
            frame = Frame(self._event or "message", "\n".join(self._data), self.last_event_id, self._retry)
        self._reset()
        return frame
