"""Who follows a job in this process: one client's place and sink, with what it began, and the job's topic with all who watch it.

Moves nothing: the hub writes, `history` reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..events import BEGINNING, EventId
from .formats import SSE, Format
from .replay import Replay, Shown
from .sink import Sink
from .topic import Topic

if TYPE_CHECKING:
    from .hub import Hub


class Watcher:
    """One client that follows a job: the hub's side of a sink (`streaming.sink.Stream`)."""

    __slots__ = (
        "address", "bytes", "catching", "ends_at", "epoch", "expires_at", "format", "gone", "hub", "live", "malformed", "n",
        "on_end", "opened_at", "owner", "replay_n", "session", "sink", "slot", "topic",
    )  # fmt: skip

    def __init__(self, hub: Hub, topic: LiveTopic, sink: Sink, start: Start) -> None:
        self.hub = hub
        self.topic = topic
        self.sink = sink
        self.malformed = start.position is None
        self.epoch, self.n = start.position or BEGINNING
        self.replay_n = -1  # What was there at the first look was asked for: it is never folded.
        self.owner = start.owner
        self.format = start.format
        self.ends_at = start.ends_at
        self.expires_at = start.expires_at
        self.session = start.session
        self.on_end = start.on_end
        self.address = start.address
        self.opened_at = hub.now()
        self.bytes = 0
        self.live = False
        self.catching = False
        self.gone = False
        self.slot = 0

    @property
    def place(self) -> EventId:
        return EventId(self.epoch, self.n)

    @property
    def lag(self) -> int:
        """Events that were heard of and not yet written to it."""
        last = self.topic.log.last
        return max(last.n - self.n, 0) if last is not None else 0

    def write(self, data: bytes, place: EventId | None = None) -> None:
        size = len(data)
        self.bytes += size
        self.hub.tally.sent_bytes += size
        if place is not None:
            self.epoch, self.n = place
        self.sink.write(data)

    def depart(self) -> None:
        self.hub.depart(self)

    def on_ready(self) -> None:
        self.hub.resume_writing(self)

    def on_lost(self) -> None:
        self.hub.leave(self)

    def on_shutdown(self) -> None:
        self.hub.send_away(self)


class Start:
    """With what a watcher begins. `position` None: malformed. `ends_at` in the hub's clock, `expires_at` in Unix time."""

    __slots__ = ("address", "ends_at", "expires_at", "format", "on_end", "owner", "position", "session")

    def __init__(
        self,
        position: EventId | None,
        *,
        format: Format = SSE,
        owner: str | None = None,
        ends_at: float | None = None,
        expires_at: float | None = None,
        session: str | None = None,
        on_end: Callable[[float, int], None] | None = None,
        address: str | None = None,
    ) -> None:
        self.position = position
        self.format = format
        self.owner = owner
        self.ends_at = ends_at
        self.expires_at = expires_at
        self.session = session
        self.on_end = on_end
        self.address = address


class LiveTopic:
    """A topic with those who watch it and the reads that they share."""

    __slots__ = (
        "channel",
        "check_at",
        "confirmed",
        "flush",
        "flushed_at",
        "log",
        "reads",
        "replay",
        "retries",
        "vanished_at",
        "watchers",
    )

    def __init__(self, job: str, channel: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.log = Topic(job)
        self.channel = channel
        self.confirmed: asyncio.Future[None] = loop.create_future()
        self.watchers: dict[Watcher, None] = {}
        #: Reads that are under way, by the place that they begin at, and those that are done.
        self.reads: dict[EventId, asyncio.Task[Shown]] = {}
        self.replay = Replay()
        self.flush: asyncio.TimerHandle | None = None
        self.flushed_at = 0.0
        self.check_at = 0.0
        self.vanished_at = 0.0
        self.retries = 0

    def doubt(self) -> None:
        """What was read may not hold any more: whoever lacks something reads anew."""
        self.replay.forget()
        self.check_at = 0.0

    def forget(self) -> None:
        """Neither what was read holds nor what was heard."""
        self.replay.forget()
        self.log.forget()
