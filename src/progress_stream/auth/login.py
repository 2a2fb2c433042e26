"""Signing in at an OpenID Connect provider, by authlib's client. What becomes of whoever has signed in is left to the caller.

It departs from authlib's defaults, each time because those are not enough: PKCE is on; the provider's metadata must name the issuer
that is configured, and is fetched anew every hour; only algorithms of ours may sign an ID token, whatever the metadata says; what a
sign-in must remember lies in the store, one record for each, so that two tabs may sign in at once.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx2
from authlib.integrations.starlette_client import OAuth, OAuthError
from joserfc.errors import JoseError
from starlette.requests import Request

from ..errors import ProgressStreamError
from ..settings import Settings

log = logging.getLogger(__name__)

NAME: Final = "provider"
SCOPE: Final = "openid profile email"
#: What may sign an ID token: keys that only the provider has.
ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"})
#: How old the provider's metadata and keys may be.
METADATA_SECONDS: Final = 3_600
#: Between two tries to reach a provider that did not answer.
RETRY_SECONDS: Final = 5.0
#: A sign-in that takes longer is begun again.
LOGIN_SECONDS: Final = 600
#: One request to the provider.
ANSWER_SECONDS: Final = 10.0
_STATE: Final = f"_state_{NAME}_"


class SignInFailed(ProgressStreamError):
    """The provider, or what came back from it, does not prove who somebody is. The text is for the log."""


class Memory(Protocol):
    """What authlib keeps between the two halves of a sign-in, where every web process can read it."""

    async def get(self, key: str) -> str | None: ...

    async def set(self, key: str, value: str, expires: int) -> None: ...

    async def delete(self, key: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever has signed in, as the provider says."""

    claims: dict[str, Any]
    id_token: str


class SignIn:
    """One provider. Asks it for nothing before somebody wants to sign in."""

    def __init__(self, settings: Settings, memory: Memory) -> None:
        self._settings = settings
        self._memory = memory
        self._issuer = settings.oidc_issuer or ""
        self._client: Any = None
        self._fetched_at = self._ask_again_at = float("-inf")

    async def begin(self, request: Request, redirect_uri: str) -> tuple[str, str]:
        """Where to send the browser, and the state that comes back with it. Raises SignInFailed."""
        request.scope["session"] = {}
        try:
            client = await self._known()
            made = await client.create_authorization_url(redirect_uri, nonce=secrets.token_urlsafe(24))
            await client.save_authorize_data(request, redirect_uri=redirect_uri, **made)
        except (OAuthError, httpx2.HTTPError, ValueError, KeyError, RuntimeError) as error:
            raise SignInFailed(f"the provider cannot be asked: {type(error).__name__}") from error
        return str(made["url"]), str(made["state"])

    async def finish(self, request: Request, state: str) -> Person:
        """Who came back. The caller has made sure that it is the browser that was sent. Raises SignInFailed."""
        # Authlib asks for a mark of its own in the session; the cookie that the caller compared stands for it.
        request.scope["session"] = {_STATE + state: {"exp": time.time() + LOGIN_SECONDS}}
        options = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._settings.oidc_client_id},
        }
        try:
            client = await self._known()
            self._check_issuer(client, request.query_params.get("iss"))
            token = await client.authorize_access_token(request, claims_options=options, leeway=30)
            if "userinfo" not in token:
                raise SignInFailed("the provider gave no ID token")
            return Person(await self._claims(client, token), str(token["id_token"]))
        except OAuthError as error:
            raise SignInFailed(f"the provider refused: {error.error}") from error
        except (JoseError, httpx2.HTTPError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise SignInFailed(f"the answer does not prove anything: {type(error).__name__}") from error

    def _check_issuer(self, client: Any, told: str | None) -> None:
        """RFC 9207: an answer of another provider, mixed up with ours. Raises SignInFailed."""
        promised = client.server_metadata.get("authorization_response_iss_parameter_supported")
        if told != self._issuer and (promised or told is not None):
            raise SignInFailed("the answer is that of another issuer")

    async def end_session_url(self, id_token: str, back: str) -> str | None:
        """Where the browser signs out at the provider too; None where it cannot."""
        try:
            client = await self._known()
            if "end_session_endpoint" not in client.server_metadata:
                return None
            made = await client.create_logout_url(
                back, id_token or None, state="-", client_id=self._settings.oidc_client_id
            )
        except (OAuthError, SignInFailed, httpx2.HTTPError, ValueError, KeyError, RuntimeError) as error:
            log.warning("the provider is not told of the end of a session: %s", type(error).__name__)
            return None
        return str(made["url"])

    async def _claims(self, client: Any, token: Mapping[str, Any]) -> dict[str, Any]:
        """Of the ID token; and, for a claim that administrators have and that is not in it, of the userinfo endpoint."""
        claims = dict(token["userinfo"])
        wanted = (self._settings.oidc_admin_claim or "").partition("=")[0]
        if wanted and wanted not in claims and "userinfo_endpoint" in client.server_metadata:
            more = dict(await client.userinfo(token=token))
            # OpenID Connect Core §5.3.2: for another subject it must not be used.
            if more.get("sub") == claims.get("sub"):
                claims = {**more, **claims}
        return claims

    async def _known(self) -> Any:
        """The client with the provider's metadata, an hour old at most. Raises SignInFailed."""
        now = time.monotonic()
        if self._client is None or now - self._fetched_at > METADATA_SECONDS:
            if now < self._ask_again_at:
                raise SignInFailed("the provider did not answer a moment ago")
            # Anybody can ask for a sign-in: a provider that is away is asked by one of them at a time.
            self._ask_again_at = now + RETRY_SECONDS
            client = self._made()
            metadata = await client.load_server_metadata()
            if metadata.get("issuer") != self._issuer:
                raise SignInFailed("the metadata is that of another issuer")
            offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
            allowed = [name for name in offered if name in ALGORITHMS]
            if not allowed:
                raise SignInFailed("the provider signs with no algorithm that is allowed")
            metadata["id_token_signing_alg_values_supported"] = allowed
            self._client, self._fetched_at, self._ask_again_at = client, now, float("-inf")
        return self._client

    def _made(self) -> Any:
        settings = self._settings
        secret = settings.oidc_client_secret
        oauth = OAuth(cache=self._memory)
        return oauth.register(
            NAME,
            client_id=settings.oidc_client_id,
            client_secret=None if secret is None else secret.get_secret_value(),
            server_metadata_url=self._issuer.rstrip("/") + "/.well-known/openid-configuration",
            client_kwargs={
                "scope": SCOPE, "code_challenge_method": "S256", "timeout": ANSWER_SECONDS,
                **({} if secret is not None else {"token_endpoint_auth_method": "none"}),
            },
        )  # fmt: skip
