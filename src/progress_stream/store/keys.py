"""The names of everything in Redis. Pure.

A job's keys carry one of 256 partition tags, so that a job and its parts share a slot of a Cluster and no script touches two.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

#: Fixed for ever: another number would be a migration of every stored job.
PARTITIONS: Final = 256


def partition_of(job: str) -> int:
    """CRC-32 of the id up to the first `~`: parts lie with their parent."""
    return zlib.crc32(job.partition("~")[0].encode()) % PARTITIONS


@dataclass(frozen=True, slots=True)
class Keys:
    """Names for one installation; `database` is in channel names, for pub/sub does not know databases."""

    namespace: str
    database: int = 0

    def _job(self, job: str) -> str:
        return f"{self.namespace}:{{p{partition_of(job)}}}:job:{job}"

    def events(self, job: str) -> str:
        return f"{self._job(job)}:events"

    def state(self, job: str) -> str:
        return f"{self._job(job)}:state"

    def due(self, partition: int) -> str:
        return f"{self.namespace}:{{p{partition}}}:due"

    def of(self, job: str) -> tuple[str, str, str]:
        """What the scripts take: events, state, due."""
        return self.events(job), self.state(job), self.due(partition_of(job))

    def channel(self, job: str) -> str:
        return f"{self.namespace}:{{p{partition_of(job)}}}:{self.database}:job:{job}"

    def job_of_channel(self, channel: str) -> str | None:
        """The job of a channel made by `channel`; None for any other."""
        head, found, job = channel.partition(f":{self.database}:job:")
        return job if found and head.startswith(f"{self.namespace}:{{p") else None

    def probe(self, process: str) -> str:
        return f"{self.namespace}:{self.database}:probe:{process}"

    def marker(self) -> str:
        """Set once, random: when it is another one, Redis was emptied (FLUSHALL leaves the replid as it was)."""
        return f"{self.namespace}:marker"

    def sweeper(self) -> str:
        """Who sweeps now: a lease of a few seconds."""
        return f"{self.namespace}:sweeper"

    def actors(self) -> str:
        return f"{self.namespace}:actors"

    def record(self, kind: str, key: str) -> str:
        return f"{self.namespace}:{kind}:{key}"

    def hints(self, owner: str, *, state: str | None = None, actor: str | None = None) -> str:
        """An owner's jobs by creation time: all, by state, by actor, by both. All of one owner in one slot."""
        kind = f"state={state or '*'}:actor={quote(actor or '*', safe='*')}"
        name = quote(owner, safe="")
        return f"{self.namespace}:{{o{name}}}:jobs:{kind}"
