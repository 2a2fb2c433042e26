"""`GET /openapi.json`: the HTTP surface for programs, as OpenAPI 3.1. One table of operations; the objects are in `schemas`.

It describes and decides nothing: `tests/contract/test_openapi.py` holds it to the routes and to what a server really answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from .. import __version__, events
from ..auth.bearer import COOKIE, PARAMETER
from ..auth.who import ADMIN, READ, WRITE
from ..frames import ndjson, sse
from . import etags, problems
from .pages import ASSET_TYPES
from .position import MAX_WAIT_SECONDS, WAIT_SECONDS
from .schemas import JOBS, LIMIT, OWNER, SCHEMAS, STATE_NAME, Schema, ref

_JSON: Final = "application/json"
Answer = dict[str, Any]

# -- the parts that operations share


def _header(description: str, *, always: bool = True) -> Schema:
    return {"description": description, "required": always, "schema": {"type": "string"}}


_ETAG: Final = {"ETag": _header("Of this content: send it as If-None-Match.")}
_RETRY_AFTER: Final = {"Retry-After": _header("Seconds; drawn anew each time.")}
_REQUEST_ID: Final = {
    "X-Request-ID": _header("The request's own, or one made here: it is in the server's log.")
}


def _answer(description: str, content: Schema | None = None, headers: Schema | None = None) -> Answer:
    answer: Answer = {"description": description, "headers": {**(headers or {}), **_REQUEST_ID}}
    return answer if content is None else {**answer, "content": content}


def _json(schema: Schema, description: str, headers: Schema | None = None) -> Answer:
    return _answer(description, {_JSON: {"schema": schema}}, headers)


def _problem(description: str, headers: Schema | None = None) -> Answer:
    return _answer(description, {problems.MEDIA_TYPE: {"schema": ref("Problem")}}, headers)


_CHALLENGE: Final = {"WWW-Authenticate": _header("RFC 6750 §3.")}
#: One for each status: what it means is the same on every route.
_PROBLEMS: Final[dict[int, Answer]] = {
    400: _problem("The request is no HTTP, or its form is no form."),
    401: _problem("No token, or a bad one.", _CHALLENGE),
    403: _problem(
        "A scope is missing, or a cookie came from elsewhere.",
        {"WWW-Authenticate": _header("RFC 6750 §3, where it is a scope.", always=False)},
    ),
    404: _problem("Not there, or not the caller's."),
    409: _problem("The job's state, or an earlier request, does not allow it."),
    410: _problem("A file that the job was given is gone."),
    413: _problem("Larger than a limit allows; the detail names it."),
    415: _problem("A body of another media type."),
    422: _problem("Bad input: `field` says where."),
    429: _problem("Too many streams.", _RETRY_AFTER),
    503: _problem("Not now.", _RETRY_AFTER),
}  # fmt: skip
_NOT_MODIFIED: Final = _answer("Not modified.", headers=_ETAG)


def _parameter(name: str, place: str, schema: Schema, description: str = "", **more: Any) -> Schema:
    described = {"description": description} if description else {}
    return {"name": name, "in": place, "schema": schema, "required": place == "path", **described, **more}


_TEXT: Final[Schema] = {"type": "string"}
#: What may begin and end a header's text (Latin-1): HTTP itself takes spaces there away.
_SEEN: Final = r"[!-~\u00a1-\u00ac\u00ae-\u00ff]"
_PARAMETERS: Final[dict[str, Schema]] = {
    "id": _parameter("id", "path", ref("JobId")),
    "path": _parameter("path", "path", _TEXT, "The file's path, slashes and all."),
    "if_none_match": _parameter("If-None-Match", "header", _TEXT, "An ETag: 304 while it is the same."),
    "idempotency_key": _parameter(
        "Idempotency-Key", "header", {"type": "string", "pattern": f"^{_SEEN}([ {_SEEN[1:]}{{0,253}}{_SEEN})?$"},
        "The same key, caller and content give the same job again.",
    ),
    "last_event_id": _parameter(
        "Last-Event-ID", "header", _TEXT,
        "Where to begin: after this event. Empty or 0-0: the first. $: only what comes from now on. Wins over the URL.",
    ),
    "last_event_id_url": _parameter("last_event_id", "query", _TEXT, "As Last-Event-ID."),
    "last_event_id_url_camel": _parameter("lastEventId", "query", _TEXT, "As Last-Event-ID."),
    "replay": _parameter("replay", "query", {"type": "string", "enum": ["snapshot"]}, "The state first, and no history."),
    "ping": _parameter("ping", "query", {"type": "string", "enum": ["event"]}, "A heartbeat that JavaScript can see."),
    "wait": _parameter(
        "wait", "query", {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS, "default": WAIT_SECONDS},
        "Seconds: one answer in JSON as soon as there is an event, or with none after so long.",
    ),
    "limit": _parameter("limit", "query", LIMIT, "Rows of a page."),
    "parent": _parameter("parent", "query", ref("JobId"), "The parts of this job, in the order of their numbers."),
    "cursor": _parameter("cursor", "query", {"type": "string", "minLength": 1}, "`next` of the page before."),
    "state": _parameter("state", "query", STATE_NAME),
    "actor": _parameter("actor", "query", {"type": "string", "minLength": 1, "maxLength": 255}),
    "owner": _parameter("owner", "query", OWNER, f"For {ADMIN}: whose jobs; empty: those of nobody."),
    "jobs": _parameter(
        "jobs", "query", JOBS, "Ids with commas between; left out: all of the caller's, those made later too.",
        style="form", explode=False,
    ),
    "link": _parameter(PARAMETER, "query", _TEXT, "A token, taken once: 303 to the clean address, with the cookie set."),
}  # fmt: skip
_POSITION: Final = ("last_event_id", "last_event_id_url", "last_event_id_url_camel", "replay", "ping")

_SECURITY_SCHEMES: Final[Schema] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "cookie": {
        "type": "apiKey", "in": "cookie", "name": COOKIE,
        "description": "The same JWT. What changes something must then come from this very origin.",
    },
    "ticket": {
        "type": "apiKey", "in": "query", "name": PARAMETER,
        "description": "From POST /tickets, for EventSource and links, which can carry no header.",
    },
}  # fmt: skip

_STREAM_WORDS: Final = (
    "WHATWG HTML §9.2. Each frame's data is one line of JSON: an Event, or what the server adds: position, snapshot (Snapshot), "
    "busy, expired, draining, ping. Endless until the job ends."
)
_LIST_STREAM_WORDS: Final = (
    "WHATWG HTML §9.2. `job` with a ListedState, `gone` with {id}, and what the server adds: position, busy, expired, draining, "
    "ping. Endless."
)


def _stream(words: str) -> Schema:
    return {sse.MEDIA_TYPE: {"schema": {"type": "string", "description": words}}}


_FOLLOWED: Final[Schema] = {
    **_stream(_STREAM_WORDS),
    ndjson.MEDIA_TYPE: {
        "schema": {"type": "string", "description": "An Event a line, and what the server adds, told apart by `type`."}
    },
    _JSON: {"schema": ref("Poll")},
}  # fmt: skip


def _state_made(description: str, *headers: str) -> Answer:
    """A job's state, and what one can do with the job next."""
    made = _json(
        ref("State"), description, {**_ETAG, **{name: _header("The job's address.") for name in headers}}
    )
    next_steps = ("get_job", "follow_job", "get_result", "cancel_job", "retry_job", "delete_job")
    links = {step: {"operationId": step, "parameters": {"id": "$response.body#/id"}} for step in next_steps}
    return {**made, "links": links}


_KEYS_JOB: Final = _state_made("The job that this Idempotency-Key has made before.", "Content-Location")


# -- the table


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address. `scopes`: any of them is enough; none: open to all."""

    id: str
    summary: str
    answers: dict[int, Answer]
    problems: tuple[int, ...] = ()
    scopes: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    takes_ticket: bool = False
    body: dict[str, str] = field(default_factory=dict)
    needs_body: bool = True


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("get", "/"): Operation(
        "get_page", "The page.",
        {
            200: _answer("The page.", {"text/html": {"schema": _TEXT}}, _ETAG),
            303: _answer(
                "The cookie is set.",
                headers={"Location": _header("The clean address."), "Set-Cookie": _header("The token.")},
            ),
            304: _NOT_MODIFIED,
        },
        problems=(401, 503), parameters=("link", "if_none_match"),
    ),
    ("get", "/assets/{path}"): Operation(
        "get_asset", "The page's files, and the JavaScript client.",
        {200: _answer("The file.", {kind: {} for kind in ASSET_TYPES}, _ETAG), 304: _NOT_MODIFIED},
        problems=(404,), parameters=("path", "if_none_match"),
    ),
    ("get", "/actors"): Operation(
        "list_actors", "What workers announce as submittable.", {200: _json(ref("Actors"), "The actors.")},
        scopes=(READ, WRITE),
    ),
    ("post", "/jobs"): Operation(
        "create_job", "Start a job.",
        {
            201: _state_made("The new job.", "Location"),
            200: _KEYS_JOB,
        },
        problems=(400, 409, 413, 415, 422), scopes=(WRITE,), parameters=("idempotency_key",),
        body={_JSON: "NewJob", "multipart/form-data": "NewJobForm"},
    ),
    ("get", "/jobs"): Operation(
        "list_jobs", "The caller's jobs, newest first.", {200: _json(ref("Page"), "A page.")},
        problems=(404, 422), scopes=(READ,), parameters=("limit", "cursor", "state", "actor", "owner", "parent"),
    ),
    ("get", "/jobs/events"): Operation(
        "follow_jobs", "One stream for many jobs: whole states, the latest wins.",
        {200: _answer("The stream.", _stream(_LIST_STREAM_WORDS))},
        problems=(422, 429), scopes=(READ,), parameters=("jobs", *_POSITION[:3], "ping"), takes_ticket=True,
    ),
    ("get", "/jobs/{id}"): Operation(
        "get_job", "The job's state: this is how to poll.",
        {200: _json(ref("State"), "The state.", _ETAG), 304: _NOT_MODIFIED},
        problems=(404,), scopes=(READ,), parameters=("id", "if_none_match"),
    ),
    ("delete", "/jobs/{id}"): Operation(
        "delete_job", "Remove an ended job, its stream and its files.", {204: _answer("They are gone.")},
        problems=(404, 409), scopes=(WRITE,), parameters=("id",),
    ),
    ("post", "/jobs/{id}/cancel"): Operation(
        "cancel_job", "Ask the job to end.", {202: _json(ref("State"), "The state.", _ETAG)},
        problems=(404, 409), scopes=(WRITE,), parameters=("id",),
    ),
    ("post", "/jobs/{id}/retry"): Operation(
        "retry_job", "The same actor and arguments once more, as a new job.",
        {201: _state_made("The new job.", "Location"), 200: _KEYS_JOB},
        problems=(404, 409, 410, 422), scopes=(WRITE,), parameters=("id", "idempotency_key"),
    ),
    ("get", "/jobs/{id}/events"): Operation(
        "follow_job", "The job's events: as a stream, as lines of JSON, or as one answer.",
        {200: _answer("From the position on.", _FOLLOWED), 204: _answer("The job ended with that very event.")},
        problems=(404, 422, 429), scopes=(READ,), parameters=("id", *_POSITION, "wait"), takes_ticket=True,
    ),
    ("get", "/jobs/{id}/result"): Operation(
        "get_result", "What the job made.",
        {200: _answer("A file with its media type and name, or the JSON that the actor returned.", {"*/*": {}})},
        problems=(404,), scopes=(READ,), parameters=("id",), takes_ticket=True,
    ),
    ("post", "/tickets"): Operation(
        "create_ticket", "An opaque token for URLs, which can only read.", {201: _json(ref("Ticket"), "The ticket.")},
        problems=(404, 413, 415, 422), scopes=(READ,), body={_JSON: "NewTicket"}, needs_body=False,
    ),
    ("get", "/config.json"): Operation(
        "get_config", "What a front end must know.", {200: _json(ref("Config"), "The configuration.")},
    ),
    ("get", "/login"): Operation(
        "sign_in", "To the OpenID Connect provider; `next=#/…` names the view to come back to.",
        {302: _answer("The provider's address."), 303: _answer("The page, which says that it cannot be done.")},
        problems=(404, 422, 503),
    ),
    ("get", "/auth/callback"): Operation(
        "signed_in", "Back from the provider.", {303: _answer("The page, with a session or the word that it failed.")},
        problems=(404, 422, 503),
    ),
    ("post", "/logout"): Operation(
        "sign_out", "End the session of this browser.", {200: _json(ref("SignedOut"), "Where to go next.")},
        problems=(403, 404, 503),
    ),
    ("get", "/healthz"): Operation(
        "get_health", "Whether the process lives.", {200: _json(ref("Status"), "It does.")},
    ),
    ("get", "/readyz"): Operation(
        "get_readiness", "Whether it should be sent requests.",
        {200: _json(ref("Status"), "It should."), 503: _problem("Not now.")},
    ),
    ("get", "/metrics"): Operation(
        "get_metrics", "Numbers for Prometheus.",
        {200: _answer("All of this machine's processes.", {"text/plain": {}, "application/openmetrics-text": {}})},
        problems=(404,),
    ),
    ("get", "/admin/streams"): Operation(
        "list_streams", "The open streams of this process, the furthest behind first.",
        {200: _json(ref("Streams"), "The streams.")}, scopes=(ADMIN,),
    ),
    ("get", "/openapi.json"): Operation(
        "get_openapi", "This document.",
        {200: _json({"type": "object"}, "The document.", _ETAG), 304: _NOT_MODIFIED}, parameters=("if_none_match",),
    ),
}  # fmt: skip
#: What every route that asks who is asking may answer.
_GUARDED: Final = (401, 403, 503)


def _described(operation: Operation) -> Schema:
    guarded = _GUARDED if operation.scopes else ()
    described: Schema = {
        "operationId": operation.id,
        "summary": operation.summary,
        "security": list(_security(operation)),
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in operation.parameters],
        "responses": {
            **{str(status): answer for status, answer in operation.answers.items()},
            **{
                str(status): {"$ref": f"#/components/responses/{_name(status)}"}
                for status in sorted({*operation.problems, *guarded})
            },
        },
    }
    if operation.body:
        content = {kind: {"schema": ref(name)} for kind, name in operation.body.items()}
        described["requestBody"] = {"required": operation.needs_body, "content": content}
    return described


def _security(operation: Operation) -> Iterable[Schema]:
    """Either of the schemes, with any of the scopes."""
    schemes = ("bearer", "cookie", *(("ticket",) if operation.takes_ticket else ()))
    return ({scheme: [scope]} for scope in operation.scopes for scheme in schemes)


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def document(root: str = "") -> dict[str, Any]:
    """The whole of it, for an application that is mounted under `root`."""
    paths: dict[str, Schema] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "progress_stream",
            "version": __version__,
            "description": "Live progress of jobs. HEAD works wherever GET does. Every error is application/problem+json.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "parameters": _PARAMETERS,
            "responses": {_name(status): answer for status, answer in _PROBLEMS.items()},
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


@lru_cache(maxsize=4)
def _content(root: str) -> tuple[bytes, str]:
    content = events.encode(document(root))
    return content, etags.of(content)


async def openapi(request: Request) -> Response:
    """For anybody: it holds nothing that is not in our documents."""
    content, tag = _content(str(request.scope.get("root_path", "")))
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if etags.match(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_JSON)
