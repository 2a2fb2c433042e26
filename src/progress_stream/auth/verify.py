"""Signed tokens (JWT): proved with the configured secret or keys, and made with the secret. What a token says is
`claims`' matter, where keys come from is `keys`'.

HS256 is checked with the secret alone and everything else with public keys alone: a public key is never a secret.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OctKey
from joserfc.registry import HeaderParameter

from ..errors import InvalidInput, InvalidSetting, NotAuthenticated, TokenExpired
from ..settings import MIN_SECRET_BYTES, PREFIX, Settings
from .claims import LEEWAY_SECONDS, MAX_TOKEN_BYTES, Expected, Header, check_size, read_header, who_of
from .keys import KeySource, Material, fitting, key_source
from .who import SCOPES, Who

_SECRET: Final = PREFIX + "JWT_SECRET"
_ALGORITHMS: Final = PREFIX + "JWT_ALGORITHMS"

SYMMETRIC: Final = frozenset({"HS256"})
#: EdDSA under both its names: RFC 8037 and, since RFC 9864, Ed25519.
ASYMMETRIC: Final = frozenset({"RS256", "ES256", "EdDSA", "Ed25519"})
#: As many as a process holds streams by default: after a deploy they all come back with tokens that were proved before.
MAX_REMEMBERED: Final = 20_000


class _Registry(jws.JWSRegistry):
    """joserfc's algorithms without its opinions: `read_header` has pinned the algorithm, `check_size` the length.

    Only `alg` is looked at in a header; joserfc would warn for each token with the older name of EdDSA.
    """

    default_header_registry = {"alg": HeaderParameter("Algorithm", "str", True)}  # noqa: RUF012
    max_header_length = max_payload_length = max_signature_length = MAX_TOKEN_BYTES

    def get_alg(self, name: str) -> Any:
        if self.allowed is None or name not in self.allowed:
            raise UnsupportedAlgorithmError("not allowed here")
        return self.algorithms[name]


class Verifier:
    """Tells genuine tokens from others. One a process; for one event loop at a time."""

    def __init__(self, settings: Settings) -> None:
        """Raises InvalidSetting where nothing could be proved, or where an algorithm is named that has no key."""
        self._secret = (
            None if settings.jwt_secret is None else secret_key(settings.jwt_secret.get_secret_value())
        )
        # Beside a secret the issuer is only compared; where it alone is given its keys are discovered.
        issuer = settings.jwt_issuer if self._secret is None else None
        self._source: KeySource | None = key_source(settings.jwks, issuer)
        self._algorithms = _algorithms(
            settings.jwt_algorithms, self._secret is not None, self._source is not None
        )
        self._registry = _Registry(algorithms=self._algorithms, strict_check_header=False)
        self._expected = Expected(settings.owner_claim, settings.jwt_issuer, settings.jwt_audience)
        self._proved = _Proved()

    async def verify(self, token: str, now: float) -> Who:
        """The caller that the token was made for.

        Raises NotAuthenticated; TokenExpired with its `who` for a genuine one that has run out; KeysUnavailable.
        """
        check_size(token)
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        if self._source is not None:
            self._proved.of_version(self._source.look(now))
        who = self._proved.get(digest)
        if who is None:
            who = await self._prove(token, now)
            self._proved.put(digest, who)
        if who.has_expired(now - LEEWAY_SECONDS):
            raise TokenExpired("the token has expired", who)
        return who

    async def _prove(self, token: str, now: float) -> Who:
        header = read_header(token, self._algorithms)
        payload = await self._payload(token, header, now)
        if payload is None:
            raise NotAuthenticated("the token is not signed with a key that is known here")
        return who_of(payload, self._expected, now)

    async def _payload(self, token: str, header: Header, now: float) -> bytes | None:
        """None: no key of ours has signed it."""
        if header.alg in SYMMETRIC:
            return None if self._secret is None else self._signed(token, (self._secret,))
        if self._source is None:
            return None
        payload = self._signed(token, fitting(await self._source.current(now), header))
        if payload is None and await self._source.renewed(now):
            payload = self._signed(token, fitting(await self._source.current(now), header))
        return payload

    def _signed(self, token: str, keys: Iterable[OctKey | Material]) -> bytes | None:
        """What the token holds, if one of these keys has signed it."""
        try:
            signed = jws.extract_compact(token.encode(), registry=self._registry)
            if any(jws.validate_compact(signed, key, registry=self._registry) for key in keys):
                return signed.payload
        except (JoseError, ValueError):
            return None
        return None


class _Proved:
    """Who was proved by which token, kept under the token's SHA-256, so that memory holds none. The oldest go first."""

    def __init__(self) -> None:
        self._version = 0
        self._who: OrderedDict[bytes, Who] = OrderedDict()

    def of_version(self, version: int) -> None:
        """Forgets all that other keys have proved: one of them may have been withdrawn."""
        if version != self._version:
            self._version = version
            self._who.clear()

    def get(self, digest: bytes) -> Who | None:
        who = self._who.get(digest)
        if who is not None:
            self._who.move_to_end(digest)
        return who

    def put(self, digest: bytes, who: Who) -> None:
        self._who[digest] = who
        if len(self._who) > MAX_REMEMBERED:
            self._who.popitem(last=False)


def secret_key(secret: str) -> OctKey:
    """The HS256 key. Raises InvalidSetting for one that could be guessed, or that is a public key by mistake."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise InvalidSetting(_SECRET, "is too short", f"{MIN_SECRET_BYTES} bytes or more")
    try:
        return OctKey.import_key(secret)
    except ValueError:
        raise InvalidSetting(_SECRET, "is a public key", "a secret; public keys go into a JWK Set") from None


def sign(
    secret: str,
    subject: str,
    scopes: str | Iterable[str],
    seconds: int,
    *,
    issuer: str | None = None,
    audience: str | None = None,
    owner_claim: str = "sub",
    now: float | None = None,
) -> str:
    """A token of our own that `Verifier` takes, for `seconds` from now. Raises InvalidInput."""
    granted = tuple(scopes.split() if isinstance(scopes, str) else scopes)
    if unknown := [scope for scope in granted if scope not in SCOPES]:
        raise InvalidInput("scope", f"{unknown[0]!r:.40} is no scope", ", ".join(sorted(SCOPES)))
    if seconds <= 0:
        raise InvalidInput("seconds", "is not positive", "1 or more")
    issued_at = int(time.time() if now is None else now)
    optional = {name: value for name, value in (("iss", issuer), ("aud", audience)) if value is not None}
    times = {"iat": issued_at, "exp": issued_at + seconds}
    claims = {"sub": subject, owner_claim: subject, "scope": " ".join(granted), **optional, **times}
    payload = json.dumps(claims).encode()
    try:  # nothing is handed out that would be refused
        who_of(payload, Expected(owner_claim, issuer, audience), issued_at)
        token = jws.serialize_compact({"alg": "HS256", "typ": "JWT"}, payload, secret_key(secret), ["HS256"])
        check_size(token)
    except NotAuthenticated as error:
        raise InvalidInput("token", f"would be refused: {error}") from None
    return token


def _algorithms(named: tuple[str, ...], has_secret: bool, has_keys: bool) -> frozenset[str]:
    """The algorithms that may pass: those named in the settings, else all that the kinds of key allow."""
    if not has_secret and not has_keys:
        raise InvalidSetting(_SECRET, "is missing", f"it, or {PREFIX}JWKS, or an https {PREFIX}JWT_ISSUER")
    possible = (SYMMETRIC if has_secret else frozenset()) | (ASYMMETRIC if has_keys else frozenset())
    if impossible := [name for name in named if name not in possible]:
        kind = "secret" if impossible[0] in SYMMETRIC else "JWK Set"
        raise InvalidSetting(
            _ALGORITHMS, f"names {impossible[0]}, which has no {kind}", ", ".join(sorted(possible))
        )
    if not named:
        return possible
    both = frozenset({"EdDSA", "Ed25519"})
    return frozenset(named) | (both if both & set(named) else frozenset())
