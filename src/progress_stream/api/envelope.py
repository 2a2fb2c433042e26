"""What goes around every answer: request id, access line, security headers, CORS, the last resort for a failure. Plain ASGI.

Nothing here touches a body: a stream's connection can only be handed over when its first bytes reach the server unchanged.
No line holds a query, for that is where tickets travel.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from .. import metrics
from .problems import Problem, of

log = logging.getLogger(__name__)
access_log = logging.getLogger("progress_stream.access")

#: What a client may name its request: nothing that could forge a line of a log.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
#: The page needs nothing from elsewhere, and is framed by none but its own origin.
PAGE_POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; object-src 'none'"
)
_SECURITY: Final = {
    b"content-security-policy": PAGE_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}


class Envelope:
    """Request id in and out, security headers where the answer has none of its own, one access line."""

    def __init__(self, app: ASGIApp, templates: Mapping[Any, str]) -> None:
        """`templates`: each endpoint's path with its placeholders."""
        self.app = app
        self._templates = templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began = time.monotonic()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, request_id)
            await send(message)

        # Whatever is logged on the way has the id, where structlog writes the log.
        with bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_headers)
            finally:
                took = round((time.monotonic() - began) * 1000)
                template = self._templates.get(scope.get("endpoint"), "-")
                # 0: the client left before it got an answer.
                metrics.answered(scope["method"], template, status)
                access_log.info("%s %s %d %d ms id=%s", scope["method"], template, status, took, request_id)


def _add_headers(message: Message, request_id: str) -> None:
    headers = list(message.get("headers", ()))
    names = {name.lower() for name, _ in headers}
    headers += [(name, value) for name, value in _SECURITY.items() if name not in names]
    message["headers"] = [*headers, (b"x-request-id", request_id.encode())]


class Faults:
    """An exception that no table knows: logged with its traceback, answered without one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except ClientDisconnect:
            return
        except Exception as error:
            log.exception("a request failed, id=%s", scope.get("state", {}).get("request_id"))
            if started:
                raise  # The server cuts the connection: a half answer must not look like a whole one.
            await of(error).response()(scope, receive, send)


class Cors(CORSMiddleware):
    """Starlette's, with its refusal in our form."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        kept: dict[str, Any] = {"Vary": answer.headers["Vary"]}
        return Problem(400, "cors", "CORS refused", bytes(answer.body).decode(), kept).response()


def cors_options(origins: tuple[str, ...]) -> dict[str, Any]:
    """What pages of these origins may send and see."""
    return {
        "allow_origins": origins,
        "allow_methods": ("DELETE", "GET", "HEAD", "POST"),
        "allow_headers": (
            "Accept", "Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID",
            "X-Request-ID", "traceparent", "tracestate",
        ),
        "expose_headers": ("ETag", "Link", "Location", "Retry-After", "X-Request-ID"),
        "allow_credentials": True,
    }  # fmt: skip
