"""A web server whose Redis lets its account not in, or not listen: what its operator reads, and how often."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from progress_stream.streaming import livepath
from tests.support.redis import RedisServer
from tests.support.server import SECRET, serving
from tests.support.waiting import until

PASSWORD = "hush-hush"


@pytest.fixture
def refused(
    settings: Settings, client: redis.Redis, redis_server: RedisServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> Iterator[Settings]:  # fmt: skip
    """Of an account that there is not yet. What is waited for on the live path takes no time."""
    monkeypatch.setattr(livepath, "_ANSWER_SECONDS", 0.2)
    caplog.set_level(logging.WARNING, "progress_stream")
    account = settings.namespace
    url = f"redis://{account}:{PASSWORD}@127.0.0.1:{redis_server.port}/0"
    yield settings.model_copy(
        update={
            "redis_url": url, "broker_url": redis_server.url(1), "data": tmp_path, "jwt_secret": SecretStr(SECRET),
            "ready_seconds": 0, "drain_seconds": 0,
        }
    )  # fmt: skip
    client.acl_deluser(account)


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        (None, "Redis refuses the subscription: WRONGPASS"),
        ("resetchannels", "Redis refuses a subscription: NOPERM"),
    ],
)
def test_it_is_said_once_and_when_it_is_well_again(
    refused: Settings, client: redis.Redis, caplog: pytest.LogCaptureFixture, rights: str | None, words: str
) -> None:
    """Not at each try, of which there are some a second."""
    rule = ["ACL", "SETUSER", refused.namespace, "on", f">{PASSWORD}", "~*", "&*", "+@all"]
    if rights is not None:
        client.execute_command(*rule, rights)
    app = create_app(refused)
    hub = app.state.parts.hub
    with serving(app, refused):
        until(lambda: hub.tally.probe_failures >= 3 and hub.wakeups.reconnects >= 2)
        begun = [line for line in caplog.messages if "ulimit" not in line]
        client.execute_command(*rule)
        until(lambda: "the live path is proved again" in caplog.text)
    over = [line.partition(" after ")[0] for line in caplog.messages if " after " in line]

    assert {words, "the probe of the live path did not come back"} <= set(begun)
    assert len(set(begun)) == len(begun)
    assert "the live path is proved again" in over
    assert over[0] in ("the subscription to Redis is there again", "Redis takes subscriptions again")
    assert 2 == len(over)
    assert PASSWORD not in caplog.text
