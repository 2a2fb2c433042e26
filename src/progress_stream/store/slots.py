"""Which node of a Redis Cluster a command goes to, and where it goes after an answer that is none. Pure: knows no connection.

redis-py's own Cluster clients were read and left alone: they connect when they are made, have no pool that waits for its turn,
raise errors outside of redis-py's own root, and the asyncio one goes on with the old map after `MOVED` (redis-py#4322). The live
path needs the map anyway.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    TryAgainError,
)

from ..addresses import Address
from .failures import is_passing
from .keys import PARTITIONS

SLOTS: Final = 16_384
#: `MOVED` and `ASK` one after the other, before nobody is believed any more.
_HOPS: Final = 5
#: While a slot is on its way to another node its commands are refused for milliseconds: worth a try, also to who has no time.
_LEAST_TRIES: Final = 3
#: Seconds between two tries, doubled each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
#: For so long a node that did not answer is asked for the map after all others.
_SILENT_SECONDS: Final = 5.0
#: And sent nothing: each who waits for it in vain would take its time-out from those who ask others.
HUNG_SECONDS: Final = 5.0
#: Between two questions for the map.
_ASK_SECONDS: Final = 0.1
_KEYLESS: Final = frozenset({"TIME", "PING", "SCRIPT LOAD"})

Words = Sequence[Any]


def slot_of(key: str | bytes) -> int:
    return key_slot(key.encode() if isinstance(key, str) else key)


def slot_of_command(words: Words) -> int | None:
    """By its first key, for all of them lie in one slot; None for a command that any node can answer."""
    if words[0] in _KEYLESS:
        return None
    key = words[3] if words[0] in ("EVALSHA", "EVAL") else words[1]
    return slot_of(key if isinstance(key, (str, bytes)) else str(key))


def sharded(words: Words) -> Words:
    """A word to all who listen goes to the node of its channel, as what is kept does."""
    return ("SPUBLISH", *words[1:]) if words[0] == "PUBLISH" else words


@dataclass(frozen=True, slots=True)
class View:
    """The cluster as one node sees it."""

    healthy: bool
    epoch: int
    ranges: tuple[tuple[int, int, Address], ...]
    nodes: frozenset[Address]


def read_view(answers: Sequence[Any], asked: Address) -> View:
    """What CLUSTER INFO and CLUSTER SLOTS answered. A node that does not know its own address has the one that was asked."""
    info, slots = answers
    told = dict(line.split(":", 1) for line in info.decode().split() if ":" in line)
    ranges, nodes = [], set()
    for first, last, *served in slots:
        addresses = [_address(node, asked) for node in served]
        if addresses[0] is not None:
            ranges.append((int(first), int(last), addresses[0]))
        nodes |= {address for address in addresses if address is not None}
    return View(
        told.get("cluster_state") == "ok",
        int(told.get("cluster_current_epoch", 0)),
        tuple(ranges),
        frozenset(nodes),
    )


def _address(node: Sequence[Any], asked: Address) -> Address | None:
    host = b"" if node[0] is None else bytes(node[0])
    if host == b"?":
        return None
    return Address(host.decode() or asked.host, int(node[1]))


class Layout:
    """Who serves which slot, as far as is known. `seeds` are those that were named to begin with."""

    def __init__(self, seeds: Sequence[Address]) -> None:
        self._seeds = tuple(seeds)
        self._owners: list[Address | None] = [None] * SLOTS
        self._nodes: frozenset[Address] = frozenset()
        self._epoch = -1
        self._stale = True
        self._asked_at = float("-inf")
        self._silent_until: dict[Address, float] = {}
        self._hung_until: dict[Address, float] = {}

    def owner(self, slot: int) -> Address | None:
        return self._owners[slot]

    def anyone(self) -> Address | None:
        """A node that has slots; each time the same, for its clock is asked."""
        return next((owner for owner in self._owners if owner is not None), None)

    def owners(self) -> list[Address]:
        """All that have slots, in their order."""
        return list(dict.fromkeys(owner for owner in self._owners if owner is not None))

    def known(self) -> frozenset[Address]:
        """All nodes, replicas too, and those that were named to begin with."""
        return self._nodes.union(self._seeds)

    def tags(self) -> dict[Address, str]:
        """For each node with slots the first partition's tag that lies there; none of a node where no partition lies."""
        found: dict[Address, str] = {}
        for partition in range(PARTITIONS):
            tag = f"p{partition}"
            owner = self._owners[slot_of(tag)]
            if owner is not None:
                found.setdefault(owner, tag)
        return found

    def is_due(self, now: float) -> bool:
        """Whether the map is to be asked for before it is used."""
        return self._stale and now - self._asked_at >= _ASK_SECONDS

    def doubt(self) -> None:
        self._stale = True

    def moved(self, slot: int, to: Address | None) -> None:
        """One slot is known to be elsewhere, so others may be too."""
        self._owners[slot] = to or self._owners[slot]
        self._stale = True

    def to_ask(self, now: float) -> list[Address]:
        """Whom to ask for the map: any node, those that were silent lately last; then those named to begin with."""
        self._asked_at = now
        known = sorted(self._nodes)
        random.shuffle(known)
        order = [*known, *(seed for seed in self._seeds if seed not in self._nodes)]
        return sorted(order, key=lambda one: self._silent_until.get(one, now) > now)

    def note_silence(self, node: Address, now: float) -> None:
        self._silent_until[node] = now + _SILENT_SECONDS

    def note_hanging(self, node: Address, now: float) -> None:
        """It took a question and did not answer in time, or not even the connection."""
        self._hung_until[node] = now + HUNG_SECONDS
        self.note_silence(node, now)

    def check(self, node: Address, now: float) -> None:
        """Raises ConnectionError for a node that hung a moment ago."""
        if self._hung_until.get(node, now) > now:
            raise ConnectionError("the node did not answer a moment ago")

    def takes(self, view: View) -> bool:
        """True when this view settles it. One cut off from the others still shows what was: it is healthy no more, or older."""
        if not view.healthy or view.epoch < self._epoch:
            return False
        self._take(view)
        return True

    def settle(self, views: Sequence[View]) -> None:
        """All were asked: what is best of that."""
        if views:
            self._take(max(views, key=lambda view: (view.healthy, view.epoch)))

    def _take(self, view: View) -> None:
        owners: list[Address | None] = [None] * SLOTS
        for first, last, owner in view.ranges:
            owners[first : last + 1] = [owner] * (last + 1 - first)
        self._owners, self._nodes, self._epoch = owners, view.nodes, view.epoch
        self._stale = not view.healthy


class Journey:
    """One command's way, or that of several: where it goes next, and how long it waits before that."""

    def __init__(self, layout: Layout, tries: int) -> None:
        self.asking = False
        self._layout = layout
        self._tries = tries
        self._failures = 0
        self._hops = 0
        self._redirected: Address | None = None

    def next(self, slot: int | None) -> Address:
        """Raises ClusterDownError where nobody serves the slot."""
        owner = self._layout.anyone() if slot is None else self._layout.owner(slot)
        if (found := self._redirected or owner) is None:
            raise ClusterDownError("CLUSTERDOWN no node is known to serve the slot")
        return found

    def after(self, error: Exception, asked: Address | None) -> float:
        """Seconds until the next try. Raises the error where none is worth it."""
        self.asking, self._redirected = False, None
        if isinstance(error, AskError):
            self._hops += 1
            if self._hops > _HOPS:
                raise error
            if isinstance(error, MovedError):
                self._layout.moved(error.slot_id, _destination(error, asked))
            else:
                self.asking, self._redirected = True, _destination(error, asked)
            return 0.0
        self._layout.doubt()
        refused = isinstance(error, (TryAgainError, ClusterDownError))
        self._failures += 1
        if not is_passing(error) or self._failures > (
            max(self._tries, _LEAST_TRIES) if refused else self._tries
        ):
            raise error
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
        return random.uniform(longest / 4, longest)

    def after_all(self, errors: Sequence[Exception]) -> float | None:
        """The same for several at once, where each sends `ASK` after by itself. None where no try is worth it."""
        moved = [error for error in errors if isinstance(error, MovedError)]
        others = [error for error in errors if not isinstance(error, AskError)]
        for error in moved:
            self._layout.moved(error.slot_id, _destination(error, None))
        self._hops += bool(moved)
        if not errors or self._hops > _HOPS:
            return None
        try:
            return self.after(others[0], None) if others else 0.0
        except type(others[0]):
            return None


def _destination(error: AskError, asked: Address | None) -> Address | None:
    """A server that does not know its own address names the port alone; None where nobody knows whose."""
    host = error.host or (asked.host if asked else "")
    return Address(host, error.port) if host else None


def by_node(
    lines: Sequence[Words], numbers: Iterable[int], next: Callable[[int | None], Address]
) -> dict[Address, list[int]]:
    """Which of these lines go to which node. A script is loaded wherever others of them go."""
    found: defaultdict[Address, list[int]] = defaultdict(list)
    everywhere = []
    for number in numbers:
        if lines[number][0] == "SCRIPT LOAD":
            everywhere.append(number)
        else:
            found[next(slot_of_command(lines[number]))].append(number)
    return {node: [*everywhere, *there] for node, there in found.items()}
