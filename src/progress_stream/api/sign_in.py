"""`GET /?token=`: a link signs a browser in. The token goes into a cookie that no script reads, and out of the URL."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from ..auth.bearer import COOKIE, PARAMETER
from ..auth.sessions import HOST_COOKIE, PLAIN_COOKIE
from . import access
from .parts import parts_of


async def by_link(request: Request) -> Response:
    """303 to the same page without the token. Raises NotAuthenticated, TokenExpired."""
    token = request.query_params[PARAMETER]
    who = await access.verify(parts_of(request), token)
    root = str(request.scope.get("root_path", ""))
    response = Response(
        status_code=303, headers={"Location": _clean_url(request, root), "Cache-Control": "no-store"}
    )
    response.set_cookie(
        COOKIE, token, max_age=_seconds_left(who.expires_at), path=root or "/", httponly=True, samesite="lax",
        secure=request.scope.get("scheme") == "https",
    )  # fmt: skip
    # Who opens a link wants to be the one whom it names, not the one of a session that may be over.
    for name in (HOST_COOKIE, PLAIN_COOKIE):
        if name in request.cookies:
            response.delete_cookie(name, path="/", secure=name == HOST_COOKIE, httponly=True, samesite="lax")
    return response


def _clean_url(request: Request, root: str) -> str:
    rest = [item for item in parse_qsl(request.url.query, keep_blank_values=True) if item[0] != PARAMETER]
    return quote(root) + "/" + ("?" + urlencode(rest) if rest else "")


def _seconds_left(expires_at: float | None) -> int | None:
    """None: until the browser closes."""
    return None if expires_at is None else max(int(expires_at - time.time()), 1)
