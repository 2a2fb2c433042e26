"""Who asks: finds the token of a request and has it proved, or asks the host application. What they may see `Who` says.

The scope's `path` decides what is asked for, never `request.url`: a Host header can poison that (CVE-2026-48710).
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from typing import Final

from starlette.requests import Request

from .. import tracing
from ..auth import bearer, sessions, tickets
from ..auth.bearer import Bearer
from ..auth.who import Who
from ..errors import AccessError, MissingScope, NotAuthenticated, TokenExpired
from .parts import Parts, parts_of
from .problems import NO_TOKEN

access_log = logging.getLogger("progress_stream.access")

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class CrossSite(AccessError):
    """A request that changes something came with a cookie alone, and not from our own page."""


async def caller(request: Request, *scopes: str, url_token: bool = False) -> Who:
    """Who asks, when they have one of these scopes. With `url_token` the query may carry a ticket.

    Raises NotAuthenticated, TokenExpired, MissingScope, CrossSite, StoreUnavailable.
    """
    who = await _identify(request, parts_of(request), url_token=url_token)
    if scopes and who.scopes.isdisjoint(scopes):
        raise MissingScope(scopes[0])
    return who


async def _identify(request: Request, parts: Parts, *, url_token: bool) -> Who:
    sent = _sent(request, parts, url_token=url_token)
    if parts.authenticate is not None and (sent is None or not tickets.is_ticket(sent.token)):
        return await _ask_host(request, parts)
    if sent is None:
        raise NotAuthenticated(NO_TOKEN)
    if sent.source == "cookie":
        check_same_origin(request)
    return await verify(parts, sent.token)


def _sent(request: Request, parts: Parts, *, url_token: bool) -> Bearer | None:
    """The token that the request carries. The host's own Authorization header is the host's to read."""
    try:
        return bearer.bearer_of(
            request.headers, request.query_params if url_token else {}, method=request.method, path=own_path(request),
            url_tokens=parts.settings.url_tokens, session_cookie=_session_cookie(request, parts),
        )  # fmt: skip
    except NotAuthenticated:
        if parts.authenticate is not None:
            return None
        raise


def _session_cookie(request: Request, parts: Parts) -> str | None:
    """Over https only the name that no other host and no plain page can set; None where nobody signs in."""
    if parts.sign_in is None:
        return None
    return sessions.HOST_COOKIE if request.scope.get("scheme") == "https" else sessions.PLAIN_COOKIE


def own_path(request: Request) -> str:
    """The path without what the application is mounted under."""
    return str(request.scope["path"]).removeprefix(str(request.scope.get("root_path", "")))


async def verify(parts: Parts, token: str) -> Who:
    """Whose token or ticket this is. Raises NotAuthenticated, TokenExpired, StoreUnavailable."""
    if tickets.is_ticket(token):
        return await _ticket_holder(parts, token)
    if sessions.is_session(token) and parts.sign_in is not None:
        key = sessions.key_of(token)
        record = await parts.store.send(parts.store.commands.get_record(sessions.KIND, key))
        return sessions.open_record(record, key, time.time())
    if parts.verifier is None and parts.authenticate is None:
        raise NotAuthenticated("only sessions and tickets are taken here: sign in first")
    if parts.verifier is None:
        raise NotAuthenticated("only tickets are taken here beside the application's own session")
    return await parts.verifier.verify(token, time.time())


async def _ticket_holder(parts: Parts, token: str) -> Who:
    """One that was taken with a session is over with it. Raises NotAuthenticated, TokenExpired, StoreUnavailable."""
    commands = parts.store.commands
    record = await parts.store.send(commands.get_record(tickets.KIND, tickets.key_of(token)))
    who = tickets.open_record(record, time.time())
    if who.session is not None:
        session = await parts.store.send(commands.get_record(sessions.KIND, who.session))
        if sessions.is_over(session, time.time()):
            raise TokenExpired("the ticket's session is over", who)
    return who


async def _ask_host(request: Request, parts: Parts) -> Who:
    answer = parts.authenticate(request) if parts.authenticate is not None else None
    who = await answer if inspect.isawaitable(answer) else answer
    if who is None:
        raise NotAuthenticated(NO_TOKEN)
    if _may_come_by_itself(request):
        check_same_origin(request)
    return who


def _may_come_by_itself(request: Request) -> bool:
    """The host's session may be a cookie, or a password that the browser adds: a foreign page's request carries both."""
    bearer_sent = request.headers.get("authorization", "").lower().startswith("bearer ")
    return not bearer_sent and any(name in request.headers for name in ("cookie", "origin", "sec-fetch-site"))


def check_same_origin(request: Request) -> None:
    """What changes something must come from our own page, for a cookie comes along by itself. Raises CrossSite."""
    if request.method in _SAFE_METHODS:
        return
    if not bearer.same_origin(request.headers, request.headers.get("host", "")):
        raise CrossSite("a request that changes something and carries a cookie must come from this origin")


def refuse_ticket(who: Who) -> None:
    """A ticket reads the jobs it was made for, and does nothing else. Raises AccessError."""
    if who.kind == "ticket":
        raise AccessError("a ticket only reads jobs: this needs a token")


def address_of(request: Request) -> str | None:
    """The client's address, as far as the proxies that are trusted tell it."""
    return None if request.client is None else request.client.host


def stream_ended(request: Request, span: tracing.Stream | None = None) -> Callable[[float, int], None]:
    """Writes a stream's last access line, and ends its span. Holds on to nothing of the request: there may be 20,000 of them."""
    request_id = getattr(request.state, "request_id", "-")

    def ended(seconds: float, sent_bytes: int) -> None:
        if span is not None:
            span.end(sent_bytes)
        access_log.info("stream ended after %.1f s, %d bytes, id=%s", seconds, sent_bytes, request_id)

    return ended
