"""The checker finds every fault that it is there for; one that cannot fail would prove nothing."""

from typing import Any

import pytest

from tests.chaos.check import faults_of
from tests.chaos.history import History, Seen

Event = tuple[str, str, dict[str, Any]]


def line(n: int, number: int | None = None, epoch: int = 9) -> Event:
    return f"{epoch}-{n}", "line", {"data": n - 1 if number is None else number}


GOOD: list[Event] = [("9-1", "queued", {}), line(2), line(3), line(4), ("9-5", "succeeded", {})]


def faults(
    events: list[Event],
    *,
    stopped: bool = True,
    gaps: list[tuple[int, str]] | None = None,
    gaps_allowed: bool = False,
) -> list[str]:
    history = History([Seen("w", events, gaps or [], stopped=stopped)])
    return [str(fault) for fault in faults_of(history, "line", 3, gaps_allowed=gaps_allowed)]


def test_what_is_right_has_no_fault() -> None:
    """Also over a change of epoch."""
    assert [] == faults(GOOD)
    assert [] == faults([*GOOD[:3], line(4, epoch=12), ("12-5", "succeeded", {})])


@pytest.mark.parametrize(
    ("fault", "events"),
    [
        ("silent hole", [*GOOD[:2], *GOOD[3:]]),
        ("missing [3]", [*GOOD[:3], ("9-4", "succeeded", {})]),
        ("came after", [*GOOD[:3], GOOD[2], *GOOD[3:]]),
        ("came after", [GOOD[0], GOOD[2], GOOD[1], *GOOD[3:]]),
        ("doubled [2]", [*GOOD[:3], line(4, 2), line(5, 3), ("9-6", "succeeded", {})]),
        ("silent hole", [*GOOD[:2], line(4, epoch=12), ("12-5", "succeeded", {})]),
        ("saw the ends []", GOOD[:-1]),
        ("saw the ends", [*GOOD, ("9-6", "failed", {})]),
        ("saw the ends", []),
        ("strange [7]", [*GOOD[:3], line(4, 7), ("9-5", "succeeded", {})]),
    ],
)
def test_each_fault_is_found(fault: str, events: list[Event]) -> None:
    """Left out, twice, out of order, out of its numbers, without an end."""
    assert any(fault in found for found in faults(events)), faults(events)


def test_who_was_never_stopped_and_who_was_told_of_a_gap_are_found() -> None:
    """A gap is a fault where nothing was lost, also if all came in the end."""
    assert ["w: was never told to stop"] == faults(GOOD, stopped=False)
    assert ["w: was told of gaps [(2, 'lost')]"] == faults(GOOD, gaps=[(2, "lost")])


def test_after_an_allowed_gap_things_may_come_again_and_none_may_be_missing() -> None:
    """What was lost and given anew has other ids; a hole beside the gap is still one."""
    again = [*GOOD[:3], line(3, 2, 12), line(4, 3, 12), ("12-5", "succeeded", {})]
    missing = [*GOOD[:2], line(4, 3, 12), ("12-5", "succeeded", {})]
    beside = [*GOOD[:2], line(3, 2, 12), ("12-5", "succeeded", {})]

    assert [] == faults(again, gaps=[(3, "lost")], gaps_allowed=True)
    assert [] != faults(missing, gaps=[(2, "lost")], gaps_allowed=True)
    assert [] != faults(beside, gaps=[(2, "lost")], gaps_allowed=True)
    assert [] != faults(again, gaps=[(1, "lost")], gaps_allowed=True)
