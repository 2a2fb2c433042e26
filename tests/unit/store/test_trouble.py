"""What a trouble says of itself, and how often."""

import logging
from collections.abc import Callable

import pytest

from progress_stream.store.trouble import AGAIN_SECONDS, Trouble

Make = Callable[[float], Trouble]


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock, caplog: pytest.LogCaptureFixture) -> Make:
    caplog.set_level(logging.INFO)
    return lambda calm: Trouble(logging.getLogger("test"), calm_seconds=calm, clock=clock)


def test_it_is_said_when_it_begins_every_few_minutes_and_when_it_is_over(
    make: Make, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Noted every two seconds for six minutes."""
    trouble = make(0)
    for _ in range(180):
        trouble.note("refused")
        clock.now += 2
    trouble.over("taken again")
    trouble.over("taken again")

    assert ["refused", "refused", "taken again after 360.0 seconds"] == caplog.messages
    assert AGAIN_SECONDS < 360


def test_another_text_is_said_at_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """And the two in turn are two, not one a turn."""
    trouble = make(0)
    for text in ("refused", "away", "refused", "away"):
        trouble.note(text)

    assert ["refused", "away"] == caplog.messages


def test_what_is_over_soon_is_not_spoken_of(
    make: Make, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither its beginning nor its end; what lasts is said once."""
    trouble = make(0)
    for lasts in (3, 6):
        for _ in range(lasts):
            trouble.note("away", patience=5.0)
            clock.now += 1.1
        trouble.over("back")
        clock.now += 1

    assert ["away", "back after 6.6 seconds"] == caplog.messages


def test_one_good_round_among_bad_ones_is_not_the_end(
    make: Make, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """So many seconds without a bad one are."""
    trouble = make(20)
    for _ in range(5):
        trouble.note("refused")
        clock.now += 4
        trouble.over("goes on")
    clock.now += 16
    trouble.over("goes on")

    assert ["refused", "goes on after 16.0 seconds"] == caplog.messages


def test_what_somebody_else_tells_of_has_no_end_here(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    trouble = make(0)
    trouble.note("away")
    trouble.forget()
    trouble.over("back")

    assert ["away"] == caplog.messages
