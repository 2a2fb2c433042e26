"""The waits between two tries, without a clock."""

import random

import pytest

from progress_stream.client.retry import Backoff


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def longest(clock: Clock | None = None) -> Backoff:
    """A back-off that always draws the longest wait."""
    return Backoff(lambda: 1.0, clock or Clock(), base_seconds=1.0, cap_seconds=10.0)


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    """A server that is away is asked less and less often, but never given up."""
    backoff = longest()

    assert [1.0, 2.0, 4.0, 8.0, 10.0, 10.0] == [backoff.wait() for _ in range(6)]


def test_a_wait_is_drawn_from_the_whole_range() -> None:
    """Full jitter: a thousand clients that were cut together come back spread out."""
    waits = [Backoff(random.Random(seed).random, Clock()).wait() for seed in range(1_000)]

    assert min(waits) < 0.05
    assert max(waits) > 0.95
    assert 0.4 < sum(waits) / len(waits) < 0.6


def test_an_event_makes_the_next_wait_short_again() -> None:
    """A connection that brought something was good."""
    backoff = longest()
    for _ in range(4):
        backoff.wait()

    backoff.progressed()

    assert 1.0 == backoff.wait()


def test_a_connection_that_held_makes_the_next_wait_short_again() -> None:
    """Also when the job was silent all the time."""
    clock = Clock()
    backoff = longest(clock)
    for _ in range(4):
        backoff.wait()
    backoff.opened()

    clock.now += backoff.steady_seconds

    assert 1.0 == backoff.wait()


def test_connections_that_are_dropped_at_once_do_not_shorten_the_wait() -> None:
    """A server that takes every connection and drops it must not be asked without a pause."""
    backoff = longest()
    waits = []
    for _ in range(3):
        backoff.opened()
        waits.append(backoff.wait())

    assert [1.0, 2.0, 4.0] == waits


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0])
def test_what_the_server_asked_for_is_the_least(draw: float) -> None:
    """`busy` and Retry-After are obeyed, with a little on top so that not all come back together."""
    backoff = Backoff(lambda: draw, Clock())

    assert 8.0 <= backoff.wait(told=8.0) <= 10.0


def test_a_thousand_failures_are_no_overflow() -> None:
    """A laptop may sleep for a week."""
    backoff = longest()

    assert 10.0 == max(backoff.wait() for _ in range(5_000))
