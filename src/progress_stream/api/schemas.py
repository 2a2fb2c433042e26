"""The objects that travel, as JSON Schema (2020-12, which OpenAPI 3.1 takes as it is). Pure data.

Nothing here checks anything: what a request may hold is decided where it is read, and what an answer holds where it is made.
"""

from __future__ import annotations

from typing import Any, Final

from .. import events, jobs
from ..auth import tickets
from ..store.keys import STATES
from . import listing, overview, poll

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "number"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC, milliseconds"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Schema) -> Schema:
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def _object(properties: Schema, *optional: str, **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **more}


def _list_of(schema: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": schema, **more}


_NAME: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"}
_WORDS: Final[Schema] = {
    "type": "string", "maxLength": events.MAX_WORDS,
    # Regular expressions that every validator reads have no classes of Unicode: this is only the coarse part.
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$", "description": "one line of printable characters",
}  # fmt: skip
#: Steps on a path. `events` is no job either, but another address, which stands for itself in the table.
_NO_JOBS: Final = [".", ".."]

#: One for each of `jobs.FIELDS`.
_STATE: Final[dict[str, Schema]] = {
    "id": ref("JobId"),
    "actor": _TEXT,
    "queue": _or_null(_TEXT),
    "title": _or_null(_TEXT),
    "owner": {**_or_null(_TEXT), "description": "the subject of the token that submitted it"},
    "state": {"type": "string", "enum": list(STATES)},
    "attempt": {**_or_null(_COUNT), "description": "null until the first start"},
    "max_attempts": _or_null(_COUNT),
    "run_at": {**_or_null(_TIME), "description": "when a delayed job may begin"},
    "next_at": {**_or_null(_TIME), "description": "when the next attempt may begin"},
    "done": {**_or_null(_NUMBER), "description": "never falls, and never passes total, within an attempt"},
    "total": _or_null(_NUMBER),
    "unit": _or_null(_TEXT),
    "rate": {**_or_null(_NUMBER), "description": "units a second"},
    "eta": {**_or_null(_NUMBER), "description": "seconds; null while there is too little to go by"},
    "message": _or_null(_TEXT),
    "steps": _list_of(ref("Step"), maxItems=jobs.MAX_STEPS),
    "parent": _or_null(_TEXT),
    "parts": {"description": "reserved"},
    "retry_of": _or_null(_TEXT),
    "stalled": {**_FLAG, "description": "its worker gave no sign for a while"},
    "cancel_requested": _FLAG,
    "error": _or_null(ref("Error")),
    "result": {"description": "what the actor returned, if it is JSON of up to 48 KiB"},
    "created_at": _TIME,
    "started_at": _or_null(_TIME),
    "finished_at": _or_null(_TIME),
    "updated_at": _TIME,
    "seen_at": {**_or_null(_TIME), "description": "the last sign of its worker"},
    "last_event_id": ref("EventId"),
    "waiting_for": {**_or_null(_TEXT), "description": "what a queued job lacks"},
}

SCHEMAS: Final[dict[str, Schema]] = {
    "JobId": {
        "type": "string", "pattern": r"^[A-Za-z0-9._-]{1,128}(~(0|[1-9][0-9]{0,8}))?$", "not": {"enum": _NO_JOBS},
        "description": "with ~ and a number: a part of a job that was spread over many messages",
    },
    "EventId": {
        "type": "string", "pattern": "^(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})$", "examples": ["1764000000000-7"],
        "description": "<epoch>-<n>: compare it for equality, as a whole, and hand it back as you got it",
    },
    "Step": _object({"name": _or_null(_TEXT), "state": _or_null(_TEXT), "seconds": _or_null(_NUMBER)}),
    "Error": _object({"type": _TEXT, "message": _TEXT}),
    "State": _object(_STATE, description="All events of a job, folded."),
    "ListedState": _object(
        {name: schema for name, schema in _STATE.items() if name != "result"},
        description="A state as lists show it: without its result.",
    ),
    "Page": _object(
        {
            "jobs": _list_of(ref("ListedState"), maxItems=listing.MAX_LIMIT),
            "next": {**_or_null(_TEXT), "description": "the cursor of the next page; null: there is none"},
        }
    ),
    "Event": _object(
        {
            "id": ref("EventId"), "job": ref("JobId"), "type": _TEXT, "at": _TIME,
            "attempt": {**_COUNT, "description": "from `started` on"},
            "done": _NUMBER, "total": _NUMBER, "unit": _TEXT, "rate": _NUMBER, "eta": _NUMBER, "message": _TEXT,
            "step": _TEXT, "error": ref("Error"), "next_at": _TIME, "result": {}, "result_dropped": _TEXT,
            "silent_seconds": _NUMBER,
            "folded": {**_COUNT, "description": "how many progress events this one stands for"},
        },
        "id", "attempt", "done", "total", "unit", "rate", "eta", "message", "step", "error", "next_at", "result",
        "result_dropped", "silent_seconds", "folded",
        description="What the data of a frame holds (there the id is the frame's own), with whatever an actor's own type adds.",
    ),
    "Snapshot": _object(
        {
            "gap": _FLAG,
            "reason": _or_null(_TEXT),
            "through": {**ref("EventId"), "description": "events up to here are folded into the state already"},
            "state": ref("State"),
        },
        description="The data of a `snapshot`: history is missing (gap), or was not asked for.",
    ),
    "Poll": _object(
        {
            "events": _list_of(ref("Event"), maxItems=poll.MOST_EVENTS),
            "more": {**_FLAG, "description": "ask again at once"},
            "gap": _FLAG, "reason": _or_null(_TEXT), "through": ref("EventId"),
            "last_event_id": {**ref("EventId"), "description": "where to ask from next"},
            "state": ref("State"),
        }
    ),
    "Actor": _object(
        {
            "name": _NAME, "title": _or_null(_TEXT),
            "schema": {"type": "object", "description": "JSON Schema of its arguments; a file has format: binary"},
        }
    ),
    "Actors": _object({"actors": _list_of(ref("Actor"))}),
    "NewJob": _object(
        {
            "actor": _NAME, "args": {"type": "object", "description": "arguments by name"},
            "title": _or_null(_WORDS),
        },
        "args", "title",
        additionalProperties=False,
    ),
    "NewJobForm": _object(
        {
            "actor": _NAME, "title": _WORDS,
            "file": {"type": "string", "format": "binary", "description": "or under the argument's own name"},
        },
        "title", "file",
        additionalProperties={"type": "string", "description": "an argument, read by the actor's schema"},
    ),
    "NewTicket": _object(
        {
            "jobs": _list_of(
                ref("JobId"), minItems=1, maxItems=tickets.MAX_JOBS, description="left out: all of the caller's"
            )
        },
        "jobs",
        additionalProperties=False,
    ),
    "Ticket": _object({"token": _TEXT, "expires_at": _TIME}),
    "Config": _object(
        {
            "streaming": {**_FLAG, "description": "false: poll"}, "poll_seconds": _NUMBER, "heartbeat_seconds": _NUMBER,
            "version": _TEXT,
            "login": {**_or_null(_TEXT), "description": "where to sign in"},
        }
    ),
    "SignedOut": _object({"location": _TEXT}),
    "Status": _object({"status": _TEXT}),
    "Stream": _object(
        {
            "job": {**_or_null(_TEXT), "description": "null: the stream of a list"}, "owner": _or_null(_TEXT),
            "address": _or_null(_TEXT), "lag": _COUNT, "unsent_bytes": _COUNT, "sent_bytes": _COUNT,
            "age_seconds": _NUMBER, "state": {"type": "string", "enum": ["blocked", "live", "catching up"]},
        }
    ),
    "Streams": _object({"streams": _list_of(ref("Stream")), "total": _COUNT}),
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri-reference"}, "title": _TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599}, "detail": _TEXT,
            "field": {**_TEXT, "description": "of bad input: which"},
            "announced": _list_of(_TEXT, description="the actors that there are, where the one asked for is not"),
        },
        "field", "announced",
        description="RFC 9457",
    ),
}  # fmt: skip

#: The parameters' own.
LIMIT: Final[Schema] = {
    "type": "integer", "minimum": 1, "maximum": listing.MAX_LIMIT, "default": listing.DEFAULT_LIMIT,
}  # fmt: skip
STATE_NAME: Final[Schema] = _STATE["state"]
OWNER: Final[Schema] = _WORDS
JOBS: Final[Schema] = _list_of(_TEXT, maxItems=overview.MAX_JOBS, minItems=1)
