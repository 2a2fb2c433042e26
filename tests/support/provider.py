"""An OpenID Connect provider on loopback that can be told to lie, which no real one can: what it must not be believed."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from tests.support.loopback import Handler, Loopback

CLIENT = "progress"
SECRET = "a secret between the two, of some length"


class Provider(Loopback):
    """Whoever comes with a code is `subject`. `claims` and `algorithm` change what its next ID token says."""

    def __init__(self) -> None:
        self.subject = "alice"
        self.claims: dict[str, Any] = {}
        self.algorithm = "RS256"
        self.key = RSAKey.generate_key(2048, {"kid": "first"})
        #: None: the key above. What signs, where that is not what is published.
        self.signs_with: Any = None
        #: The nonce of the sign-in that is under way.
        self.nonce = ""
        self.asked: list[str] = []
        super().__init__(self._handler())

    @property
    def issuer(self) -> str:
        return self.url

    def rotate(self) -> None:
        """The old key is published no more."""
        self.key = RSAKey.generate_key(2048, {"kid": "second"})

    def sign_with_shared_secret(self) -> None:
        """What anybody could do who knows the public key, or the client's secret."""
        self.algorithm, self.signs_with = "HS256", OctKey.import_key(SECRET, {"kid": "first"})

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            # It even offers what must not be taken.
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
        }

    def _token(self) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "sub": self.subject, "nonce": self.nonce, "iat": now, "exp": now + 60,
            **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        key = self.signs_with or self.key
        header = {"alg": self.algorithm, "kid": key.kid}
        signed = jwt.encode(header, claims, key, algorithms=[self.algorithm])
        return {"access_token": "opaque", "token_type": "Bearer", "expires_in": 60, "id_token": signed}

    def _handler(self) -> type[Handler]:
        provider = self

        class Told(Handler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                keys = {"keys": [provider.key.as_dict(private=False)]}
                self._answer(keys if self.path == "/keys" else provider._metadata())

            def do_POST(self) -> None:
                body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                provider.asked.append(self.path)
                self._answer(provider._token() if "code_verifier" in body else {"error": "invalid_grant"})

            def _answer(self, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Told
