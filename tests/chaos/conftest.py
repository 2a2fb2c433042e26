"""Settings for a job in a namespace of its own, and a token that lasts."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from progress_stream.auth.verify import sign
from progress_stream.settings import Settings, load
from tests.support.server import SECRET


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after another: each of them keeps a core busy and watches how long things take."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("chaos"))


@pytest.fixture
def settings(redis_url: str, broker_url: str, namespace: str, tmp_path: Path) -> Settings:
    return load(
        redis_url=redis_url, broker_url=broker_url, namespace=namespace, data=tmp_path, jwt_secret=SecretStr(SECRET),
        ready_seconds=0, drain_seconds=0,
    )  # fmt: skip


@pytest.fixture
def token() -> str:
    return sign(SECRET, "alice", "jobs:read", 3_600)
