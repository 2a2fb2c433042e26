"""The forms in which a watcher may take a stream: the same events, other bytes. Pure.

A topic keeps its events as SSE frames, which nearly all watchers take; another form's bytes are made from those when the
first watcher of that form needs them, once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from .. import events
from ..frames import ndjson, sse


class Added(Protocol):
    """Bytes of what the server adds; `data` is a JSON object. Not every form has a place for `retry`."""

    def __call__(
        self, type: str, data: bytes, *, id: str | None = None, retry: int | None = None
    ) -> bytes: ...


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """One form. `from_frame` makes a stored event's bytes of its SSE frame; None: the frame is what is sent."""

    media_type: str
    stored: Callable[[bytes, bytes, bytes], bytes]
    added: Added
    heartbeat: Callable[[], bytes]
    from_frame: Callable[[bytes], bytes] | None = None


def _sse_added(type: str, data: bytes, *, id: str | None = None, retry: int | None = None) -> bytes:
    return sse.encode(retry=retry, id=id, event=type, data=data)


def _sse_ping() -> bytes:
    return sse.encode(event="ping", data=events.encode({"at": events.now_text()}))


def _line_added(type: str, data: bytes, *, id: str | None = None, retry: int | None = None) -> bytes:
    return ndjson.line(data, **({} if id is None else {"id": id}), type=type)


def _line_of_frame(frame: bytes) -> bytes:
    return ndjson.stored(*sse.parts_of_stored(frame)) if frame else b""


_COMMENT: Final = sse.comment()
_PING_LINE: Final = b'{"type":"ping"}\n'

SSE: Final = Format(sse.MEDIA_TYPE, sse.stored, _sse_added, lambda: _COMMENT)
#: With a heartbeat that JavaScript can see.
SSE_PING: Final = Format(sse.MEDIA_TYPE, sse.stored, _sse_added, _sse_ping)
NDJSON: Final = Format(ndjson.MEDIA_TYPE, ndjson.stored, _line_added, lambda: _PING_LINE, _line_of_frame)
#: For who waits for anything to come and takes no bytes: nothing is told while nothing comes.
WAKING: Final = Format("", sse.stored, _sse_added, lambda: b"")
