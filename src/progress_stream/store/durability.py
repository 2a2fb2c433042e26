"""Whether a Redis server is set up so that it keeps what it acknowledged. Only looks; what to change is said, not done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import redis

from .cluster import SyncCluster
from .connect import sync_client
from .failures import FAILURES, mapped
from .slots import SLOTS

#: A script may run while it saves; nobody waits longer for INFO.
TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of the server. `mend` is what to set; empty where nothing is wrong."""

    name: str
    text: str
    mend: str = ""


def examine(url: str, *, replica_wait_ms: int, setting: str = "REDIS_URL") -> list[Finding]:
    """Of a Cluster each primary, of what Sentinels name the one that it is now.

    Raises InvalidSetting for the URL and StoreUnavailable where a server does not answer.
    """
    client = sync_client(url, setting=setting, timeout_seconds=TIMEOUT_SECONDS, retries=0)
    try:
        if not isinstance(client, SyncCluster):
            return _examine(client, replica_wait_ms)
        nodes = client.on_each()
        served = sum(client.layout.owner(slot) is not None for slot in range(SLOTS))
        found = [
            replace(finding, name=f"{node} {finding.name}")
            for node, each in nodes
            for finding in _examine(each, replica_wait_ms)
        ]
        return [judge_cluster(len(nodes), served), *found]
    except FAILURES as error:
        raise mapped(error) from error
    finally:
        client.close()


def _examine(client: redis.Redis, replica_wait_ms: int) -> list[Finding]:
    # INFO is allowed where a provider hides CONFIG.
    info: dict[str, Any] = client.info("everything")
    return judge(info, _appendfsync(client), replica_wait_ms)


def judge_cluster(primaries: int, served: int) -> Finding:
    """Whether every slot of a Cluster is served. Pure."""
    text = f"{primaries} primaries serve {served:,} of {SLOTS:,} slots"
    if served == SLOTS:
        return Finding("slots", text)
    return Finding("slots", f"{text}: the jobs of the others cannot be reached", "redis-cli --cluster fix")


def _appendfsync(client: redis.Redis) -> str | None:
    try:
        return str(client.config_get("appendfsync").get("appendfsync") or "") or None
    except redis.ResponseError:
        return None


def judge(info: Mapping[str, Any], appendfsync: str | None, replica_wait_ms: int) -> list[Finding]:
    """What these answers of INFO and CONFIG GET mean for acknowledged events. Pure."""
    return [
        _eviction(info),
        _append_only(info, appendfsync),
        _last_writes(info),
        _replicas(info, replica_wait_ms),
        _identity(info),
    ]


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy", "not told")
    if policy == "noeviction":
        return Finding("maxmemory-policy", "noeviction: a full server refuses writes and forgets none")
    full = "once it is full" if info.get("maxmemory") else "as soon as maxmemory is set"
    return Finding(
        "maxmemory-policy",
        f"{policy}: {full}, whole jobs and messages of the queue vanish",
        "maxmemory-policy noeviction",
    )


def _append_only(info: Mapping[str, Any], appendfsync: str | None) -> Finding:
    if not info.get("aof_enabled"):
        return Finding(
            "appendonly",
            "no: a restart forgets all since the last snapshot",
            "appendonly yes, appendfsync everysec",
        )
    if appendfsync == "no":
        return Finding(
            "appendonly",
            "yes, but appendfsync no: a crash of the machine forgets up to half a minute",
            "appendfsync everysec",
        )
    return Finding("appendonly", f"yes, appendfsync {appendfsync or 'not told'}")


def _last_writes(info: Mapping[str, Any]) -> Finding:
    failed = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if info.get(name, "ok") != "ok"
    ]
    if failed:
        return Finding(
            "disk", f"the last write failed ({', '.join(failed)})", "room and rights on Redis' disk"
        )
    return Finding("disk", "the last writes succeeded")


def _replicas(info: Mapping[str, Any], replica_wait_ms: int) -> Finding:
    if info.get("role") != "master":
        return Finding(
            "replicas", f"this server is a {info.get('role')}: it takes no writes", "REDIS_URL of the primary"
        )
    count = int(info.get("connected_slaves", 0))
    if replica_wait_ms and not count:
        return Finding(
            "replicas",
            f"none, though REPLICA_WAIT_MS is {replica_wait_ms}: each end of a job waits so long for nobody",
            "a replica, or PROGRESS_STREAM_REPLICA_WAIT_MS=0",
        )
    if count and not replica_wait_ms:
        return Finding(
            "replicas",
            f"{count}; with PROGRESS_STREAM_REPLICA_WAIT_MS=100 the end of a job would wait for one of them",
        )
    return Finding("replicas", f"{count}, REPLICA_WAIT_MS {replica_wait_ms}")


def _identity(info: Mapping[str, Any]) -> Finding:
    if info.get("master_replid"):
        return Finding("master_replid", "told: a failover is noticed, and watchers learn of what was lost")
    return Finding(
        "master_replid",
        "hidden: a failover that lost events is noticed only where a position is missing",
        "a provider, or rights, that show INFO replication",
    )
