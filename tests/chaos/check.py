"""Says what is wrong with a history: pure, and proved able to find each fault by test_check.py."""

from __future__ import annotations

from itertools import pairwise

from progress_stream.events import TERMINAL, EventId
from tests.chaos.history import History, Seen


def faults_of(history: History, own_type: str, count: int, *, gaps_allowed: bool = False) -> list[str]:
    """What each watcher saw that it should not have: it must end with the events 1…count of this type, in order, and the end.

    Where a gap is allowed, what stood before it may come again after it, for Redis was given it anew; but nothing is missing.
    """
    return [
        f"{seen.name}: {fault}"
        for seen in history.watchers
        for fault in _faults(seen, own_type, count, gaps_allowed)
    ]


def _faults(seen: Seen, own_type: str, count: int, gaps_allowed: bool) -> list[str]:
    found = [*_order(seen), *_ends(seen)]
    pieces = _between_gaps(seen, own_type)
    numbers = [number for piece in pieces for number in piece]
    if any(piece != list(range(piece[0], piece[-1] + 1)) for piece in pieces if piece):
        found.append("is out of order")
    if (sorted(set(numbers)) if gaps_allowed else numbers) != list(range(1, count + 1)):
        found.append(_difference(numbers, count))
    if seen.gaps and not gaps_allowed:
        found.append(f"was told of gaps {seen.gaps}")
    return found


def _between_gaps(seen: Seen, own_type: str) -> list[list[int]]:
    """The numbers that the events of this type carry, in one piece or, where gaps were told, in several."""
    ends = [0, *(at for at, _ in seen.gaps), len(seen.events)]
    return [
        [data["data"] for _, type, data in seen.events[start:end] if type == own_type]
        for start, end in pairwise(ends)
    ]


def _order(seen: Seen) -> list[str]:
    """Ids only grow, and without a gap told no number is left out: whatever its epoch."""
    found: list[str] = []
    told = {at for at, _ in seen.gaps}
    before = EventId(0, 0)
    for index, (text, type, _) in enumerate(seen.events):
        id = EventId.parse(text)
        if id <= before:
            found.append(f"{type} {id} came after {before}")
        elif id.n != before.n + 1 and index not in told:
            found.append(f"a silent hole between {before} and {id}")
        before = id
    return found


def _ends(seen: Seen) -> list[str]:
    ends = [type for _, type, _ in seen.events if type in TERMINAL]
    last = seen.events[-1][1] if seen.events else None
    found = [] if len(ends) == 1 and last in TERMINAL else [f"saw the ends {ends}, and {last} last"]
    if not seen.stopped:
        found.append("was never told to stop")
    return found


def _difference(numbers: list[int], count: int) -> str:
    missing = sorted(set(range(1, count + 1)) - set(numbers))
    doubled = sorted({n for n in numbers if numbers.count(n) > 1}) if len(numbers) < 20_000 else []
    strange = sorted(set(numbers) - set(range(1, count + 1)))
    return f"{len(numbers)} of {count}: missing {missing[:5]}, doubled {doubled[:5]}, strange {strange[:5]}"
