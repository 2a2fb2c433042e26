"""A served application for each test, with a real Redis behind it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import Settings, load
from tests.support.server import SECRET, WAYS, Site, Way, serving


@pytest.fixture
def settings(redis_url: str, broker_url: str, namespace: str, tmp_path: Path) -> Settings:
    """What the test's server runs with. A test that needs others copies them: `settings.model_copy(update=…)`."""
    return load(
        redis_url=redis_url, broker_url=broker_url, namespace=namespace, data=tmp_path, jwt_secret=SecretStr(SECRET),
        ready_seconds=0, drain_seconds=0, body_bytes=20_000, file_bytes=300_000,
    )  # fmt: skip


@pytest.fixture
def site(settings: Settings, redis_client: redis.Redis) -> Iterator[Site]:
    """Served as `progress-stream serve` does."""
    with serving(create_app(settings), settings) as url:
        yield Site(url, settings, redis_client)


@pytest.fixture(params=WAYS)
def each_site(
    request: pytest.FixtureRequest, settings: Settings, redis_client: redis.Redis
) -> Iterator[Site]:
    """Served in both ways in which a stream's bytes may leave: what a client sees must not differ."""
    way: Way = request.param
    with serving(create_app(settings), settings, way) as url:
        yield Site(url, settings, redis_client)


@pytest.fixture(params=WAYS)
def serve(
    request: pytest.FixtureRequest, settings: Settings, redis_client: redis.Redis
) -> Iterator[Callable[..., Site]]:
    """As `each_site`, with settings of the test's own: `serve(stream_seconds=1)`."""
    way: Way = request.param
    with ExitStack() as open_sites:

        def make(**changed: Any) -> Site:
            changed_settings = settings.model_copy(update=changed)
            url = open_sites.enter_context(serving(create_app(changed_settings), changed_settings, way))
            return Site(url, changed_settings, redis_client)

        yield make
