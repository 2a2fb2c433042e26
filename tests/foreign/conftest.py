"""Foreign parsers, and the served application with a reporter beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import Settings, load
from tests.foreign.parsers import NodeParser, node_parser
from tests.support.server import SECRET, WAYS, Site, Way, serving


@pytest.fixture(scope="session")
def node() -> Iterator[NodeParser]:
    with node_parser() as parser:
        yield parser


@pytest.fixture
def settings(redis_url: str, broker_url: str, namespace: str, tmp_path: Path) -> Settings:
    """For the server and the reporter alike. No log line is to be left out."""
    return load(
        redis_url=redis_url, broker_url=broker_url, namespace=namespace, data=tmp_path, jwt_secret=SecretStr(SECRET),
        ready_seconds=0, drain_seconds=0, log_burst=10_000,
    )  # fmt: skip


@pytest.fixture(params=WAYS)
def each_site(
    request: pytest.FixtureRequest, settings: Settings, redis_client: redis.Redis
) -> Iterator[Site]:
    """Served in both ways in which a stream's bytes may leave."""
    way: Way = request.param
    with serving(create_app(settings), settings, way) as url:
        yield Site(url, settings, redis_client)
