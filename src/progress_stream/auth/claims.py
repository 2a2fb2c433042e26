"""What a token says: its header before the signature is checked, its claims after. Pure; keys are elsewhere.

On purpose, other than usual:
- A header's `jku`, `jwk`, `x5u` and `x5c` are never looked at: keys come from the configuration alone (RFC 8725 §3.10).
- Details name the fault and never a value: they go to clients and logs.
- `exp` is typed here but compared by the caller, who tells "has run out" from "is not genuine".
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..errors import NotAuthenticated
from .strict import parse_object
from .who import SCOPES, Who

#: Longer ones are refused unread: what is genuine fits a header line of 8 KiB, and parsing costs more than reading.
MAX_TOKEN_BYTES: Final = 8_192
#: What clocks may differ by.
LEEWAY_SECONDS: Final = 30
#: The last second that RFC 3339 can write. Beyond it a time is a mistake, often milliseconds.
LAST_INSTANT: Final = 253_402_300_799
#: A subject is part of names in Redis. OpenID Connect allows 255 characters; directories' names are a little longer.
MAX_SUBJECT: Final = 512

_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class Header(NamedTuple):
    """The two members of a token's header that we go by."""

    alg: str
    kid: str | None


@dataclass(frozen=True, slots=True)
class Expected:
    """What the configuration asks of the claims; None: not checked."""

    owner_claim: str = "sub"
    issuer: str | None = None
    audience: str | None = None


def check_size(token: str) -> None:
    """Raises NotAuthenticated for a token that is too long to be looked at."""
    if len(token) > MAX_TOKEN_BYTES:
        raise NotAuthenticated("the token is too long")


def read_header(token: str, algorithms: frozenset[str]) -> Header:
    """The header of a token not yet trusted. Raises NotAuthenticated unless its algorithm is a configured one."""
    check_size(token)
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise NotAuthenticated("this is not a token")
    try:
        header = parse_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        raise NotAuthenticated("the token's header cannot be read") from None
    # RFC 7515 §4.1.11: what is critical and not understood must be refused, and we understand no extension.
    if "crit" in header or "b64" in header:
        raise NotAuthenticated("the token's header asks for an extension that is not supported")
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or alg not in algorithms:
        raise NotAuthenticated("the token's algorithm is not allowed here")
    if kid is not None and not isinstance(kid, str):
        raise NotAuthenticated("the token's header cannot be read")
    return Header(alg, kid)


def who_of(payload: bytes, expected: Expected, now: float) -> Who:
    """The caller of a payload whose signature is genuine; it may have run out. Raises NotAuthenticated."""
    try:
        claims = parse_object(payload)
    except ValueError:
        raise NotAuthenticated("the token's claims cannot be read") from None
    if expected.issuer is not None and claims.get("iss") != expected.issuer:
        raise NotAuthenticated("the token is from another issuer")
    if expected.audience is not None and not _is_for(expected.audience, claims.get("aud")):
        raise NotAuthenticated("the token is for another audience")
    if "nbf" in claims and _instant(claims, "nbf") > now + LEEWAY_SECONDS:
        raise NotAuthenticated("the token is not valid yet")
    return Who(_subject(claims, expected.owner_claim), _scopes(claims), _instant(claims, "exp"))


def _is_for(audience: str, claim: object) -> bool:
    return claim == audience or (isinstance(claim, list) and audience in claim)


def _instant(claims: dict[str, Any], name: str) -> float:
    if name not in claims:
        raise NotAuthenticated(f"the token has no {name}")
    value = claims[name]
    # bool is an int to Python; NaN and the infinities fail the comparison.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LAST_INSTANT:
        raise NotAuthenticated(f"the token's {name} is not a time in seconds")
    return float(value)


def _subject(claims: dict[str, Any], name: str) -> str:
    subject = claims.get(name)
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise NotAuthenticated(f"the token's {name} is not a name of 1 to {MAX_SUBJECT} characters")
    try:
        subject.encode()
    except UnicodeEncodeError:  # a lone surrogate, which no key in Redis can hold
        raise NotAuthenticated(f"the token's {name} is not text") from None
    return subject


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise NotAuthenticated("the token's scope is not a string of names with spaces between")
    return SCOPES.intersection(scope.split(" "))
