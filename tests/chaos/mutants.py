"""Faults put into the product on purpose, each of which the checker must find: what cannot fail proves nothing.

A mutant is a replacement in one file, and the faults of a round (`rounds.py`) under which it shows.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parents[2] / "src" / "progress_stream"

#: Watchers' cuts alone; wake-ups that are lost; a Redis that comes back with less.
CUTS: Final = ("redis_paused",)
WAKE_UPS: Final = ("subscriptions_killed",)
LOSS: Final = ("tail_lost",)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` stands in the file exactly once, and so does what is replaced `also`."""

    name: str
    file: str
    old: str
    new: str
    faults: tuple[str, ...] = CUTS
    also: tuple[str, str] | None = None

    def plant(self, folder: Path) -> None:
        """Copies the product into this folder, with the fault in it."""
        shutil.copytree(SOURCE, folder / "progress_stream", ignore=shutil.ignore_patterns("__pycache__"))
        file = folder / "progress_stream" / self.file
        text = file.read_text()
        for old, new in [(self.old, self.new), *([self.also] if self.also else [])]:
            if text.count(old) != 1:
                raise ValueError(
                    f"{self.name}: {self.file} holds {text.count(old)} times what is to be replaced"
                )
            text = text.replace(old, new)
        file.write_text(text)


#: What only another order of things shows: found by the simulation (`tests/simulation`), for the real parts rarely meet it.
OF_ORDER: Final = (
    Mutant(
        "a client forgets where it is",
        "client/rules.py",
        "        self._place = id or self._place\n        self._backoff.progressed()\n        self._fold.event(place, type, data)",
        "        self._backoff.progressed()\n        self._fold.event(place, type, data)",
    ),
    Mutant(
        "a long-poll tells of no gap",
        "api/poll.py",
        '"gap": page.gap is not None,',
        '"gap": False,',
    ),
    Mutant(
        "a watcher is live before it has all",
        "streaming/history.py",
        "if not log_.reaches(watcher.epoch, watcher.n):",
        "if False:",
    ),
    Mutant(
        "what was read outlives every doubt",
        "streaming/replay.py",
        "        self.doubts += 1\n        self._kept = []",
        "        self.doubts += 1",
    ),
    Mutant(
        "a hole in what is heard throws nothing away",
        "streaming/topic.py",
        " or first.n > self.first_n + len(self.frames):",
        ":",
    ),
    Mutant(
        "nothing looks at tails",
        "streaming/tails.py",
        "due = [topic for topic in self._topics() if topic.check_at <= now]",
        "due: list[LiveTopic] = []",
    ),
    Mutant(
        "the log takes a place of another epoch for its own",
        "streaming/topic.py",
        "return epoch == self.epoch and n >= self.first_n - 1",
        "return n >= self.first_n - 1",
    ),
    Mutant(
        "what is sent again begins one too late",
        "reporting/buffer.py",
        "while self._kept and self._kept[-1][0] > last:",
        "while self._kept and self._kept[-1][0] > last + 1:",
    ),
    Mutant(
        "a batch that was not answered is forgotten",
        "reporting/buffer.py",
        "        if self._inflight is None:\n            self._ripen(now, at)",
        "        if True:\n            self._ripen(now, at)",
    ),
)
MUTANTS: Final = (
    # -- the hub's log, and what leaves it
    Mutant(
        "one event in four hundred is not delivered live", "streaming/topic.py",
        'return b"".join(self._as(format)[max(n + 1 - self.first_n, 0) :])',
        'return b"".join(f for i, f in enumerate(self._as(format)[max(n + 1 - self.first_n, 0) :], n + 1) if i % 397)',
    ),
    Mutant(
        "the last event comes again with the next", "streaming/topic.py",
        "[max(n + 1 - self.first_n, 0) :]", "[max(n - self.first_n, 0) :]",
    ),
    Mutant(
        "the log goes on over a hole", "streaming/topic.py",
        " or first.n > self.first_n + len(self.frames):", ":", WAKE_UPS,
    ),
    Mutant(
        "a watcher that the log does not reach is written to all the same", "streaming/hub.py",
        "if not log_.reaches(watcher.epoch, watcher.n):", "if False:", WAKE_UPS,
    ),
    Mutant(
        "a place is not moved", "streaming/watcher.py",
        "self.epoch, self.n = place", "self.epoch = place.epoch",
    ),
    Mutant(
        "nothing looks at tails", "streaming/tails.py",
        "due = [topic for topic in self._topics() if topic.check_at <= now]", "due: list[LiveTopic] = []", WAKE_UPS,
    ),
    # -- history
    Mutant(
        "a read is exclusive", "streaming/replay.py",
        "self.look.entries[index or 0 :]", "self.look.entries[(index or 0) + 1 :]",
    ),
    Mutant(
        "the event that a client has is sent again", "streaming/resume.py",
        "if entries and entries[0][0] == position:", "if False:",
    ),
    Mutant(
        "a page's frames are those of one place further", "streaming/replay.py",
        "[start : start + len(entries)]", "[start + 1 : start + 1 + len(entries)]",
    ),
    Mutant(
        "now and then a position is taken for malformed", "streaming/history.py",
        "page = shown.page(position)", "page = shown.page(None if position is not None and position.n % 7 == 3 else position)",
    ),
    Mutant(
        "every second event of a page is left out", "streaming/history.py",
        "data, written = whole(), len(page.entries)",
        "data, written = pages.frames(watcher.format, page.entries[::2]), len(page.entries)",
    ),
    # -- lost data
    Mutant(
        "what a reporter sends again begins one too late", "reporting/sender.py",
        "run.buffer.resend(hole.last)", "run.buffer.resend(hole.last + 1)", LOSS,
    ),
    # -- the store
    Mutant(
        "a zombie may write", "store/scripts/append.lua",
        "if c[3] ~= tonumber(ARGV[3]) or c[4] ~= ARGV[4] then", "if false then", ("zombie",),
    ),
    Mutant(
        "an append forgets its first event", "store/scripts/append.lua",
        "for i = c[5] - base + 2, count do", "for i = c[5] - base + (count > 1 and 3 or 2), count do",
    ),
    Mutant(
        "what is sent again is appended again", "store/scripts/append.lua",
        "if count > 0 and base + count - 1 <= c[5] then", "if false then", ("answer_lost",),
        also=("for i = c[5] - base + 2, count do", "for i = 1, count do"),
    ),
    Mutant(
        "an append counts one number too many", "store/scripts/append.lua",
        "c[5] = base + count - 1\n", "c[5] = base + count\n",
    ),
    Mutant(
        "a wake-up names its last event as its first", "store/scripts/append.lua",
        "parts[1] = first", "parts[1] = last",
    ),
    # -- the reporter
    Mutant(
        "a batch is sent backwards", "reporting/sender.py",
        "                batch.lines,\n", "                batch.lines[::-1],\n",
    ),
    # -- frames and positions
    Mutant(
        "an event's id stands behind its blank line", "frames/sse.py",
        r'return b"event: %b\ndata: %b\nid: %b\n\n" % (type, data, id)',
        r'return b"event: %b\ndata: %b\n\nid: %b\n" % (type, data, id)',
    ),
    Mutant(
        "Last-Event-ID is not read", "api/position.py",
        'request.headers.get("last-event-id") or query.get("last_event_id")', 'query.get("last_event_id")',
    ),
    Mutant(
        "who asks for history gets a snapshot", "api/position.py",
        'request.query_params.get("replay") == "snapshot"', 'request.query_params.get("replay") != "snapshot"',
    ),
    Mutant(
        "whoever comes back to a job that has ended is told to stop", "api/follow.py",
        "return record.terminal and position.id is not None and position.id == record.control.last",
        "return record.terminal and position.id is not None and position.id.n > 0",
        ("web_killed",),
    ),
)  # fmt: skip
