"""A broker whose messages are pickles is refused wherever it would be used: they run code when they are read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from progress_stream import ProgressMiddleware
from progress_stream.reporting.encoding import UnsafeEncoder

APPLICATION = """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from progress_stream import ProgressMiddleware

broker = RedisBroker(url={url!r})
broker.add_middleware(ProgressMiddleware(redis_url=None))
dramatiq.set_broker(broker)

@dramatiq.actor(progress=True)
def idle() -> None: ...

dramatiq.set_encoder(dramatiq.PickleEncoder())
"""


class Renamed(dramatiq.PickleEncoder):
    """What an application may call it."""


@pytest.fixture(params=[dramatiq.PickleEncoder, Renamed])
def pickles(request: pytest.FixtureRequest) -> Iterator[None]:
    before = dramatiq.get_encoder()
    dramatiq.set_encoder(request.param())
    yield
    dramatiq.set_encoder(before)


@pytest.fixture
def broker() -> StubBroker:
    broker = StubBroker()
    broker.add_middleware(ProgressMiddleware(redis_url=None))
    return broker


@pytest.mark.usefixtures("pickles")
def test_no_actor_is_declared_beside_pickles(broker: StubBroker) -> None:
    """The fault is named, and what is allowed."""
    with pytest.raises(UnsafeEncoder, match=r"PickleEncoder.*allowed: JSONEncoder"):

        @dramatiq.actor(broker=broker)
        def idle() -> None: ...


def test_no_message_leaves_as_a_pickle(broker: StubBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the encoder is set after the actors."""

    @dramatiq.actor(broker=broker)
    def idle() -> None: ...

    monkeypatch.setattr("dramatiq.message.global_encoder", dramatiq.PickleEncoder())
    with pytest.raises(UnsafeEncoder):
        idle.send()

    assert broker.queues["default"].empty()


def test_a_worker_that_would_read_pickles_does_not_start(broker_url: str, tmp_path: Path) -> None:
    """The whole process ends, and says why."""
    (tmp_path / "application.py").write_text(APPLICATION.format(url=broker_url))
    ran = subprocess.run(
        [sys.executable, "-m", "dramatiq", "application", "--processes", "1", "--threads", "1"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert 0 != ran.returncode
    assert "Dramatiq's encoder is PickleEncoder" in ran.stderr
