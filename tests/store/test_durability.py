"""Whether a Redis keeps what it acknowledged: told of a real server, and of answers that none here gives."""

from pathlib import Path
from typing import Any

import pytest

from progress_stream.errors import StoreUnavailable
from progress_stream.store.durability import examine, judge
from tests.support.redis import RedisServer

GOOD: dict[str, Any] = {
    "maxmemory_policy": "noeviction", "maxmemory": 0, "aof_enabled": 1, "aof_last_write_status": "ok",
    "role": "master", "connected_slaves": 1, "master_replid": "a" * 40,
}  # fmt: skip


def faults(info: dict[str, Any], fsync: str | None = "everysec", wait_ms: int = 0) -> dict[str, str]:
    return {finding.name: finding.mend for finding in judge(info, fsync, wait_ms) if finding.mend}


def test_a_server_that_forgets_is_told_what_to_set(tmp_path: Path) -> None:
    """One that evicts, writes nothing down and has no replica to wait for."""
    options = {"maxmemory-policy": "allkeys-lru", "appendonly": "no"}
    with RedisServer(tmp_path, options=options) as server:
        found = examine(server.url(0), replica_wait_ms=100)

    mends = {finding.name: finding.mend for finding in found if finding.mend}
    assert {"maxmemory-policy", "appendonly", "replicas"} == mends.keys()
    assert "maxmemory-policy noeviction" == mends["maxmemory-policy"]


def test_a_server_that_keeps_everything_has_no_fault(tmp_path: Path) -> None:
    """As the embedded one is set up."""
    with RedisServer(tmp_path, options={"appendonly": "yes", "maxmemory-policy": "noeviction"}) as server:
        found = examine(server.url(0), replica_wait_ms=0)

    assert [] == [finding for finding in found if finding.mend]


def test_a_server_that_is_away_is_an_error() -> None:
    """And not a clean bill of health."""
    with pytest.raises(StoreUnavailable):
        examine("redis://127.0.0.1:1/0", replica_wait_ms=0)


@pytest.mark.parametrize(
    ("changed", "fsync", "wait_ms", "name"),
    [
        ({"maxmemory_policy": "volatile-ttl"}, "everysec", 0, "maxmemory-policy"),
        ({"aof_enabled": 0}, "everysec", 0, "appendonly"),
        ({}, "no", 0, "appendonly"),
        ({"rdb_last_bgsave_status": "err"}, None, 0, "disk"),
        ({"role": "slave"}, None, 0, "replicas"),
        ({"connected_slaves": 0}, None, 50, "replicas"),
        ({"master_replid": ""}, None, 0, "master_replid"),
    ],
)
def test_each_weakness_is_named(changed: dict[str, Any], fsync: str | None, wait_ms: int, name: str) -> None:
    """Alone: what is right beside it is not complained of."""
    assert {} == faults(GOOD)
    assert [name] == list(faults(GOOD | changed, fsync, wait_ms))
