"""When somebody steps in with a job, and when not yet."""

from typing import Any

import pytest

from progress_stream import jobs
from progress_stream.events import EventId
from progress_stream.jobs import Control, Header, Record
from progress_stream.verdicts import Limits, Lose, Stall, Wait, on_cancel, verdict

LIMITS = Limits(stalled_ms=15_000, abandoned_ms=60_000, unconfirmed_ms=30_000)


def record(status: str, **fields: Any) -> Record:
    control = Control(1_000, 3, 1, "n", 0, status, "r", EventId(1_000, 1))
    return Record({**jobs.new(Header("j", "a")), "state": status}, control, **fields)


@pytest.mark.parametrize(
    ("status", "fields", "now", "expected"),
    [
        ("queued", {"confirmed": True}, 10**9, Wait(None)),
        ("queued", {"confirmed": False}, 20_000, Wait(31_000)),
        ("queued", {"confirmed": False}, 31_000, Lose("the broker never confirmed that it took the job")),
        ("running", {"seen_at": 50_000}, 60_000, Wait(65_000)),
        ("running", {"seen_at": 50_000}, 65_000, Stall(15_000)),
        ("running", {"seen_at": 50_000, "stalled_at": 65_000}, 70_000, Wait(110_000)),
        (
            "running",
            {"seen_at": 50_000, "stalled_at": 65_000},
            110_000,
            Lose("no sign from its worker for 60 seconds"),
        ),
        ("retrying", {"seen_at": 50_000}, 60_000, Wait(110_000)),
        ("retrying", {"seen_at": 50_000}, 110_000, Lose("the next attempt never began")),
        ("succeeded", {}, 10**9, Wait(None)),
    ],
)
def test_somebody_steps_in_in_time_and_not_before(
    status: str, fields: dict[str, Any], now: int, expected: object
) -> None:
    """Every job ends; none is ended early."""
    assert expected == verdict(record(status, **fields), now, LIMITS)


@pytest.mark.parametrize(
    ("status", "fields", "now", "expected"),
    [
        ("queued", {}, 5_000, "end"),
        ("retrying", {"seen_at": 4_000}, 5_000, "end"),
        ("running", {"seen_at": 4_000}, 5_000, "tell"),
        ("running", {"seen_at": 4_000, "stalled_at": 4_500}, 5_000, "end"),
        ("running", {"seen_at": 4_000, "cancel_at": 4_500}, 5_000, "wait"),
        ("running", {"seen_at": 4_000, "cancel_at": 4_500}, 34_499, "wait"),
        ("running", {"seen_at": 4_000, "cancel_at": 4_500}, 34_500, "end"),
    ],
)
def test_a_cancel_ends_what_nobody_has_in_hand(
    status: str, fields: dict[str, Any], now: int, expected: str
) -> None:
    """A worker that lives is told first, and has 30 seconds."""
    assert expected == on_cancel(record(status, **fields), now)
