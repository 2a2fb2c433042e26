"""What each watcher saw and what became of its connections, written down as it happens. Judges nothing: `check.py` does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Seen:
    """One watcher's whole story, over all of its connections."""

    name: str
    #: Every event that came, in order: its id, its type, its data.
    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    #: For each snapshot with `gap`: how many events had come before it, its reason, and where it stands (its id).
    gaps: list[tuple[int, str, str]] = field(default_factory=list)
    #: What else the server said: busy, draining, expired.
    told: list[str] = field(default_factory=list)
    #: Connections that ended: cut by this client, by the other side, or cleanly; and those that could not be made.
    cuts: int = 0
    broken: int = 0
    ends: int = 0
    refused: int = 0
    connects: int = 0
    #: 204 was the last answer: a browser stops.
    stopped: bool = False

    @property
    def types(self) -> set[str]:
        return {type for _, type, _ in self.events}

    def summary(self) -> str:
        return (
            f"{self.name}: {len(self.events)} events, {self.connects} connects, {self.cuts} cuts, {self.broken} broken, "
            f"{self.refused} refused, {self.ends} ends, gaps {self.gaps}, told {self.told}"
        )


@dataclass(slots=True)
class History:
    """Of a whole run."""

    watchers: list[Seen]
    #: What the faults did, in words.
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def cuts(self) -> int:
        return sum(seen.cuts for seen in self.watchers)

    @property
    def fewest_cuts(self) -> int:
        return min(seen.cuts for seen in self.watchers)

    def summary(self) -> str:
        """One line for the test's output."""
        count = len(self.watchers)
        broken = sum(seen.broken for seen in self.watchers)
        refused = sum(seen.refused for seen in self.watchers)
        told = sum(len(seen.told) for seen in self.watchers)
        return (
            f"{self.seconds:.1f} s, {count} watchers, {self.cuts} cuts (fewest {self.fewest_cuts}), {broken} broken, "
            f"{refused} refused, {told} told to wait; faults: {len(self.faults)}"
        )
