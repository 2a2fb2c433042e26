"""The checker finds every fault that it is there for; one that cannot fail would prove nothing."""

from typing import Any

import pytest

from tests.chaos.check import against_stream, faults_of, out_of_attempt
from tests.chaos.history import History, Seen

Event = tuple[str, str, dict[str, Any]]


def line(n: int, number: int | None = None, epoch: int = 9) -> Event:
    return f"{epoch}-{n}", "line", {"data": n - 1 if number is None else number}


GOOD: list[Event] = [("9-1", "queued", {}), line(2), line(3), line(4), ("9-5", "succeeded", {})]


def faults(
    events: list[Event],
    *,
    stopped: bool = True,
    gaps: list[tuple[int, str, str]] | None = None,
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
    assert ["w: was told of gaps [(2, 'lost', '9-2')]"] == faults(GOOD, gaps=[(2, "lost", "9-2")])


def test_after_an_allowed_gap_things_may_come_again_and_none_may_be_missing() -> None:
    """What was lost and given anew has other ids; a hole beside the gap is still one."""
    again = [*GOOD[:3], line(3, 2, 12), line(4, 3, 12), ("12-5", "succeeded", {})]
    missing = [*GOOD[:2], line(4, 3, 12), ("12-5", "succeeded", {})]
    beside = [*GOOD[:2], line(3, 2, 12), ("12-5", "succeeded", {})]

    assert [] == faults(again, gaps=[(3, "lost", "12-2")], gaps_allowed=True)
    assert [] != faults(missing, gaps=[(2, "lost", "12-2")], gaps_allowed=True)
    assert [] != faults(beside, gaps=[(2, "lost", "12-2")], gaps_allowed=True)
    assert [] != faults(again, gaps=[(1, "lost", "12-2")], gaps_allowed=True)


def test_an_end_that_was_lost_may_come_again_after_the_gap() -> None:
    """Once in each piece, and last in it."""
    ended_again = [*GOOD, ("12-5", "line", {"data": 3}), ("12-6", "succeeded", {})]
    gaps = [(len(GOOD), "lost", "12-4")]

    assert [] == faults(ended_again, gaps=gaps, gaps_allowed=True)
    assert [] != faults(ended_again, gaps=[(1, "lost", "12-4")], gaps_allowed=True)
    assert [] != faults(ended_again[:-1], gaps=gaps, gaps_allowed=True)
    assert [] != faults([*ended_again, ("12-7", "succeeded", {})], gaps=gaps, gaps_allowed=True)


#: What Redis holds after a loss: the third event is another one than it was.
KEPT: list[Event] = [*GOOD[:2], line(3, 2, 12), line(4, 3, 12), ("12-5", "succeeded", {})]


def beside(
    events: list[Event], kept: list[Event], *, gaps: list[tuple[int, str, str]] | None = None, losses: int = 0
) -> list[str]:
    history = History([Seen("w", events, gaps or [], stopped=True)])
    return [fault.kind for fault in against_stream(history, kept, losses=losses)]


def test_what_redis_holds_in_the_end_is_what_was_seen() -> None:
    """All of it, nothing else, in that order, with the same data; where nothing is gone no gap is told."""
    assert [] == beside(GOOD, GOOD)
    assert ["lost"] == beside([*GOOD[:2], *GOOD[3:]], GOOD)
    assert ["lost"] == beside(GOOD[:-1], GOOD)
    assert ["foreign"] == beside([*GOOD[:2], GOOD[1], *GOOD[2:]], GOOD)
    assert ["foreign"] == beside([*GOOD[:2], line(3, 7), *GOOD[3:]], GOOD)
    assert ["gap"] == beside(GOOD, GOOD, gaps=[(2, "lost", "9-2")])
    assert ["gap"] == beside(GOOD, GOOD, gaps=[(2, "lost", "9-2")], losses=1)


def test_who_saw_what_is_gone_must_be_told_and_sees_all_that_follows() -> None:
    """Once for each loss; also who comes where the beginning is gone."""
    beyond = [*GOOD[:3], *KEPT[3:]]

    assert [] == beside(beyond, KEPT, gaps=[(3, "lost", "12-3")], losses=1)
    assert ["untold"] == beside([*GOOD[:3], *KEPT[3:]], KEPT, losses=1)
    assert ["gap"] == beside(beyond, KEPT, gaps=[(2, "lost", "9-2"), (3, "lost", "12-3")], losses=1)
    assert ["lost"] == beside([*GOOD[:3], KEPT[4]], KEPT, gaps=[(3, "lost", "12-3")], losses=1)
    assert ["foreign"] == beside([*GOOD[:3], *KEPT[2:]], KEPT, gaps=[(3, "lost", "12-3")], losses=1)
    assert [] == beside(KEPT[3:], KEPT[3:], gaps=[(0, "trimmed", "12-3")], losses=1)


def test_who_was_over_before_the_loss_need_not_be_told() -> None:
    """Its end is gone with the rest. Who saw something that is gone and then an end that is kept should have been told."""
    assert [] == beside(GOOD, GOOD[:3], losses=1)
    assert ["untold"] == beside([*GOOD[:4], KEPT[-1]], KEPT, losses=1)


def test_who_has_seen_all_that_was_and_all_that_is_misses_nothing() -> None:
    """A job that was brought back under its next number; one number left out, and it is a hole."""
    new: list[Event] = [("12-4", "started", {}), ("12-5", "succeeded", {})]

    assert [] == beside([*GOOD[:3], *new], new, losses=1)
    assert ["untold"] == beside([*GOOD[:2], *new], new, losses=1)
    assert ["untold"] == beside([*GOOD[:3], new[1]], new, losses=1)


def test_each_attempt_counts_from_one_and_the_last_one_to_the_end() -> None:
    """A stream that holds what a zombie wrote, or nothing of the end, is no good one."""

    def of(*attempts: tuple[int, list[int]], end: int = 1) -> list[str]:
        lines = [("9-2", "line", {"attempt": a, "data": n}) for a, numbers in attempts for n in numbers]
        return out_of_attempt([*lines, *[("9-9", "succeeded", {})] * end], "line", 3)

    assert [] == of((1, [1, 2, 3]))
    assert [] == of((1, [1]), (2, [1, 2, 3]))
    assert [] != of((1, [1, 3]), (2, [1, 2, 3]))
    assert [] != of((1, [1, 2, 3]), (2, [1]))
    assert [] != of((1, [1]), (2, [1, 2]), (1, [2]), (2, [3]))
    assert [] != of((1, [1, 2, 3]), end=0)
    assert [] != out_of_attempt([("9-2", "line", {"data": 7}), ("9-3", "succeeded", {})], "line", 1)
    assert [] != of((1, [1, 2, 3]), end=2)
