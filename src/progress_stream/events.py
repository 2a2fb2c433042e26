"""What an event is: its types, its id, its JSON. Refuses what is not one; knows no state, no Redis, no HTTP."""

from __future__ import annotations

import json
import math
import re
import time
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from .errors import InvalidEvent, InvalidInput

Event = dict[str, Any]

TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
#: The types that this package writes itself; an actor's own type is none of these.
BUILT_IN: Final = TERMINAL | {
    "queued",
    "started",
    "progress",
    "step",
    "log",
    "part",
    "stalled",
    "cancelling",
    "retrying",
}
#: What the server adds to a response, in no stream.
SERVER_ADDED: Final = frozenset({"position", "snapshot", "busy", "expired", "draining", "ping"})
#: Names that EventSource itself dispatches or that the list stream uses: an own event of that name could not be told apart.
RESERVED: Final = BUILT_IN | SERVER_ADDED

#: Both halves of an id are unsigned 64-bit numbers in Redis.
MAX_PART: Final = 2**64 - 1
#: Characters of a title or an owner.
MAX_WORDS: Final = 1_000
_NUMBER = r"(0|[1-9][0-9]{0,19})"
_EVENT_ID = re.compile(rf"{_NUMBER}-{_NUMBER}", re.ASCII)
_JOB_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_PART_ID = re.compile(r"[A-Za-z0-9._-]{1,128}~(0|[1-9][0-9]{0,8})", re.ASCII)
_OWN_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.ASCII)
_ACTOR = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", re.ASCII)

#: Some clients split lines at these three although the standard does not (str.splitlines does).
_LINE_BREAKS_OF_OTHERS: Final = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
#: Stands in an event's JSON where the attempt's number belongs.
_ATTEMPT_MARK: Final = 987_654_321_987_654


class EventId(NamedTuple):
    """`<epoch>-<n>`: the id of one entry of a job's stream."""

    epoch: int
    n: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.n}"

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Raises ValueError for anything but two numbers below 2^64 with a `-` between and no leading zero."""
        match = _EVENT_ID.fullmatch(text)
        if match is None:
            raise ValueError("not an event id")
        epoch, n = int(match[1]), int(match[2])
        if epoch > MAX_PART or n > MAX_PART:
            raise ValueError("not an event id")
        return cls(epoch, n)

    def follows(self, earlier: EventId) -> bool:
        """Continuity: the direct successor in the same epoch."""
        return self.epoch == earlier.epoch and self.n == earlier.n + 1


BEGINNING: Final = EventId(0, 0)


def check_job_id(text: object) -> str:
    """A job id that a caller may give. Raises InvalidInput."""
    if not isinstance(text, str) or not _JOB_ID.fullmatch(text) or text in {".", "..", "events"}:
        raise InvalidInput(
            "job", "is not a job id", "1 to 128 of A-Z a-z 0-9 . _ -, none of '.', '..', 'events'"
        )
    return text


def is_job_id(text: str) -> bool:
    """True for every id a job can have, that of a part included."""
    return bool(_PART_ID.fullmatch(text)) or (
        bool(_JOB_ID.fullmatch(text)) and text not in {".", "..", "events"}
    )


def check_actor_name(text: object) -> str:
    """An actor's or a report's name. Raises InvalidInput."""
    if not isinstance(text, str) or not _ACTOR.fullmatch(text):
        raise InvalidInput(
            "actor", "is not an actor's name", "a letter or _, then up to 127 of A-Z a-z 0-9 . _ -"
        )
    return text


def check_words(name: str, text: object) -> str:
    """A title's or an owner's words: one line to show. Raises InvalidInput.

    Spaces of all scripts and the joiners that emoji and Persian are written with pass, although Python calls them unprintable.
    """
    if isinstance(text, str) and len(text) <= MAX_WORDS and all(map(_may_be_shown, text)):
        return text
    raise InvalidInput(name, "is not usable", f"text of up to {MAX_WORDS:,} printable characters")


def _may_be_shown(character: str) -> bool:
    return character.isprintable() or character in "\u200c\u200d" or unicodedata.category(character) == "Zs"


def check_own_type(name: object) -> str:
    """The name of an event type of the actor's own. Raises InvalidEvent."""
    if not isinstance(name, str) or not _OWN_TYPE.fullmatch(name):
        raise InvalidEvent("type", f"{name!r:.80} is not an event type", "[a-z][a-z0-9_.-]{0,63}")
    if name in RESERVED:
        raise InvalidEvent("type", f"{name!r} is a type of progress_stream's own", "any other name")
    return name


def text_of(ms: int) -> str:
    """RFC 3339, UTC, milliseconds."""
    at = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def now_text() -> str:
    """This machine's time: what an event's `at` says."""
    return text_of(time.time_ns() // 1_000_000)


def ms_of(text: str) -> int:
    """The milliseconds since 1970 of a text made by `text_of`. Raises ValueError."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def is_time(text: str) -> bool:
    """Whether `ms_of` can read it."""
    try:
        return ms_of(text) >= 0
    except (ValueError, OverflowError):
        return False


def make(job: str, type: str, *, at: str, attempt: int | None = None, **fields: Any) -> Event:
    """One event's data: `job`, `type`, `at`, `attempt` (from `started` on), then the type's fields that are known.

    Raises InvalidEvent for a field of the wrong shape.
    """
    event: Event = {"job": job, "type": type, "at": at}
    if attempt is not None:
        event["attempt"] = attempt
    for name, value in fields.items():
        if value is None and name != "result":
            continue
        check = _CHECKS.get(name)
        if check is not None:
            check(name, value)
        event[name] = value
    return event


def _number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise InvalidEvent(name, f"{value!r:.80} is not usable", "a number from 0 to 2^53")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidEvent(name, f"a {type(value).__name__} is not usable", "text")


def _problem(name: str, value: object) -> None:
    if not isinstance(value, Mapping) or set(value) != {"type", "message"}:
        raise InvalidEvent(name, "is not usable", "an object of type and message")


_CHECKS = {
    "done": _number, "total": _number, "rate": _number, "eta": _number, "silent_seconds": _number,
    "unit": _text, "message": _text, "step": _text, "level": _text, "error": _problem,
}  # fmt: skip


def encode(event: Mapping[str, Any]) -> bytes:
    """One line of JSON in UTF-8. Raises InvalidEvent for what is not JSON: NaN, lone surrogates, foreign objects."""
    return encode_any(event)


def split_at_attempt(event: Event) -> tuple[bytes, bytes, bytes]:
    """An event's JSON before the attempt's number, which only a script knows, after it, and whole without an attempt."""
    plain = {name: value for name, value in event.items() if name != "attempt"}
    before, _, after = encode(
        {"job": None, "type": None, "at": None} | plain | {"attempt": _ATTEMPT_MARK}
    ).partition(str(_ATTEMPT_MARK).encode())
    return before, after, encode(plain)


def encode_any(value: object) -> bytes:
    """The same for a value that need be no object: a result."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if not text.isascii():
            text = text.translate(_LINE_BREAKS_OF_OTHERS)
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            "data", f"holds a lone surrogate at character {error.start}", "text that UTF-8 can hold"
        ) from None
    except RecursionError:
        raise InvalidEvent("data", "is nested too deeply or holds itself", "JSON") from None
    except (TypeError, ValueError) as error:
        raise InvalidEvent(
            "data", f"is not JSON: {error}", "JSON: objects, lists, text, finite numbers, true, false, null"
        ) from None


def decode_any(data: bytes) -> Any:
    """A value that `encode_any` can write again. Raises ValueError for what `json` alone lets pass: NaN and the infinities, lone
    surrogates, nesting without end."""
    text = data.decode()
    try:
        if text.count("[") + text.count("{") > _SPARE_LEVELS:
            # What is nested almost too deeply to be read could not be written from inside an answer.
            _READER.decode("[" * _SPARE_LEVELS + text + "]" * _SPARE_LEVELS)
        value = _READER.decode(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if "\\u" in text:  # An escape may be half a character.
        encode_any(value)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("holds a number that is none")
    return value


_READER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
_SPARE_LEVELS: Final = 100


def decode(data: bytes) -> Event:
    """The object in one event's data. Raises ValueError for anything but a JSON object in UTF-8 that `encode` can write again."""
    event = decode_any(data)
    if not isinstance(event, dict):
        raise ValueError("an event is a JSON object")
    return event
