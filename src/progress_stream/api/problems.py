"""What an error is for HTTP: one table, answered as `application/problem+json` (RFC 9457).

Handlers raise; nothing but this module makes an error's answer. The text for the client and the text for the log are two: no
traceback, no word of Redis and no secret is in an answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .. import errors, events, metrics
from ..auth.bearer import challenge
from ..auth.keys import KeysUnavailable

MEDIA_TYPE: Final = "application/problem+json"
#: A name, not an address: the meaning of each is in docs/contract.md.
TYPES: Final = "urn:progress-stream:problem:"
#: The detail of a request that sent no token: RFC 6750 §3.1 wants no error code in its challenge.
NO_TOKEN: Final = "a token is needed: Authorization: Bearer, or the cookie"  # noqa: S105 # a text
#: The same words whether a job never was, is gone, or is another owner's: the answers must not differ.
NO_SUCH_JOB: Final = "no job of this id exists, or it is not yours"


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer. `extra` are members of the object beside the four."""

    status: int
    kind: str
    title: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def response(self) -> Response:
        body = {
            "type": "about:blank" if not self.kind else TYPES + self.kind,
            "title": self.title, "status": self.status, "detail": self.detail, **self.extra,
        }  # fmt: skip
        headers = {"Cache-Control": "no-store", **self.headers}
        return Response(_encoded(body), self.status, headers, MEDIA_TYPE)


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return events.encode(body)
    except errors.InvalidEvent:
        # Half a character that a client sent, in the text that tells the client so.
        return events.encode({**body, "detail": str(body["detail"]).encode(errors="replace").decode()})


def of(error: Exception) -> Problem:
    """The problem of one of our errors; of any other the one that says nothing."""
    for kind, make in _TABLE:
        if isinstance(error, kind):
            return make(error)
    return Problem(500, "", "Internal Server Error", "the server failed; its log says why")


def problem(
    status: int, detail: str, *, kind: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """An answer for what is no error of ours, but a state: draining, a limit."""
    return Problem(status, kind, HTTPStatus(status).phrase, detail, headers or {}).response()


def response_of(request: Request, error: Exception) -> Response:
    """Starlette's handler for our errors and its own."""
    return of(error).response()


def _not_authenticated(error: Exception) -> Problem:
    detail = str(error)
    reason = None if detail == NO_TOKEN else errors.NotAuthenticated(detail)
    return Problem(
        401, "not-authenticated", "Not authenticated", detail, {"WWW-Authenticate": challenge(reason)}
    )


def _expired(error: Exception) -> Problem:
    reason = errors.NotAuthenticated(str(error))
    return Problem(401, "token-expired", "Token expired", str(error), {"WWW-Authenticate": challenge(reason)})


def _missing_scope(error: Exception) -> Problem:
    headers = {"WWW-Authenticate": challenge(errors.MissingScope(getattr(error, "scope", "")))}
    return Problem(403, "missing-scope", "Not allowed", str(error), headers)


def _invalid(error: Exception) -> Problem:
    return Problem(
        422, "invalid-input", "Invalid input", str(error), extra={"field": getattr(error, "field", "")}
    )


def _unknown_actor(error: Exception) -> Problem:
    known = list(getattr(error, "known", ()))
    return Problem(
        422, "unknown-actor", "Unknown actor", str(error), extra={"field": "actor", "announced": known}
    )


def _too_large(error: Exception) -> Problem:
    metrics.refused("too_large")
    return Problem(413, "too-large", "Too large", str(error))


def _unavailable(kind: str, title: str, detail: str) -> Problem:
    return Problem(503, kind, title, detail, {"Retry-After": str(retry_after_seconds())})


def retry_after_seconds() -> int:
    """Drawn anew each time: one fixed number would bring all clients back in the same second."""
    return random.randint(2, 10)


def _http(error: Exception) -> Problem:
    status = getattr(error, "status_code", 500)
    headers = dict(getattr(error, "headers", None) or {})
    title = HTTPStatus(status).phrase
    detail = str(getattr(error, "detail", title))
    if detail == title:
        detail = _HTTP_DETAILS.get(status, title)
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        detail = f"{detail}; allowed: {headers['Allow']}"
    return Problem(status, "", title, detail, headers)


_HTTP_DETAILS: Final = {
    404: "there is nothing at this address",
    405: "this address does not take that method",
}


def _same(status: int, kind: str, title: str, detail: str = "") -> Callable[[Exception], Problem]:
    return lambda error: Problem(status, kind, title, detail or str(error))


# The first row that fits decides: subclasses stand before their parents.
_TABLE: Final[tuple[tuple[type[Exception], Callable[[Exception], Problem]], ...]] = (
    (errors.TokenExpired, _expired),
    (errors.NotAuthenticated, _not_authenticated),
    (errors.MissingScope, _missing_scope),
    (
        KeysUnavailable,
        lambda _: _unavailable(
            "unavailable", "Not available", "the keys that prove tokens cannot be reached now"
        ),
    ),
    (errors.AccessError, _same(403, "not-allowed", "Not allowed")),
    (errors.NoSuchJob, _same(404, "no-such-job", "No such job", NO_SUCH_JOB)),
    (errors.Tombstoned, _same(404, "no-such-job", "No such job", NO_SUCH_JOB)),
    (errors.UnknownActor, _unknown_actor),
    (errors.IdempotencyConflict, _same(409, "idempotency-conflict", "Idempotency-Key used before")),
    (errors.NotEnded, _same(409, "not-ended", "Not ended")),
    (errors.NotRepeatable, _same(409, "not-repeatable", "Not repeatable")),
    (errors.FileGone, _same(410, "file-gone", "File gone")),
    (errors.AlreadyEnded, _same(409, "already-ended", "Already ended")),
    (
        errors.BrokerRefused,
        lambda _: _unavailable(
            "broker-refused", "Not started", "the queue cannot take the job now; none was started"
        ),
    ),
    (errors.TooLarge, _too_large),
    (errors.InvalidInput, _invalid),
    (
        errors.StoreUnavailable,
        lambda _: _unavailable(
            "unavailable", "Not available", "what the server keeps jobs in cannot be reached now"
        ),
    ),
    (HTTPException, _http),
)
