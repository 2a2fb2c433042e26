"""Public keys from a JWK Set (RFC 7517): out of a file, from a URL, or found through an issuer; rotated ones are
picked up while running. Checks no signature.

What a source promises: once it had keys it always has some; asking it never costs more than one request per
`REFETCH_SECONDS`, whatever tokens arrive; `look()` neither waits nor raises.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from ..errors import AccessError, InvalidSetting
from ..settings import PREFIX
from .claims import Header
from .strict import parse_object

log = logging.getLogger(__name__)

#: Sets of big issuers have 2 to 10 KB.
MAX_SET_BYTES: Final = 65_536
#: Keys that are in use are asked for again after this, so that a withdrawn one stops working.
TTL_SECONDS: Final = 600
#: Tokens with unknown keys cost an issuer at most one request in this time: anyone can send such tokens.
REFETCH_SECONDS: Final = 30
#: The same while there is no key at all, when every caller has to wait.
FIRST_RETRY_SECONDS: Final = 5
#: One fetch as a whole, discovery included.
FETCH_SECONDS: Final = 5.0
#: RFC 7518 §3.3: RSA keys must have 2048 bits or more.
MIN_RSA_BITS: Final = 2_048
#: A token without `kid` is tried with so many keys, for each try costs a signature check.
MAX_TRIES: Final = 8

_JWKS: Final = PREFIX + "JWKS"
_ISSUER: Final = PREFIX + "JWT_ISSUER"

Material = RSAKey | ECKey | OKPKey
_KINDS: Final[dict[str, tuple[str, str | None]]] = {
    "RS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
#: The members that make up a public key. Nothing else is read as one: a set may hold private halves or certificates.
_PARTS: Final[dict[str, tuple[type[Material], tuple[str, ...]]]] = {
    "RSA": (RSAKey, ("kty", "n", "e")),
    "EC": (ECKey, ("kty", "crv", "x", "y")),
    "OKP": (OKPKey, ("kty", "crv", "x")),
}


class KeysUnavailable(AccessError):
    """No key could be got yet, so that genuine tokens cannot be told from forged ones: try again later."""


class PublicKey(NamedTuple):
    """One key for checking signatures."""

    kid: str | None
    kind: tuple[str, str | None]
    #: The only algorithm it is for, where the set says so.
    alg: str | None
    material: Material

    def fits(self, header: Header) -> bool:
        kind = _KINDS[header.alg]
        # RFC 9864 gave Ed25519 a name of its own: a key made for one name checks tokens with the other.
        return (
            self.kind == kind
            and (header.kid is None or header.kid == self.kid)
            and (self.alg is None or _KINDS.get(self.alg) == kind)
        )


class KeySource(Protocol):
    """Where public keys come from."""

    def look(self, now: float) -> int:
        """The version of the keys in use, a number that changes when they do."""

    async def current(self, now: float) -> tuple[PublicKey, ...]:
        """The keys in use. Raises KeysUnavailable while there is none."""

    async def renewed(self, now: float) -> bool:
        """Asks again because no key fitted a token. True: there are others now."""


def fitting(keys: Iterable[PublicKey], header: Header) -> tuple[Material, ...]:
    """The keys that may have signed a token with this header, at most `MAX_TRIES`."""
    return tuple(key.material for key in keys if key.fits(header))[:MAX_TRIES]


def parse_set(data: bytes) -> tuple[PublicKey, ...]:
    """The usable keys of a JWK Set. Raises ValueError, with no word of the content, where there is none.

    RFC 7517 §5: keys that are not understood are passed over, for a set may serve other purposes too.
    """
    if len(data) > MAX_SET_BYTES:
        raise ValueError(f"is larger than {MAX_SET_BYTES} bytes")
    members = parse_object(data).get("keys")
    if not isinstance(members, list):
        raise ValueError("is not a JWK Set")
    keys = tuple(key for member in members if (key := _usable(member)) is not None)
    if not keys:
        raise ValueError("holds no key for RS256, ES256 or EdDSA signatures")
    return keys


def _usable(member: Any) -> PublicKey | None:
    if not isinstance(member, dict) or member.get("use", "sig") != "sig":
        return None
    operations = member.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    kid, alg, curve = member.get("kid"), member.get("alg"), member.get("crv")
    material = _material(member)
    if material is None:
        return None
    return PublicKey(
        kid if isinstance(kid, str) else None,
        (material.key_type, None if isinstance(material, RSAKey) else str(curve)),
        None if alg is None else str(alg),
        material,
    )


def _material(member: dict[str, Any]) -> Material | None:
    """Never an `oct`: a secret in a public set would let anyone sign."""
    kind = member.get("kty")
    if not isinstance(kind, str) or kind not in _PARTS:
        return None
    make, names = _PARTS[kind]
    try:
        key = make.import_key({name: member[name] for name in names})
    except (KeyError, JoseError, ValueError, TypeError):
        return None
    if isinstance(key, RSAKey) and key.raw_value.key_size < MIN_RSA_BITS:
        return None
    return key


class _Keys:
    """The keys in use and their version: what both kinds of source share."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys: tuple[PublicKey, ...] = ()
        self.version = 0
        self._digest = b""

    def take(self, data: bytes) -> None:
        """Raises ValueError and keeps what there was."""
        digest = hashlib.sha256(data).digest()
        if digest != self._digest:
            self.keys = parse_set(data)
            self._digest = digest
            self.version += 1

    def keep(self, fault: object) -> None:
        log.warning("%s: no new keys (%s); %d known ones stay in use", self.name, fault, len(self.keys))


class KeyFile:
    """A JWK Set in a file, read again when the file is another. Faults of a running system keep the last good set."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidSetting: a file that is wrong from the start stops the start."""
        self._path = path
        self._set = _Keys(_JWKS)
        self._stamp: tuple[int, int, int] | None = None
        self._fault = ""
        try:
            self._read()
        except OSError as error:
            raise InvalidSetting(
                _JWKS, f"cannot be read ({error.strerror})", "a file, or an https URL"
            ) from None
        except ValueError as error:
            raise InvalidSetting(_JWKS, str(error), "a JWK Set (RFC 7517)") from None

    def look(self, now: float) -> int:
        try:
            self._read()
        except OSError as error:
            self._stamp = None
            self._complain(error.strerror or type(error).__name__)
        except ValueError as error:
            self._complain(str(error))
        return self._set.version

    async def current(self, now: float) -> tuple[PublicKey, ...]:
        self.look(now)
        return self._set.keys

    async def renewed(self, now: float) -> bool:
        return False  # `current` has just looked

    def _complain(self, fault: str) -> None:
        """Once, and not for every token."""
        if fault != self._fault:
            self._fault = fault
            self._set.keep(fault)

    def _read(self) -> None:
        # The inode too: mounted secrets are swapped by a link, often within the same second and with the same size.
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp == self._stamp:
            return
        # Noted before it is read: a broken file is parsed once, and one that changes meanwhile is read again.
        self._stamp = stamp
        with self._path.open("rb") as file:
            self._set.take(file.read(MAX_SET_BYTES + 1))
        self._fault = ""


class KeyUrl:
    """A JWK Set at a URL, or at the one that an issuer's discovery document names.

    Every fetch is a task of its own: whoever needs its answer waits for the same one, and a caller that goes away
    cancels nothing.
    """

    def __init__(self, url: str = "", *, issuer: str = "") -> None:
        """One of both. Raises InvalidSetting for a URL that keys may not come from."""
        self._url = url
        self._issuer = issuer
        self._set = _Keys(_ISSUER if issuer else _JWKS)
        self._asked_at: float | None = None
        self._failed = False
        self._task: asyncio.Task[None] | None = None
        if fault := _fault_of(url or issuer):
            raise InvalidSetting(self._set.name, fault, "an https URL; http only for this machine itself")

    def look(self, now: float) -> int:
        if self._set.keys and self._is_due(now, REFETCH_SECONDS if self._failed else TTL_SECONDS):
            self._fetching(now)
        return self._set.version

    async def current(self, now: float) -> tuple[PublicKey, ...]:
        self.look(now)
        if not self._set.keys:
            if self._is_under_way() or self._is_due(now, FIRST_RETRY_SECONDS):
                await asyncio.shield(self._fetching(now))
            if not self._set.keys:
                raise KeysUnavailable("the keys for checking tokens cannot be got now")
        return self._set.keys

    async def renewed(self, now: float) -> bool:
        version = self._set.version
        if self._is_under_way() or self._is_due(now, REFETCH_SECONDS):
            await asyncio.shield(self._fetching(now))
        return self._set.version != version

    def _is_due(self, now: float, seconds: float) -> bool:
        # A clock that was set back must not stop the asking.
        return self._asked_at is None or not 0 <= now - self._asked_at < seconds

    def _is_under_way(self) -> bool:
        # A task of a loop that is gone will never be done.
        task = self._task
        return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()

    def _fetching(self, now: float) -> asyncio.Task[None]:
        if self._task is None or not self._is_under_way():
            self._asked_at = now
            self._task = asyncio.create_task(self._fetch())
        return self._task

    async def _fetch(self) -> None:
        self._failed = True
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._set.take(await _get(self._url or await self._discover()))
            self._failed = False
        except ValueError as error:
            self._set.keep(error)
        except Exception as error:  # whatever a network does: the known keys go on
            self._set.keep(type(error).__name__)

    async def _discover(self) -> str:
        """OpenID Connect Discovery 1.0 §4: the issuer in the document must be the very one that was asked."""
        document = parse_object(await _get(self._issuer.rstrip("/") + "/.well-known/openid-configuration"))
        if document.get("issuer") != self._issuer:
            raise ValueError("the discovery document is of another issuer")
        url = document.get("jwks_uri")
        # An issuer elsewhere must not send us to a service of this machine.
        if not isinstance(url, str) or _fault_of(url) or (_is_here(url) and not _is_here(self._issuer)):
            raise ValueError("the discovery document names no usable jwks_uri")
        return url


def key_source(jwks: str | None, issuer: str | None) -> KeySource | None:
    """The source that the settings name; None where they name none. Raises InvalidSetting."""
    if jwks is None:
        return KeyUrl(issuer=issuer) if issuer is not None else None
    if jwks.startswith("file://"):
        return KeyFile(Path(unquote(urlsplit(jwks).path)))
    return KeyUrl(jwks) if "://" in jwks else KeyFile(Path(jwks))


def _fault_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "is not a URL"
    if not host:
        return "is not a URL"
    if parts.username is not None or parts.password is not None:
        return "holds an account or a password"
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(url)):
        return "is not https"
    return ""


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _get(url: str) -> bytes:
    """The body, at most `MAX_SET_BYTES`. Follows no redirect: the configured URL is the one that is trusted."""
    import httpx2  # only where keys come by URL: 60 ms, and 10 MB that others need not have

    # Compressed bodies could be small on the wire and huge here.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    # What stands on this machine is not asked for through a proxy.
    client = httpx2.AsyncClient(follow_redirects=False, timeout=FETCH_SECONDS, trust_env=not _is_here(url))
    async with client, client.stream("GET", url, headers=headers) as response:
        if response.status_code != 200:
            raise ValueError(f"answered {response.status_code}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ValueError("answered with a compressed body")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_SET_BYTES:
                raise ValueError(f"answered with more than {MAX_SET_BYTES} bytes")
        return bytes(body)
