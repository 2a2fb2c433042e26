"""Who looks at many jobs by one stream: one page's sink and what it wants to see, and the owner whose jobs they are.

Moves nothing: `lists` reads and writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .formats import SSE, Format
from .sink import Sink

if TYPE_CHECKING:
    from .hub import Hub


@dataclass(frozen=True, slots=True)
class ListStart:
    """What a page wants to see. `since` in Redis' milliseconds; None: everything there is. `now` as the hub's clock."""

    subject: str
    may_see: Callable[[str | None, str], bool]
    jobs: tuple[str, ...] | None  #: None: all of the subject's, those made later too
    any_owner: bool  #: the named jobs may be others'
    since: int | None = None
    only_new: bool = False
    format: Format = SSE
    ends_at: float | None = None
    expires_at: float | None = None
    session: str | None = None
    on_end: Callable[[float, int], None] | None = None


class OwnerTopic:
    """One owner whose list somebody looks at."""

    __slots__ = ("channel", "check_at", "checked_ms", "confirmed", "heard", "owner", "watchers")

    def __init__(self, owner: str, channel: bytes, confirmed: asyncio.Future[None]) -> None:
        self.owner = owner
        self.channel = channel
        self.confirmed = confirmed
        self.watchers: dict[ListWatcher, None] = {}
        self.heard: dict[str, int] = {}
        self.checked_ms = 0
        self.check_at = 0.0


class ListWatcher:
    """One page's stream: the hub's side of a sink."""

    __slots__ = (
        "bytes", "catching", "ends_at", "everything", "expires_at", "format", "gone", "hub", "jobs", "live", "on_end", "opened_at",
        "owner", "pending", "place", "planned", "session", "shown_at", "sink", "slot", "start", "topics",
    )  # fmt: skip

    def __init__(self, hub: Hub, sink: Sink, start: ListStart) -> None:
        self.hub = hub
        self.sink = sink
        self.start = start
        self.jobs = None if start.jobs is None else frozenset(start.jobs)
        self.owner: str | None = start.subject
        self.format = start.format
        self.ends_at = start.ends_at
        self.expires_at = start.expires_at
        self.session = start.session
        self.on_end = start.on_end
        self.opened_at = hub.now()
        self.bytes = 0
        self.slot = 0
        self.topics: dict[str, OwnerTopic] = {}
        #: Changed, and not yet shown to this one; while there is any, it is not live.
        self.pending: dict[str, None] = {}
        #: When it was shown a job, while it is not live.
        self.shown_at: dict[str, float] = {}
        #: Where it is in the whole list, as long as that is being shown.
        self.everything = False
        self.place: tuple[int, str] | None = None
        self.planned = False
        self.live = False
        self.catching = False
        self.gone = False

    def wants(self, job: str) -> bool:
        """A part is shown with its job, unless it is asked for by name."""
        return "~" not in job if self.jobs is None else job in self.jobs

    def shows(self, owner: str | None, job: str) -> bool:
        mine = self.jobs is not None or owner == self.start.subject
        return mine and self.wants(job) and self.start.may_see(owner, job)

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        self.sink.write(data)

    def depart(self) -> None:
        self.hub.lists.depart(self)

    def on_ready(self) -> None:
        self.hub.lists.catch_up(self)

    def on_lost(self) -> None:
        self.hub.leave(self)

    def on_shutdown(self) -> None:
        self.hub.send_away(self)
