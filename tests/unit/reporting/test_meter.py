"""How fast and how long: what the bar may claim."""

import math
from typing import Any

import pytest

from progress_stream.errors import InvalidEvent
from progress_stream.reporting.meter import Meter, number


def test_done_never_falls_and_never_passes_total() -> None:
    """A lower value is ignored; a higher one than the total raises it."""
    meter = Meter()
    meter.set(5, 10)
    meter.set(3, None)
    assert (5, 10) == (meter.done, meter.total)
    meter.set(12, None)

    assert (12, 12) == (meter.done, meter.total)


def test_a_steady_job_has_its_rate_and_end() -> None:
    """Ten a second: the estimate is exact after five seconds and three updates, and null before."""
    meter = Meter()
    etas: list[Any] = []
    for tick in range(100):
        meter.set(tick, 1_000)
        etas.append(meter.sample(tick / 10)["eta"])
    last = meter.sample(9.9)

    assert [None] * 50 == etas[:50]
    assert None not in etas[50:]
    assert math.isclose(10, last["rate"], rel_tol=1e-3)
    assert math.isclose(90.1, last["eta"], rel_tol=1e-2)


def test_two_updates_are_not_enough_for_an_estimate() -> None:
    """However long they take."""
    meter = Meter()
    for now, done in ((0.0, 0), (30.0, 1), (60.0, 2)):
        meter.set(done, 10)
        assert meter.sample(now)["eta"] is None
    meter.set(3, 10)

    assert meter.sample(90.0)["eta"] is not None


def test_the_rate_follows_a_job_that_slows_down() -> None:
    """The past fades within some ten seconds."""
    meter = Meter()
    for tick in range(100):
        meter.set(tick * 10, None)
        meter.sample(tick / 10)
    for tick in range(400):
        meter.set(990 + tick / 10, None)
        rate = meter.sample(10 + tick / 10)["rate"]

    assert 1 <= rate < 4


def test_what_was_done_before_the_first_report_is_not_speed() -> None:
    """A job that goes on at row 5,000 does not claim 50,000 rows a second."""
    meter = Meter()
    meter.set(5_000, 6_000)
    assert meter.sample(0.1)["rate"] is None
    meter.set(5_001, None)

    assert math.isclose(1, meter.sample(1.1)["rate"], rel_tol=1e-3)


def test_an_absurd_speed_stays_a_number_that_json_readers_can_hold() -> None:
    """2^53 and no more."""
    meter = Meter()
    meter.set(0, None)
    meter.sample(0.0)
    meter.set(2**52, None)

    assert meter.sample(1e-9)["rate"] < 2**53


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 2**53, True, "5", None, 1j])
def test_what_is_no_count_is_refused(value: Any) -> None:
    """With the field's name and what is allowed."""
    with pytest.raises(InvalidEvent, match="done"):
        number("done", value)


def test_an_integer_of_another_library_becomes_a_plain_one() -> None:
    """numpy's integers are no `int`, but know how to be one."""

    class Int64:
        def __index__(self) -> int:
            return 7

    assert int is type(number("done", Int64()))
