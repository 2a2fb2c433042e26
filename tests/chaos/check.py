"""Says what is wrong with a history: pure, and proved able to find each fault by test_check.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from progress_stream.events import TERMINAL, EventId
from tests.chaos.history import History, Seen

Kind = Literal["lost", "repeated", "disordered", "foreign", "gap", "unended"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What one watcher saw that it should not have, or did not see."""

    kind: Kind
    watcher: str
    text: str

    def __str__(self) -> str:
        return f"{self.watcher}: {self.text}"


#: The exit status of a run that found something: no crash has it.
FOUND = 3


def wrongly_told(history: History, was_lost: Callable[[str], bool]) -> list[str]:
    """Who saw an event that is lost is told of one gap; who saw none is told of none."""
    found = []
    for seen in history.watchers:
        beyond = any(was_lost(id) for id, _, _ in seen.events)
        if int(beyond) != len(seen.gaps):
            found.append(
                f"{seen.name}: saw {'some' if beyond else 'nothing'} of what was lost, and was told {seen.gaps}"
            )
    return found


def faults_of(history: History, own_type: str, count: int, *, gaps_allowed: bool = False) -> list[Fault]:
    """Each watcher must end with the events 1…count of this type, in order, and the end.

    Where a gap is allowed, what stood before it may come again after it, for Redis was given it anew; but nothing is missing.
    """
    return [
        Fault(kind, seen.name, text)
        for seen in history.watchers
        for kind, text in _faults(seen, own_type, count, gaps_allowed)
    ]


def _faults(seen: Seen, own_type: str, count: int, gaps_allowed: bool) -> Iterator[tuple[Kind, str]]:
    yield from _order(seen)
    yield from _ends(seen)
    pieces = _between_gaps(seen, own_type)
    if any(piece != list(range(piece[0], piece[-1] + 1)) for piece in pieces if piece):
        yield "disordered", "is out of order"
    yield from _difference(pieces, count, gaps_allowed)
    if seen.gaps and not gaps_allowed:
        yield "gap", f"was told of gaps {seen.gaps}"


def _between_gaps(seen: Seen, own_type: str) -> list[list[int]]:
    """The numbers that the events of this type carry, in one piece or, where gaps were told, in several."""
    ends = [0, *(at for at, _ in seen.gaps), len(seen.events)]
    return [
        [data["data"] for _, type, data in seen.events[start:end] if type == own_type]
        for start, end in pairwise(ends)
    ]


def _order(seen: Seen) -> Iterator[tuple[Kind, str]]:
    """Ids only grow, and without a gap told no number is left out: whatever its epoch."""
    told = {at for at, _ in seen.gaps}
    before = EventId(0, 0)
    for index, (text, type, _) in enumerate(seen.events):
        try:
            id = EventId.parse(text)
        except ValueError:
            yield "disordered", f"{type} has the id {text!r}"
            continue
        if id <= before:
            yield "disordered", f"{type} {id} came after {before}"
        elif id.n != before.n + 1 and index not in told:
            yield "lost", f"a silent hole between {before} and {id}"
        before = id


def _ends(seen: Seen) -> Iterator[tuple[Kind, str]]:
    ends = [type for _, type, _ in seen.events if type in TERMINAL]
    last = seen.events[-1][1] if seen.events else None
    if len(ends) != 1 or last not in TERMINAL:
        yield "unended", f"saw the ends {ends}, and {last} last"
    if not seen.stopped:
        yield "unended", "was never told to stop"


def _difference(pieces: list[list[int]], count: int, gaps_allowed: bool) -> Iterator[tuple[Kind, str]]:
    times = Counter(number for piece in pieces for number in (set(piece) if gaps_allowed else piece))
    found: list[tuple[Kind, str, list[int]]] = [
        ("lost", "missing", [number for number in range(1, count + 1) if number not in times]),
        ("foreign", "strange", sorted(number for number in times if not 1 <= number <= count)),
    ]
    if not gaps_allowed:
        found.append(("repeated", "doubled", sorted(number for number, many in times.items() if many > 1)))
    for kind, word, numbers in found:
        if numbers:
            yield kind, f"{word} {numbers[:5]} ({len(numbers)} of {count})"
