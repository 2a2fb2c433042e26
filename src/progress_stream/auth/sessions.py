"""Sessions of people who have signed in: an opaque token in a cookie, its record in Redis. Pure but for drawing the token.

A session has the form of a ticket and is none: it may write, and lives as long as its setting says, whatever is done with it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import replace
from typing import Final, NamedTuple

from ..errors import NotAuthenticated, TokenExpired
from .strict import parse_object
from .who import ADMIN, SCOPES, Who

PREFIX: Final = "pss_"
#: 256 bits: nobody guesses one, so its plain SHA-256 may be a key in Redis.
TOKEN_BYTES: Final = 32
#: The `kind` of these records in the store.
KIND: Final = "session"
#: For so long a session that has run out can be told from one that never was.
REMEMBERED_SECONDS: Final = 86_400
#: RFC 6265bis §4.1.3.2: a browser takes this name only with Secure, from this host alone, for all of it.
HOST_COOKIE: Final = "__Host-progress_stream_session"
#: Over http on this machine itself, where no cookie can be Secure.
PLAIN_COOKIE: Final = "progress_stream_session"

_SESSION: Final = re.compile(r"pss_[A-Za-z0-9_-]{43}", re.ASCII)


class Opened(NamedTuple):
    """A new session. `token` goes into the cookie and nowhere else."""

    token: str
    key: str
    record: bytes
    expires_at: float

    def __repr__(self) -> str:
        return f"Opened(expires_at={self.expires_at})"


def begin(subject: str, scopes: frozenset[str], seconds: float, now: float, id_token: str = "") -> Opened:
    """A session of so many seconds. `id_token` is kept for the provider, which wants it back to sign out."""
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    record = {"subject": subject, "scopes": sorted(scopes), "expires_at": now + seconds, "id_token": id_token}
    return Opened(token, key_of(token), json.dumps(record).encode(), now + seconds)


def is_session(token: str) -> bool:
    """By its form alone."""
    return _SESSION.fullmatch(token) is not None


def key_of(token: str) -> str:
    """The name of the session's record. A copy of Redis gives no session away."""
    return hashlib.sha256(token.encode()).hexdigest()


def open_record(record: bytes | None, key: str, now: float) -> Who:
    """Who signed in; None is a session that nobody has. Raises NotAuthenticated, TokenExpired."""
    if record is None:
        raise NotAuthenticated("there is no such session")
    who = replace(_read(record)[0], session=key)
    if who.has_expired(now):
        raise TokenExpired("the session has expired", who)
    return who


def is_over(record: bytes | None, now: float) -> bool:
    """Whether nobody can do anything with it any more."""
    try:
        open_record(record, "", now)
    except (NotAuthenticated, TokenExpired):
        return True
    return False


def ended(record: bytes, now: float) -> tuple[bytes, str]:
    """The record of a session that its holder ends now, and the id token that the provider gave."""
    who, id_token = _read(record)
    closed = {
        "subject": who.subject,
        "scopes": sorted(who.scopes),
        "expires_at": min(now, who.expires_at or now),
        "id_token": "",
    }
    return json.dumps(closed).encode(), id_token


def cookie_for(scheme: str, host: str) -> str | None:
    """The cookie's name on this host; None where a session would travel in the clear."""
    if scheme == "https":
        return HOST_COOKIE
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    return PLAIN_COOKIE if name == "localhost" or re.fullmatch(r"127(\.\d{1,3}){3}|\[::1\]", name) else None


def scopes_of(text: str) -> frozenset[str]:
    """What OIDC_SCOPES grants to whoever signs in. Raises ValueError for a scope that is none."""
    scopes = frozenset(text.split())
    if unknown := scopes - SCOPES:
        raise ValueError(f"{min(unknown)!r:.40} is no scope; allowed: {', '.join(sorted(SCOPES))}")
    return scopes


def is_admin(claims: dict[str, object], rule: str | None) -> bool:
    """Whether `OIDC_ADMIN_CLAIM` (`name=value`) holds: the claim is that value, or a list with it in it."""
    if rule is None:
        return False
    name, _, value = rule.partition("=")
    found = claims.get(name)
    many = found if isinstance(found, list) else [] if found is None else [found]
    # As JSON writes it: `true`, not Python's `True`.
    return value in [one if isinstance(one, str) else json.dumps(one) for one in many]


def granted(claims: dict[str, object], scopes: frozenset[str], rule: str | None) -> frozenset[str]:
    """The scopes of somebody with these claims."""
    return scopes | {ADMIN} if is_admin(claims, rule) else scopes


def _read(record: bytes) -> tuple[Who, str]:
    try:
        match parse_object(record):
            case {
                "subject": str(subject),
                "scopes": list(scopes),
                "expires_at": int() | float() as expires_at,
                "id_token": str(id_token),
            }:
                return Who(subject, frozenset(map(str, scopes)) & SCOPES, float(expires_at)), id_token
    except (ValueError, TypeError):
        pass
    raise NotAuthenticated("the session cannot be read")
