"""Every setting, its default and its reason, read from `PROGRESS_STREAM_…`. Connects to nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .addresses import REDIS_PORT, Address, BadAddress, Cluster, Sentinels, where
from .errors import InvalidSetting

PREFIX: Final = "PROGRESS_STREAM_"
#: HMAC keys shorter than the hash are guessable (RFC 7518 §3.2).
MIN_SECRET_BYTES: Final = 32
ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA", "Ed25519")

#: What can hold Dramatiq's queue.
_BROKERS: Final = "the URL of another Redis, or of RabbitMQ: redis://, rediss://, unix://, redis+sentinel://, amqp://, amqps://"

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0, le=10**9)]
Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """One immutable value for a process. Make it with `load()`, which turns faults into one clear line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    redis_url: str | None = Field(
        None, description="where streams and states live: a server, a Cluster, or what Sentinels name"
    )
    broker_url: str | None = Field(
        None,
        description="Dramatiq's Redis; its maintenance runs KEYS, hence another database. Or amqp://, its RabbitMQ",
    )
    namespace: str = Field(
        "ps", description="begins every key and channel, so that two installations can share a server"
    )
    data: Path = Field(Path("data"), description="the folder for files and, with `dev`, the embedded Redis")
    files_url: str | None = Field(
        None, description="where uploads and results go; a folder in the data folder by default"
    )

    history_events: Positive = Field(10_000, description="events kept a job: what a watcher can replay")
    replay_seconds: Positive = Field(
        3_600, description="an ended job's stream: long enough for a laptop that was closed"
    )
    state_seconds: Positive = Field(86_400, description="an ended job's state, files and result")
    event_bytes: Positive = Field(65_536, description="one event's data; larger is an error at the actor")
    log_rate: Seconds = Field(20, description="log events a second a job; a flood helps nobody who reads")
    log_burst: Positive = Field(200, description="log events that may come at once before log_rate counts")

    heartbeat_seconds: Seconds = Field(15, description="under the smallest idle cut of common proxies (30 s)")
    stream_seconds: Seconds = Field(
        900, description="an EventSource stream's life; spreads streams over new pods"
    )
    write_stall_seconds: Seconds = Field(60, description="a socket that takes nothing for so long is closed")
    ready_seconds: NotNegative = Field(
        5, description="between SIGTERM and the first goodbye: load balancers look away"
    )
    drain_seconds: NotNegative = Field(20, description="the time over which open streams are sent away")

    stalled_seconds: Positive = Field(15, description="three missed signs of life, each five seconds apart")
    abandoned_seconds: Positive = Field(3_600, description="then a job without a worker is failed as Lost")
    max_starts: Positive = Field(10, description="a message that kills its workers ends after so many starts")

    ticket_seconds: Positive = Field(3_600, description="the life of a ticket for a URL")
    url_tokens: Literal["tickets", "any"] = Field(
        "tickets", description="URLs are logged: RFC 9700 forbids tokens there"
    )

    max_streams: Positive = Field(20_000, description="open streams a process")
    max_streams_per_owner: Positive = Field(100, description="open streams of one owner a process")
    body_bytes: Positive = Field(1_048_576, description="a JSON body; larger: 413")
    file_bytes: Positive = Field(52_428_800, description="an uploaded file; larger: 413")
    header_bytes: Positive = Field(32_768, description="a request's header block; larger: 431")
    header_seconds: Seconds = Field(10, description="the time for a request's headers; then closed")

    enqueue_wait_ms: NotNegative = Field(
        1_000, description="the longest that sending a message waits on Redis"
    )
    start_wait_ms: NotNegative = Field(1_000, description="the longest that a job's start waits on Redis")
    terminal_wait_ms: NotNegative = Field(1_000, description="the longest that a job's end waits on Redis")
    replica_wait_ms: NotNegative = Field(
        0, description="wait for one replica after a start or an end; not a guarantee"
    )

    jwt_secret: SecretStr | None = Field(None, description="HS256 secret, 32 bytes or more")
    jwks: str | None = Field(None, description="a JWK Set: a file, or an https URL")
    jwt_issuer: str | None = Field(
        None,
        min_length=1,
        description="the `iss` that tokens must have; with no JWKS its keys are discovered",
    )
    jwt_audience: str | None = Field(None, min_length=1, description="the `aud` that tokens must have")
    jwt_algorithms: Names = Field(
        (), description="algorithms that may pass; by the kind of key where none is given"
    )
    owner_claim: str = Field("sub", min_length=1, description="the claim that names the owner")

    oidc_issuer: str | None = Field(
        None, description="an OpenID Connect provider at which people sign in to the page"
    )
    oidc_client_id: str | None = Field(None, description="what the provider calls this application")
    oidc_client_secret: SecretStr | None = Field(
        None, description="this application's secret there; none: a public client, by PKCE alone"
    )
    oidc_scopes: str = Field("jobs:read jobs:write", description="the scopes of whoever has signed in")
    oidc_admin_claim: str | None = Field(
        None, description="`name=value`: whoever has this claim is `jobs:admin` too"
    )
    session_seconds: Positive = Field(
        28_800, description="how long somebody stays signed in, whatever they do: a working day"
    )

    streaming: bool = Field(True, description="false: pages poll")
    poll_seconds: Seconds = Field(2, description="how often a page polls where it must")
    cors_origins: Names = Field((), description="origins of pages elsewhere that may ask; none: CORS is off")
    admin_port: int | None = Field(
        None, ge=0, le=65_535, description="a port of its own for metrics and the list of open streams"
    )

    @field_validator("jwt_algorithms", "cors_origins", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return (
            tuple(re.split(r"[\s,]+", value.strip()))
            if isinstance(value, str) and value.strip()
            else value or ()
        )

    @field_validator("jwt_algorithms")
    @classmethod
    def _known_algorithms(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in ALGORITHMS]:
            raise ValueError(
                f"{unknown[0]!r:.40} is no algorithm for tokens; allowed: {', '.join(ALGORITHMS)}"
            )
        return names

    @field_validator("jwt_secret")
    @classmethod
    def _long_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"is too short; allowed: {MIN_SECRET_BYTES} bytes or more")
        return secret

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer_url(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "")
        local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if url and not (parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and local))):
            raise ValueError(
                "is not a provider's address; allowed: https://…, or http://127.0.0.1 on this machine"
            )
        return url or None

    @field_validator("oidc_scopes")
    @classmethod
    def _known_scopes(cls, text: str) -> str:
        known = {"jobs:read", "jobs:write", "jobs:admin"}
        if unknown := sorted(set(text.split()) - known):
            raise ValueError(f"{unknown[0]!r:.40} is no scope; allowed: {', '.join(sorted(known))}")
        return text

    @field_validator("oidc_admin_claim")
    @classmethod
    def _claim_and_value(cls, rule: str | None) -> str | None:
        if rule and not re.fullmatch(r"[^\s=]+=.+", rule):
            raise ValueError("is not usable; allowed: name=value")
        return rule or None

    @field_validator("namespace")
    @classmethod
    def _plain_namespace(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", name, re.ASCII):
            raise ValueError("is not usable; allowed: 1 to 32 of A-Z a-z 0-9 _ . -")
        return name

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, url: str | None) -> str | None:
        if url:
            where(url)
        return url or None

    @field_validator("broker_url")
    @classmethod
    def _broker_url(cls, url: str | None) -> str | None:
        if not url or is_rabbitmq(url):
            return url or None
        try:
            place = where(url)
        except BadAddress as error:
            raise BadAddress(error.fault, _BROKERS) from None
        if isinstance(place, Cluster):
            raise ValueError(f"is a Redis Cluster, where Dramatiq's scripts do not run; allowed: {_BROKERS}")
        return url

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path or parts.query:
                raise ValueError(
                    f"{origin!r:.80} is not an origin; allowed: scheme://host[:port], with no path"
                )
        return origins

    @property
    def effective_broker_url(self) -> str | None:
        """`broker_url`, or the store's server with the next database. Raises InvalidSetting where there is none."""
        if self.broker_url is None:
            return None if self.redis_url is None else _next_database(self.redis_url)
        if is_rabbitmq(self.broker_url):
            return self.broker_url
        if self.redis_url is not None and _is_same(self.broker_url, self.redis_url):
            raise InvalidSetting(
                "BROKER_URL", "is the store's own database", "another database of it, or another server"
            )
        return self.broker_url

    @property
    def broker_namespace(self) -> str:
        """What begins the broker's keys: Dramatiq's own default, so that an existing broker fits as it is; with a NAMESPACE of
        one's own that comes first, so that two installations on one server do not take each other's messages."""
        return "dramatiq" if self.namespace == "ps" else f"{self.namespace}:dramatiq"

    @property
    def effective_files_url(self) -> str:
        """`files_url`, or the folder `files` in the data folder."""
        return self.files_url or (self.data.absolute() / "files").as_uri()


def is_rabbitmq(url: str) -> bool:
    """A broker's URL names RabbitMQ, and not Redis."""
    return urlsplit(url).scheme in {"amqp", "amqps"}


def _is_same(broker: str, store: str) -> bool:
    """Whether both are one database; of a Cluster's node each, for it has but one. The account does not count."""
    kept = where(store)
    if isinstance(kept, Cluster):
        return bool(_servers(broker) & set(map(str, kept.hosts)))
    return kept.database == where(broker).database and bool(_servers(broker) & _servers(store))


def _servers(url: str) -> set[str]:
    found = where(url)
    if isinstance(found, Sentinels):
        return {f"{host} {found.name}" for host in found.hosts}
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return {parts.path}
    return {str(Address(parts.hostname or "localhost", parts.port or REDIS_PORT))}


def _next_database(url: str) -> str:
    found = where(url)
    if isinstance(found, Cluster):
        raise InvalidSetting(
            "BROKER_URL", "is not set, and the store's Redis Cluster has no second database", _BROKERS
        )
    number = found.database + 1
    if isinstance(found, Sentinels):
        return found.with_database(number)
    parts = urlsplit(url)
    if parts.scheme == "unix" or "db=" in parts.query:
        rest = [item for item in parts.query.split("&") if item and not item.startswith("db=")]
        return f"{url.partition('?')[0]}?{'&'.join([*rest, f'db={number}'])}"
    return parts._replace(path=f"/{number}").geturl()


#: How pydantic begins to say what it would have taken.
_PYDANTIC_ALLOWS: Final = re.compile("Input should be |String should have ")


def load(**overrides: Any) -> Settings:
    """Settings from the environment; `overrides` win. Raises InvalidSetting for the first value that cannot be used."""
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else PREFIX.rstrip("_")
        fault, _, allowed = first["msg"].removeprefix("Value error, ").partition("; allowed: ")
        if said := _PYDANTIC_ALLOWS.match(fault):
            fault, allowed = "is not usable", fault[said.end() :].partition(", unable to")[0]
        raise InvalidSetting(name, fault[:1].lower() + fault[1:], allowed) from None
    _ = settings.effective_broker_url
    return settings
