"""An issuer of tokens with real keys: makes key sets, signs whatever it is told, serves its keys on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = 1_800_000_000
SECRET = "a secret of more than thirty-two bytes"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims, changed; None takes one away."""
    every = {"sub": "alice", "exp": NOW + 600, "scope": "jobs:read jobs:write", **changes}
    return {name: value for name, value in every.items() if value is not None}


def raw_token(header: bytes, payload: bytes, sign: Any) -> str:
    """A token of exactly these bytes."""
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(sign(signed.encode()))}"


def hs256(secret: str = SECRET) -> Any:
    return lambda message: hmac.new(secret.encode(), message, hashlib.sha256).digest()


def hs_token(payload: dict[str, Any] | bytes, secret: str = SECRET, **header: Any) -> str:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return raw_token(json.dumps({"alg": "HS256", **header}).encode(), body, hs256(secret))


@dataclass
class SigningKey:
    """One private key, under a kid."""

    private: PrivateKey
    kid: str | None = "k1"

    @property
    def alg(self) -> str:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return "RS256"
        return "ES256" if isinstance(self.private, ec.EllipticCurvePrivateKey) else "EdDSA"

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(message, padding.PKCS1v15(), SHA256())
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def token(self, payload: dict[str, Any], **header: Any) -> str:
        full = {"alg": self.alg, **({} if self.kid is None else {"kid": self.kid}), **header}
        return raw_token(json.dumps(full).encode(), json.dumps(payload).encode(), self.sign)

    def public_pem(self) -> str:
        return (
            self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        )

    def public(self, **members: Any) -> dict[str, Any]:
        """The JWK."""
        named = {} if self.kid is None else {"kid": self.kid}
        if isinstance(self.private, rsa.RSAPrivateKey):
            numbers = self.private.public_key().public_numbers()
            return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **named, **members}
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            point = self.private.public_key().public_bytes_raw()
            return {"kty": "OKP", "crv": "Ed25519", "x": b64(point), **named, **members}
        spot = self.private.public_key().public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "x": number(spot.x, 32),
            "y": number(spot.y, 32),
            **named,
            **members,
        }


def rsa_key(kid: str | None = "k1", bits: int = 2048) -> SigningKey:
    return SigningKey(rsa.generate_private_key(65537, bits), kid)


def ec_key(kid: str | None = "k1") -> SigningKey:
    return SigningKey(ec.generate_private_key(ec.SECP256R1()), kid)


def ed_key(kid: str | None = "k1") -> SigningKey:
    return SigningKey(ed25519.Ed25519PrivateKey.generate(), kid)


def key_set(*keys: SigningKey | dict[str, Any]) -> bytes:
    return json.dumps({"keys": [key if isinstance(key, dict) else key.public() for key in keys]}).encode()


@dataclass
class KeyServer:
    """Answers each path with what `answers` holds for it; counts how often it was asked."""

    url: str
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    #: Cleared: answers wait.
    open: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        self.answers[path] = (
            status,
            {name.replace("_", "-"): value for name, value in headers.items()},
            body,
        )
        return self.url + path


@contextmanager
def key_server() -> Iterator[KeyServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place.asked.append(self.path)
            place.open.wait(20)
            status, headers, body = place.answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        place = KeyServer(f"http://127.0.0.1:{server.server_port}")
        place.open.set()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield place
        finally:
            place.open.set()
            server.shutdown()
            thread.join()
