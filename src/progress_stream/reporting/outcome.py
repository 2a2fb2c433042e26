"""What the end of an attempt says to its watchers: an error without a traceback, a result that is small enough. Pure."""

from __future__ import annotations

from typing import Any, Final

from .. import events
from ..errors import InvalidEvent

#: A result larger than this is dropped: every watcher would be sent it; a file is the place for more.
RESULT_BYTES: Final = 48 * 1024
#: What else the `succeeded` event holds.
_REST_BYTES: Final = 1_024
_MESSAGE_CHARACTERS: Final = 2_000


def error_of(error: BaseException | None, otherwise: str = "it was given up") -> dict[str, str]:
    """`{type, message}` of an exception: never its traceback, always text that UTF-8 can hold."""
    if error is None:
        return {"type": "Failed", "message": otherwise}
    return {"type": type(error).__name__, "message": text_of(error)}


def text_of(error: BaseException) -> str:
    """An exception's own words."""
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    return text[:_MESSAGE_CHARACTERS].encode("utf-8", "replace").decode()


def result_of(result: Any, event_bytes: int) -> dict[str, Any]:
    """The fields of `succeeded`: the result, or null and the reason why it was dropped."""
    limit = min(RESULT_BYTES, event_bytes - _REST_BYTES)
    try:
        size = len(events.encode({"result": result}))
    except InvalidEvent as error:
        return {"result": None, "result_dropped": error.fault[:200]}
    if size > limit:
        return {"result": None, "result_dropped": f"{size} bytes as JSON; at most {limit} are kept"}
    return {"result": result}
