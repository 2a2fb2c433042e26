"""Where a request wants a job's stream to begin, and in which form it takes it."""

from __future__ import annotations

from typing import Final, Literal

from starlette.requests import Request

from ..errors import InvalidInput
from ..events import BEGINNING, EventId
from ..frames import ndjson, sse
from ..streaming import formats
from ..streaming.formats import Format

#: The longest that a long-poll may wait, and how long it does where it does not say: less than proxies cut idle answers at.
MAX_WAIT_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 25.0


class Position:
    """What a request asks for: `id` None when it is malformed or `$`."""

    __slots__ = ("asked", "id", "live", "malformed")

    def __init__(self, text: str) -> None:
        self.asked = text
        self.live = text == "$"
        self.malformed = False
        self.id: EventId | None = None
        if not text:
            self.id = BEGINNING
        elif not self.live:
            try:
                self.id = EventId.parse(text)
            except ValueError:
                self.malformed = True

    def begin(self, last: EventId) -> EventId | None:
        """Where that is for a job whose newest event is `last`; None for a malformed one."""
        return last if self.live else self.id


def position_of(request: Request) -> Position:
    """Where in a job's stream."""
    return Position(position_text(request))


def position_text(request: Request) -> str:
    """The header wins over the URL: a browser sends the same URL again with every reconnect."""
    query = request.query_params
    return (
        request.headers.get("last-event-id") or query.get("last_event_id") or query.get("lastEventId") or ""
    )


def wants_snapshot(request: Request) -> bool:
    """The state first, and no history. With a `Last-Event-ID` it is an ordinary resume."""
    return request.query_params.get("replay") == "snapshot" and not request.headers.get("last-event-id")


Form = Format | Literal["poll"]


def form_of(request: Request) -> Form:
    """An event stream unless the request names another form: EventSource and `curl` alike get one."""
    accept = request.headers.get("accept", "")
    if "wait" in request.query_params:
        return "poll"
    if sse.MEDIA_TYPE in accept:
        return sse_of(request)
    if ndjson.MEDIA_TYPE in accept:
        return formats.NDJSON
    return "poll" if "application/json" in accept else sse_of(request)


def sse_of(request: Request) -> Format:
    """With a heartbeat that JavaScript can see, where that is asked for."""
    return formats.SSE_PING if request.query_params.get("ping") == "event" else formats.SSE


def wait_of(request: Request) -> float:
    """How many seconds a long-poll may wait. Raises InvalidInput."""
    text = request.query_params.get("wait")
    if text is None:
        return WAIT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    # Not a number is in no range.
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise InvalidInput("wait", "is not usable", f"seconds from 0 to {MAX_WAIT_SECONDS:g}")
    return seconds
