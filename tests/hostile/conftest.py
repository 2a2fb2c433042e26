"""The served application, as an attacker meets it, and a hand in its Redis, for one who got that far."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import Settings, load
from tests.support.server import SECRET, Site, serving


@pytest.fixture
def settings(redis_url: str, broker_url: str, namespace: str, tmp_path: Path) -> Settings:
    """A test that needs others copies them: `settings.model_copy(update=…)`."""
    return load(
        redis_url=redis_url, broker_url=broker_url, namespace=namespace, data=tmp_path, jwt_secret=SecretStr(SECRET),
        ready_seconds=0, drain_seconds=0, body_bytes=20_000, file_bytes=300_000,
    )  # fmt: skip


@pytest.fixture
def site(settings: Settings, redis_client: redis.Redis) -> Iterator[Site]:
    with serving(create_app(settings), settings) as url:
        yield Site(url, settings, redis_client)
