"""Says what is wrong with a history: pure, and proved able to find each fault by test_check.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any, Literal

from progress_stream.events import TERMINAL, EventId
from tests.chaos.history import History, Seen

Kind = Literal["lost", "repeated", "disordered", "foreign", "gap", "untold", "unended"]


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


Entry = tuple[str, str, dict[str, Any]]


def against_stream(history: History, kept: Sequence[Entry], *, losses: int) -> list[Fault]:
    """What each watcher saw beside what Redis holds in the end (each entry: its id, its type, its data).

    Who saw nothing that is gone must have seen all of it, once and in order, and may have been told of no gap. Who saw some that is
    gone, or came where the beginning is gone, must have been told, once for each loss at most; and what it saw after the last gap
    must be all that follows where that snapshot stands. Who had seen all that was, and then all that is, under the next number and
    on, misses nothing and need not be told.
    """
    return [
        Fault(kind, seen.name, text)
        for seen in history.watchers
        for kind, text in _beside(seen, list(kept), losses)
    ]


def _beside(seen: Seen, kept: list[Entry], losses: int) -> Iterator[tuple[Kind, str]]:
    ids = {id for id, _, _ in kept}
    gone = [id for id, _, _ in seen.events if id not in ids]
    headless = not kept or EventId.parse(kept[0][0]).n != 1
    told = len(seen.gaps)
    if told > (losses if gone or headless else 0):
        yield "gap", f"was told of {seen.gaps}, and saw of what is gone {gone[:3]}"
    # Its end is among what is gone: it was told to stop before the loss.
    was_over = bool(gone) and seen.events[-1][0] in gone and seen.events[-1][1] in TERMINAL
    if gone and not told and not was_over and not _goes_on(seen.events, gone, kept):
        yield "untold", f"saw {gone[:3]} of what is gone ({len(gone)}), and was not told"
    if told:
        at, _, place = seen.gaps[-1]
        rest = [entry for entry in kept if EventId.parse(entry[0]) > EventId.parse(place)]
        yield from _unlike(seen.events[at:], rest)
    elif not gone:
        yield from _unlike(seen.events, kept)


def _goes_on(saw: list[Entry], gone: list[str], kept: list[Entry]) -> bool:
    """What is gone was seen from the first number on, and what is kept begins with the next one and was seen whole."""
    numbers = [EventId.parse(id).n for id, _, _ in saw]
    return (
        [id for id, _, _ in saw[: len(gone)]] == gone
        and saw[len(gone) :] == kept
        and numbers == list(range(1, len(saw) + 1))
    )


def _unlike(saw: Sequence[Entry], kept: Sequence[Entry]) -> Iterator[tuple[Kind, str]]:
    """Where one list departs from the other."""
    for index, (one, other) in enumerate(zip_longest(saw, kept)):
        if one != other:
            lacks = one is None or (other is not None and EventId.parse(one[0]) > EventId.parse(other[0]))
            yield ("lost" if lacks else "foreign"), f"saw {one} as its {index}th, where Redis holds {other}"
            return


def out_of_attempt(kept: Sequence[Entry], own_type: str, count: int) -> list[str]:
    """Each attempt's events are 1, 2, 3 … in order, the last attempt's all of them; one end, and nothing after it."""
    numbers: dict[int, list[int]] = {}
    for attempt, number in (
        own := [(data.get("attempt", 0), data["data"]) for _, type, data in kept if type == own_type]
    ):
        numbers.setdefault(attempt, []).append(number)
    wrong = [
        f"attempt {attempt} holds {some[:3]} … ({len(some)})"
        for attempt, some in numbers.items()
        if some != list(range(1, len(some) + 1))
    ]
    if own != sorted(own):
        wrong.append("an attempt's event came after a later one's")
    if not numbers or len(numbers[max(numbers)]) != count:
        wrong.append(
            f"the attempts hold { ({a: len(some) for a, some in numbers.items()}) } events of {count}"
        )
    ends = [index for index, (_, type, _) in enumerate(kept) if type in TERMINAL]
    if ends != [len(kept) - 1]:
        wrong.append(f"its ends stand at {ends} of {len(kept)} events")
    return wrong


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
    yield from _ends(seen, gaps_allowed)
    pieces = _between_gaps(seen, own_type)
    if any(piece != list(range(piece[0], piece[-1] + 1)) for piece in pieces if piece):
        yield "disordered", "is out of order"
    yield from _difference(pieces, count, gaps_allowed)
    if seen.gaps and not gaps_allowed:
        yield "gap", f"was told of gaps {seen.gaps}"


def _between_gaps(seen: Seen, own_type: str) -> list[list[int]]:
    """The numbers that the events of this type carry, in one piece or, where gaps were told, in several."""
    return [[data["data"] for _, type, data in piece if type == own_type] for piece in _pieces(seen)]


def _pieces(seen: Seen) -> list[list[Entry]]:
    borders = [0, *(at for at, *_ in seen.gaps), len(seen.events)]
    return [seen.events[start:end] for start, end in pairwise(borders)]


def _order(seen: Seen) -> Iterator[tuple[Kind, str]]:
    """Ids only grow, and without a gap told no number is left out: whatever its epoch."""
    told = {at for at, *_ in seen.gaps}
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


def _ends(seen: Seen, gaps_allowed: bool) -> Iterator[tuple[Kind, str]]:
    """One end, and nothing after it; an end that was lost may come again after the gap."""
    pieces = _pieces(seen) if gaps_allowed else [seen.events]
    ends = [type for piece in pieces for _, type, _ in piece if type in TERMINAL]
    last = seen.events[-1][1] if seen.events else None
    beside = any(type in TERMINAL for piece in pieces for _, type, _ in piece[:-1])
    if not ends or beside or last not in TERMINAL:
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
