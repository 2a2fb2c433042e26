"""A worker that has no job, whose Redis lets it not in, or is away: what its operator reads."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from progress_stream.reporting import housekeeping
from progress_stream.reporting.housekeeping import Housekeeper
from progress_stream.settings import Settings
from tests.support.redis import RedisServer
from tests.worker.conftest import Stack, until

PASSWORD = "hush-hush"
REFUSED = "housekeeping waits: Redis refuses the password or the account"
AWAY = "housekeeping waits: Redis cannot be reached"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[int]:
    """Grows with each round, of which there are many a second."""
    caplog.set_level(logging.INFO, "progress_stream.reporting")
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(housekeeping, "QUIET_SECONDS", 1.0)
    monkeypatch.setattr(housekeeping, "CALM_SECONDS", 0.2)
    return []


def keeper_at(url: str, settings: Settings, rounds: list[int]) -> Housekeeper:
    settings = settings.model_copy(update={"redis_url": url})
    return Housekeeper(settings, lambda: rounds.append(1) or {"count": b"{}"})


def some(rounds: list[int]) -> None:
    enough = len(rounds) + 5
    until(lambda: len(rounds) > enough)


def test_an_account_that_is_refused_is_said_once_and_when_it_is_well_again(
    server: RedisServer, settings: Settings, rounds: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Without the password; with a right that is missing it is the same."""
    keeper = keeper_at(f"redis://progress:{PASSWORD}@127.0.0.1:{server.port}/0", settings, rounds)
    with server.client() as client:
        keeper.start()
        some(rounds)
        assert [REFUSED] == caplog.messages

        client.execute_command("ACL", "SETUSER", "progress", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        until(lambda: len(caplog.messages) > 1)
        some(rounds)
        client.execute_command("ACL", "SETUSER", "progress", "-set")
        until(lambda: len(caplog.messages) > 2)
        some(rounds)
    keeper.stop()

    assert 3 == len(caplog.messages)
    assert caplog.messages[1].startswith("housekeeping goes on after ")
    assert "housekeeping waits: the Redis account may not do this" == caplog.messages[2]
    assert PASSWORD not in caplog.text


def test_a_redis_that_is_away_is_said_after_some_seconds(
    server: RedisServer, settings: Settings, rounds: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Not at once, once, and when it is back."""
    keeper = keeper_at(server.url(), settings, rounds)
    keeper.start()
    some(rounds)
    server.stop()
    some(rounds)
    assert [] == caplog.messages

    until(lambda: caplog.messages)
    some(rounds)
    assert [AWAY] == caplog.messages

    server.start()
    until(lambda: len(caplog.messages) > 1)
    some(rounds)
    keeper.stop()
    assert [AWAY, True] == [caplog.messages[0], caplog.messages[1].startswith("housekeeping goes on after ")]
    assert 2 == len(caplog.messages)


def test_what_a_job_s_reports_have_told_is_not_told_twice(
    server: RedisServer,
    settings: Settings,
    broker_url: str,
    rounds: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of one outage one line at its beginning and one at its end."""
    stack = Stack(settings.model_copy(update={"redis_url": server.url()}), broker_url)

    @stack.actor()
    def work() -> None: ...

    stack.work()
    server.stop()
    message = work.send()
    until(lambda: caplog.messages)
    time.sleep(2 * housekeeping.QUIET_SECONDS)
    server.start()
    until(lambda: stack.state(message.message_id)["state"] == "succeeded")
    time.sleep(2 * housekeeping.CALM_SECONDS)
    stack.stop()

    kept, back = caplog.messages
    assert "progress is kept in memory: Redis cannot be reached" == kept
    assert back.startswith("Redis is back after ")
