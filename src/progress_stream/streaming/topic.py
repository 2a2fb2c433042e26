"""One job's recent frames in this process: a log that watchers hold places in. Pure; hears, forgets, never waits.

Not promised: completeness. A place that the log does not reach is read again from Redis.
"""

from __future__ import annotations

from typing import Final

from ..events import TERMINAL, EventId
from ..frames import sse
from .formats import SSE, Format

#: Frames kept for watchers that are a little behind; the contract folds beyond 1,000.
MAX_FRAMES: Final = 1_024
#: And their bytes: a topic of huge events keeps fewer.
MAX_BYTES: Final = 512 * 1024

_TERMINAL: Final = frozenset(name.encode() for name in TERMINAL)


def is_terminal(type: bytes) -> bool:
    return type in _TERMINAL


class Topic:
    """Frames of consecutive events of one epoch: `frames[i]` is the event `first_n + i`. Other forms are made when asked for."""

    __slots__ = ("_bytes", "_others", "ended_n", "epoch", "first_n", "frames", "job")

    def __init__(self, job: str) -> None:
        self.job = job
        self.epoch = 0
        self.first_n = 0
        self.frames: list[bytes] = []
        self.ended_n = 0  #: n of the terminal event once it was heard
        self._bytes = 0
        self._others: dict[Format, list[bytes]] = {}

    @property
    def last(self) -> EventId | None:
        """The newest event heard; None when nothing is kept."""
        return EventId(self.epoch, self.first_n + len(self.frames) - 1) if self.frames else None

    def hear(self, first: EventId, batch: list[tuple[bytes, bytes]]) -> bool:
        """Take consecutive events from `first` on. False: they do not continue what is kept, which was thrown away for them."""
        continues = True
        if not self.frames or first.epoch != self.epoch or first.n > self.first_n + len(self.frames):
            continues = not self.frames
            self._begin(first)
        skip = self.first_n + len(self.frames) - first.n
        for offset in range(max(skip, 0), len(batch)):
            type, data = batch[offset]
            n = first.n + offset
            frame = (
                sse.stored(b"%d-%d" % (first.epoch, n), type, data) if sse.is_frameable(type, data) else b""
            )
            self.frames.append(frame)
            self._bytes += len(frame)
            if type in _TERMINAL:
                self.ended_n = n
        self._trim()
        return continues

    def _begin(self, first: EventId) -> None:
        self.forget()
        self.epoch, self.first_n = first

    def forget(self) -> None:
        """Throw away what is kept: what comes next begins the log anew."""
        self.frames = []
        self._others = {}
        self._bytes = 0
        self.ended_n = 0

    def _trim(self) -> None:
        # In halves: dropping one at a time from a list would move all others at every event.
        while len(self.frames) > 1 and (len(self.frames) > MAX_FRAMES or self._bytes > MAX_BYTES):
            drop = max(len(self.frames) // 2, 1)
            self._bytes -= sum(map(len, self.frames[:drop]))
            for kept in (self.frames, *self._others.values()):
                del kept[:drop]
            self.first_n += drop

    def reaches(self, epoch: int, n: int) -> bool:
        """True when everything after that place that was heard is kept: nothing lies between it and the log's first frame."""
        return epoch == self.epoch and n >= self.first_n - 1 and bool(self.frames)

    def after(self, n: int, format: Format = SSE) -> bytes:
        """The events after event `n` as one piece; empty when there are none. Only for a place that `reaches` accepts."""
        return b"".join(self._as(format)[max(n + 1 - self.first_n, 0) :])

    def _as(self, format: Format) -> list[bytes]:
        if format.from_frame is None:
            return self.frames
        made = self._others.setdefault(format, [])
        made += map(format.from_frame, self.frames[len(made) :])
        return made
