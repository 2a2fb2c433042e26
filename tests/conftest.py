"""Fixtures for all tests: a real Redis for each process of a test run, and names that no other test uses in it."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis

from tests.support.redis import RedisServer

#: The databases of the shared server: the store's, where each test has its own namespace, and the broker's.
STORE_DB = 0
BROKER_DB = 1


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for each process of a test run. A test that stops it or breaks it makes a RedisServer of its own instead."""
    with RedisServer(tmp_path_factory.mktemp("redis"), persistent=False) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The store's URL. Other tests' keys lie there too, in other namespaces."""
    return redis_server.url(STORE_DB)


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A plain client of the store's database, to look at what lies there."""
    with redis_server.client(STORE_DB) as client:
        yield client


@pytest.fixture
def broker_url(redis_server: RedisServer) -> str:
    """A database for Dramatiq, empty."""
    with redis_server.client(BROKER_DB) as client:
        client.flushdb()
    return redis_server.url(BROKER_DB)


@pytest.fixture
def namespace() -> str:
    """Begins every key of this test, and of no other."""
    return f"t{uuid4().hex[:12]}"
