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
#: In the order in which `hint.lua` numbers them: the last three are the ends.
STATES: Final = ("queued", "running", "retrying", "succeeded", "failed", "cancelled")


def partition_of(job: str) -> int:
    """CRC-32 of the id up to the first `~`: parts lie with their parent."""
    return zlib.crc32(job.partition("~")[0].encode()) % PARTITIONS


def parent_of(job: str) -> str | None:
    """The job of which this is a part; None for a job of its own."""
    parent, found, _ = job.partition("~")
    return parent if found else None


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

    def any_state(self) -> str:
        """A pattern of `state` of every job."""
        return f"{self.namespace}:{{p*}}:job:*:state"

    def job_of_state(self, key: str) -> str | None:
        """The job of a key made by `state`; None for any other."""
        _, found, rest = key.partition("}:job:")
        job = rest.removesuffix(":state")
        return job if found and key == self.state(job) else None

    def parts(self, job: str) -> str:
        """What is counted of each part of a job that was spread."""
        return f"{self._job(job)}:parts"

    def outbox(self, job: str) -> str:
        """The messages of a job's parts, as they are to be sent."""
        return f"{self._job(job)}:outbox"

    def due(self, partition: int) -> str:
        return f"{self.namespace}:{{p{partition}}}:due"

    def of(self, job: str) -> tuple[str, str, str]:
        """What the scripts take: events, state, due."""
        return self.events(job), self.state(job), self.due(partition_of(job))

    def with_parent(self, job: str) -> tuple[str, ...]:
        """The same, and for a part what lies in its parent: events, state, parts."""
        parent = parent_of(job)
        return self.of(job) if parent is None else (*self.of(job), *self.of(parent)[:2], self.parts(parent))

    def channel(self, job: str) -> str:
        return f"{self.namespace}:{{p{partition_of(job)}}}:{self.database}:job:{job}"

    def job_of_channel(self, channel: str) -> str | None:
        """The job of a channel made by `channel`; None for any other."""
        head, found, job = channel.partition(f":{self.database}:job:")
        return job if found and head.startswith(f"{self.namespace}:{{p") else None

    def probe(self, process: str, tag: str | None = None) -> str:
        """A process' own channel; in a Cluster one in the slot of a tag."""
        return f"{self._tagged(tag)}:{self.database}:probe:{process}"

    def session_channel(self, session: str) -> str:
        """Where it is told that a session was ended."""
        return f"{self.namespace}:{self.database}:session:{session}"

    def marker(self, tag: str | None = None) -> str:
        """Set once, random: when it is another one, Redis was emptied (FLUSHALL leaves the replid as it was)."""
        return f"{self._tagged(tag)}:marker"

    def whole(self, tag: str | None) -> str:
        """The identity of the server whose lists were last known to lack no job; in a Cluster of the one that holds a tag."""
        return f"{self._tagged(tag)}:whole"

    def _tagged(self, tag: str | None) -> str:
        return self.namespace if tag is None else f"{self.namespace}:{{{tag}}}"

    def streaming(self) -> str:
        """The switch: there and `off` while pages are to poll."""
        return f"{self.namespace}:streaming"

    def sweeper(self) -> str:
        """Who sweeps now: a lease of a few seconds."""
        return f"{self.namespace}:sweeper"

    def actors(self) -> str:
        return f"{self.namespace}:actors"

    def record(self, kind: str, key: str) -> str:
        return f"{self.namespace}:{kind}:{key}"

    def _owner(self, owner: str) -> str:
        """All of one owner lies in one slot. The empty name holds the jobs of nobody."""
        return f"{self.namespace}:{{o{quote(owner, safe='')}}}"

    def hints(self, owner: str, *, state: str | None = None, actor: str | None = None) -> str:
        """An owner's jobs by creation time: all, by state, by actor, by both."""
        # A quoted name holds no `*`: no actor can be called as the list of all.
        kind = f"state={state or '*'}:actor={'*' if actor is None else quote(actor, safe='')}"
        return f"{self._owner(owner)}:jobs:{kind}"

    def lists(self, owner: str, actor: str) -> tuple[str, ...]:
        """Every list that a job can be in: all, its actor's, each state's, and each state's of its actor."""
        return (
            self.hints(owner), self.hints(owner, actor=actor),
            *(self.hints(owner, state=state) for state in STATES),
            *(self.hints(owner, state=state, actor=actor) for state in STATES),
        )  # fmt: skip

    def changed(self, owner: str) -> str:
        """An owner's jobs by the time of their last change, which is Redis' own."""
        return f"{self._owner(owner)}:changed"

    def owner_channel(self, owner: str) -> str:
        """Where it is told that one of an owner's jobs has changed."""
        return f"{self._owner(owner)}:{self.database}:changed"
