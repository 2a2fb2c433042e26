"""`/login`, `/auth/callback`, `POST /logout`: a person signs in at the provider, and has a session here until it is over.

A sign-in is bound to the browser that began it by a cookie of its own; so several tabs may sign in at once, and none for another.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
from typing import Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .. import events
from ..auth import sessions
from ..auth.login import LOGIN_SECONDS, SignIn, SignInFailed
from ..errors import InvalidInput
from . import access
from .parts import Parts, parts_of
from .remembered import Remembered, hash_of

log = logging.getLogger(__name__)

CALLBACK: Final = "/auth/callback"
#: Where a sign-in that came to nothing is told of.
FAILED: Final = "#/sign-in-failed"
#: A view of our own page, and nothing else: an address that somebody else wrote would lead astray whoever has just signed in.
_VIEW: Final = re.compile(r"#/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500}", re.ASCII)
_STATE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}", re.ASCII)
_NOT_KEPT: Final = {"Cache-Control": "no-store"}


async def login(request: Request) -> Response:
    """To the provider; `?next=#/…` names the view to come back to."""
    parts, provider = _provider(request)
    _cookie_name(request)
    try:
        url, state = await provider.begin(request, _redirect_uri(request))
    except SignInFailed as error:
        log.warning("a sign-in could not begin: %s", error)
        return _to_page(request, FAILED)
    binding = secrets.token_urlsafe(32)
    view = request.query_params.get("next", "")
    record = f"{hash_of(binding)}{view if _VIEW.fullmatch(view) else ''}"
    await Remembered(parts.store).set(f"browser {state}", record)
    response = Response(status_code=302, headers={"Location": url, **_NOT_KEPT})
    response.set_cookie(
        _binding_cookie(state), binding, max_age=LOGIN_SECONDS, path=_root(request) + CALLBACK, httponly=True,
        samesite="lax", secure=_is_https(request),
    )  # fmt: skip
    return response


async def callback(request: Request) -> Response:
    """Back from the provider: a session, and the view that was looked at before; else the page says that it failed."""
    parts, provider = _provider(request)
    name = _cookie_name(request)
    state = request.query_params.get("state", "")
    try:
        view = await _view_of(request, parts, state)
        person = await provider.finish(request, state)
        session = await _begin_session(parts, person.claims, person.id_token)
    except (SignInFailed, InvalidInput) as error:
        log.warning("a sign-in failed: %s", error)
        return _to_page(request, FAILED)
    response = _to_page(request, view)
    response.set_cookie(
        name, session.token, max_age=parts.settings.session_seconds, path="/", httponly=True, samesite="lax",
        secure=_is_https(request),
    )  # fmt: skip
    response.delete_cookie(_binding_cookie(state), path=_root(request) + CALLBACK)
    return response


async def logout(request: Request) -> Response:
    """The session is over, here and, where it can be told, at the provider: `{"location"}` is where to go next."""
    parts, provider = _provider(request)
    access.check_same_origin(request)
    back = _origin(request) + _root(request) + "/"
    location: str | None = None
    if (token := _session_token(request)) is not None:
        location = await provider.end_session_url(await _end_session(parts, token), back)
    response = JSONResponse({"location": location or back}, headers=_NOT_KEPT)
    for name in (sessions.HOST_COOKIE, sessions.PLAIN_COOKIE):
        response.delete_cookie(
            name, path="/", secure=name == sessions.HOST_COOKIE, httponly=True, samesite="lax"
        )
    return response


async def _view_of(request: Request, parts: Parts, state: str) -> str:
    """The view to come back to. Raises SignInFailed unless this browser began a sign-in with this state, which counts once."""
    binding = request.cookies.get(_binding_cookie(state), "")
    if not _STATE.fullmatch(state) or not binding:
        raise SignInFailed("this browser began no such sign-in")
    remembered, key = Remembered(parts.store), f"browser {state}"
    record = await remembered.get(key) or ""
    await remembered.delete(key)
    known, view = record[:64], record[64:]
    if not hmac.compare_digest(known, hash_of(binding)):
        raise SignInFailed("this browser began no such sign-in, or it took too long")
    return view


async def _begin_session(parts: Parts, claims: dict[str, object], id_token: str) -> sessions.Opened:
    """Raises InvalidInput for a subject that cannot own jobs."""
    settings = parts.settings
    subject = events.check_words("owner", claims.get(settings.owner_claim))
    if not subject:
        raise InvalidInput("owner", "is empty", f"a claim {settings.owner_claim!r} (OWNER_CLAIM)")
    scopes = sessions.granted(claims, sessions.scopes_of(settings.oidc_scopes), settings.oidc_admin_claim)
    session = sessions.begin(subject, scopes, settings.session_seconds, time.time(), id_token)
    kept = settings.session_seconds + sessions.REMEMBERED_SECONDS
    await parts.store.send(parts.store.commands.put_record(sessions.KIND, session.key, session.record, kept))
    return session


async def _end_session(parts: Parts, token: str) -> str:
    """The id token that the provider wants back. What is over is remembered: a stream must be told so, not refused."""
    commands, key = parts.store.commands, sessions.key_of(token)
    record = await parts.store.send(commands.get_record(sessions.KIND, key))
    if record is None:
        return ""
    closed, id_token = sessions.ended(record, time.time())
    await parts.store.send(
        commands.put_ended_session(sessions.KIND, key, closed, sessions.REMEMBERED_SECONDS)
    )
    return id_token


def _provider(request: Request) -> tuple[Parts, SignIn]:
    """Raises HTTPException 404 where no provider is configured."""
    parts = parts_of(request)
    if parts.sign_in is None:
        raise HTTPException(404)
    return parts, parts.sign_in


def _cookie_name(request: Request) -> str:
    """Raises InvalidInput where a session would travel in the clear."""
    name = sessions.cookie_for(str(request.scope.get("scheme")), request.headers.get("host", ""))
    if name is None:
        raise InvalidInput(
            "scheme",
            "is http",
            "https, for a session's cookie must not travel in the clear; http on this machine alone",
        )
    return name


def _session_token(request: Request) -> str | None:
    tokens = (request.cookies.get(name, "") for name in (sessions.HOST_COOKIE, sessions.PLAIN_COOKIE))
    return next((token for token in tokens if sessions.is_session(token)), None)


def _to_page(request: Request, view: str) -> Response:
    return Response(status_code=303, headers={"Location": quote(_root(request)) + "/" + view, **_NOT_KEPT})


def _redirect_uri(request: Request) -> str:
    """By the host that was asked for: the provider takes none but those that were registered with it."""
    return _origin(request) + _root(request) + CALLBACK


def _origin(request: Request) -> str:
    return f"{request.scope.get('scheme')}://{request.headers.get('host', '')}"


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))


def _is_https(request: Request) -> bool:
    return request.scope.get("scheme") == "https"


def _binding_cookie(state: str) -> str:
    return f"progress_stream_login_{hash_of(state)[:16]}"
