"""A namespace of a real Redis, and somebody who reports the job "job" in it."""

from typing import Any

import pytest
import redis

from progress_stream.settings import Settings, load
from tests.support.redis import RedisServer
from tests.support.watching import Writer


@pytest.fixture
def settings(redis_server: RedisServer, namespace: str) -> Settings:
    return load(redis_url=redis_server.url(), namespace=namespace)


@pytest.fixture
def client(redis_server: RedisServer) -> Any:
    with redis_server.client() as client:
        yield client


@pytest.fixture
def writer(client: redis.Redis, settings: Settings) -> Writer:
    writer = Writer(client, settings, "job")
    writer.create()
    writer.start()
    return writer
