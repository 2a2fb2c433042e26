"""Where in a request the token stands, and what the answer says when it is missing or refused. Pure: takes plain
mappings, proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from authlib.oauth2.rfc6750 import InvalidTokenError

from ..errors import AccessError, MissingScope, NotAuthenticated
from .tickets import is_ticket

COOKIE: Final = "progress_stream"
PARAMETER: Final = "token"
REALM: Final = "progress_stream"

#: Where a browser cannot set a header: EventSource, and a link to a file.
_URL_TOKEN_PATHS: Final = re.compile(r"/jobs/events|/jobs/[^/]+/(events|result)")
#: The page takes any token once, for a cookie.
_PAGE: Final = "/"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Bearer(NamedTuple):
    """A token as it came. What came by cookie came by itself: see `same_origin`."""

    token: str
    source: Literal["header", "query", "cookie"]

    def __repr__(self) -> str:
        return f"Bearer(source={self.source!r})"


def bearer_of(
    headers: Mapping[str, str],
    query: Mapping[str, str],
    *,
    method: str,
    path: str,
    url_tokens: Literal["tickets", "any"] = "tickets",
    session_cookie: str | None = None,
) -> Bearer | None:
    """The token of a request, or None. What was sent on purpose wins: header, then URL, then cookie.

    `headers` has lower-case names; `path` is the application's own, without what it is mounted under; `session_cookie` is the name
    under which this scheme's sessions come, and wins over a token that a link has left behind.
    Raises NotAuthenticated for a malformed header, and for a token in a URL that may only hold a ticket.
    """
    if token := _from_header(headers.get("authorization", "")):
        return Bearer(token, "header")
    if (token := query.get(PARAMETER, "")) and method in {"GET", "HEAD"}:
        if path == _PAGE:
            return Bearer(token, "query")
        if _URL_TOKEN_PATHS.fullmatch(path):
            if url_tokens == "tickets" and not is_ticket(token):
                raise NotAuthenticated("a URL may hold a ticket only (POST /tickets), for URLs are logged")
            return Bearer(token, "query")
    names = (COOKIE,) if session_cookie is None else (session_cookie, COOKIE)
    if token := _from_cookies(headers.get("cookie", ""), names):
        return Bearer(token, "cookie")
    return None


def _from_header(value: str) -> str:
    """Empty for another scheme: a proxy's own Basic password is passed on by many of them."""
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer":
        return ""
    token = token.strip(" ")
    if not token or not token.isascii() or token.split() != [token] or "," in token:
        raise NotAuthenticated("the Authorization header holds no single token")
    return token


def _from_cookies(value: str, names: tuple[str, ...]) -> str:
    """The first name that is there; of one name the first: browsers send the one with the closest path first (RFC 6265 §5.4)."""
    found: dict[str, str] = {}
    for pair in value.split(";"):
        name, _, token = pair.strip().partition("=")
        found.setdefault(name, token.strip('"'))
    return next((found[name] for name in names if found.get(name)), "")


def same_origin(headers: Mapping[str, str], host: str) -> bool:
    """Whether a request that came with a cookie and changes something was made by a page of this host.

    `Sec-Fetch-Site` decides where there is one: no script can set it, and a proxy may have rewritten `Host`. Without
    either header the answer is no: every browser sends `Origin` with a POST.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    try:
        origin = urlsplit(headers.get("origin", ""))
        if origin.scheme not in _DEFAULT_PORTS or not origin.hostname:
            return False
        # The scheme is not compared: behind a proxy that ends TLS we do not know our own.
        own = urlsplit(f"{origin.scheme}://{host}")
        default = _DEFAULT_PORTS[origin.scheme]
        return (origin.hostname, origin.port or default) == (own.hostname, own.port or default)
    except ValueError:
        return False


class _InsufficientScope(InvalidTokenError):  # type: ignore[misc]  # Authlib ships no types
    """Authlib's own has no header, which RFC 6750 §3 allows and clients miss."""

    error = "insufficient_scope"


def challenge(error: AccessError | None) -> str:
    """The value of `WWW-Authenticate`. None: the request held no token, and RFC 6750 §3.1 wants no reason then."""
    if error is None:
        return f'Bearer realm="{REALM}"'
    extra: dict[str, Any] = {}
    kind = InvalidTokenError
    if isinstance(error, MissingScope):
        kind, extra = _InsufficientScope, {"scope": error.scope}
    problem = kind(description=str(error), realm=REALM, extra_attributes=extra)
    return str(dict(problem.get_headers())["WWW-Authenticate"])
