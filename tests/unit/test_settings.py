"""A wrong setting stops the start with one line: which, what is wrong with it, what is allowed; and no secret."""

import re
from typing import Any

import pytest

from progress_stream.errors import InvalidSetting
from progress_stream.settings import PREFIX, Settings, load

WRONG: dict[str, Any] = {
    "redis_url": "http://host", "broker_url": "amq://host", "namespace": "a b", "history_events": 0, "replay_seconds": -1,
    "state_seconds": "soon", "event_bytes": 0, "log_rate": 0, "log_burst": -1, "heartbeat_seconds": 0, "stream_seconds": -5,
    "write_stall_seconds": "x", "ready_seconds": -1, "drain_seconds": -1, "stalled_seconds": 0, "abandoned_seconds": 0,
    "max_starts": 0, "ticket_seconds": 0, "url_tokens": "all", "max_streams": 0, "max_streams_per_owner": 0, "body_bytes": 0,
    "file_bytes": -1, "header_bytes": 0, "header_seconds": 0, "enqueue_wait_ms": -1, "start_wait_ms": -1, "terminal_wait_ms": -1,
    "replica_wait_ms": -1, "jwt_secret": "too short to be one", "jwt_algorithms": "none", "streaming": "perhaps", "poll_seconds": 0,
    "cors_origins": "example.org", "admin_port": 65_536, "oidc_issuer": "http://elsewhere.example",
    "oidc_scopes": "jobs:everything", "oidc_admin_claim": "groups", "session_seconds": 0,
    # An empty one would refuse every token.
    "jwt_issuer": "", "jwt_audience": "", "owner_claim": "",
}  # fmt: skip
#: Any text will do, as far as can be seen before it is used.
FREE = {
    "data",
    "files_url",
    "jwks",
    "oidc_client_id",
    "oidc_client_secret",
}


def test_the_table_of_wrong_values_is_complete() -> None:
    """A new setting takes its place here."""
    assert set(Settings.model_fields) == WRONG.keys() | FREE


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_wrong_value_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    """From the environment, where settings come from."""
    monkeypatch.setenv(PREFIX + name.upper(), str(value))

    with pytest.raises(InvalidSetting) as caught:
        load()

    assert re.fullmatch(rf"{PREFIX}{name.upper()}: .{{8,}}", str(caught.value))
    if name == "jwt_secret":
        assert "too short to be one" not in str(caught.value)


@pytest.mark.contract("BROKER_URL")
def test_a_store_that_is_the_broker_s_database_is_refused() -> None:
    """Dramatiq's maintenance runs KEYS there."""
    with pytest.raises(
        InvalidSetting, match=r"BROKER_URL: is the store's own database \(allowed: another database"
    ):
        load(redis_url="redis://host/3", broker_url="redis://user@host:6379/3")


@pytest.mark.contract("BROKER_URL")
def test_the_broker_may_be_rabbitmq_and_the_store_may_not() -> None:
    """A virtual host is no number of a database."""
    settings = load(redis_url="redis://host/3", broker_url="amqps://user@host/jobs")

    assert "amqps://user@host/jobs" == settings.effective_broker_url
    with pytest.raises(InvalidSetting, match="REDIS_URL: the scheme 'amqp' is not supported"):
        load(redis_url="amqp://host")
    with pytest.raises(InvalidSetting, match=r"BROKER_URL: the scheme 'http' is not supported .*amqp://"):
        load(broker_url="http://host")


def test_the_defaults_are_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing needs to be set but where Redis is."""
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)

    assert "redis://host/1" == load(redis_url="redis://host/0").effective_broker_url
