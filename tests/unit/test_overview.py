"""Which jobs of a list are read when, and which of their states may be shown: the rules alone, without Redis or a clock."""

import itertools
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from progress_stream.events import EventId
from progress_stream.streaming.overview import SPACING_SECONDS, Overview

JOBS = st.sampled_from("abc")
#: A change of a job, so many seconds after the one before.
CHANGES = st.lists(st.tuples(JOBS, st.floats(0, 0.5, allow_nan=False)), max_size=60)


@given(CHANGES)
def test_each_job_is_read_after_its_last_change_and_never_more_than_four_times_a_second(
    changes: list[tuple[str, float]],
) -> None:
    """Whatever comes how fast: the reads of one job keep their distance, and none of them is forgotten."""
    overview, reads, last = Overview(), defaultdict[str, list[float]](list), dict[str, float]()
    now = 0.0
    for number, (job, pause) in enumerate(changes):
        while (at := overview.next_at()) is not None and at <= now + pause:
            for one in overview.take(at, 10):
                reads[one].append(at)
            overview.done(reads)
        now += pause
        overview.mark(job, now, number)
        last[job] = now
    while (at := overview.next_at()) is not None:
        for one in overview.take(max(at, now), 10):
            reads[one].append(max(at, now))
        overview.done(reads)

    assert last.keys() == reads.keys()
    for job, times in reads.items():
        assert times[-1] >= last[job]
        assert all(two - one >= SPACING_SECONDS - 1e-9 for one, two in itertools.pairwise(times))


@given(st.lists(st.tuples(JOBS, st.integers(0, 3), st.integers(0, 9))))
def test_what_is_shown_of_a_job_never_goes_back(found: list[tuple[str, int, int]]) -> None:
    """By the whole id: of an older epoch not even a greater number."""
    overview, shown = Overview(), defaultdict[str, list[EventId]](list)
    for job, epoch, n in found:
        if overview.accepts(job, EventId(epoch, n)):
            shown[job].append(EventId(epoch, n))

    for job, places in shown.items():
        assert sorted(places) == places
        assert max(EventId(epoch, n) for one, epoch, n in found if one == job) == places[-1]


@given(st.permutations([EventId(1, 1), EventId(1, 2), EventId(2, 1), EventId(10, 1)]))
def test_the_newest_wins_in_whatever_order_they_are_read(order: list[EventId]) -> None:
    """Compared as numbers, not as text."""
    overview = Overview()
    shown = [place for place in order if overview.accepts("a", place)]

    assert EventId(10, 1) == shown[-1]


def test_a_page_may_come_back_from_before_whatever_is_not_yet_shown() -> None:
    """What is marked, what is being read and what could not be read hold the time back; what is shown lets it go."""
    overview = Overview()
    overview.mark("a", 0.0, 100)
    overview.mark("b", 0.0, 200)
    marked = overview.shown_through(300)
    taken = overview.take(0.0, 1)
    reading = overview.shown_through(300)
    overview.failed(taken, 0.0, 1.0)
    failed = overview.shown_through(300)
    overview.take(2.0, 10)
    overview.done(["a", "b"])

    assert ["a"] == taken
    assert (99, 99, 99, 300) == (marked, reading, failed, overview.shown_through(300))


def test_a_change_while_a_job_is_read_is_read_again() -> None:
    """The read under way may have come too early for it."""
    overview = Overview()
    overview.mark("a", 0.0, 1)
    overview.take(0.0, 1)
    overview.mark("a", 0.1, 2)
    overview.done(["a"])

    assert overview.waits_for("a")
    assert SPACING_SECONDS == overview.next_at()


def test_a_read_that_takes_long_keeps_its_distance_from_when_it_ended() -> None:
    """Marked meanwhile: it is due a spacing after the answer, not after the question."""
    overview = Overview()
    overview.mark("job", now=0.0, changed_at=1)
    overview.take(0.0, 10)
    overview.mark("job", now=0.1, changed_at=2)
    overview.note_read(["job"], 2.0)
    overview.done(["job"])

    assert [] == overview.take(2.1, 10)
    assert 2.0 + SPACING_SECONDS == overview.next_at()
    assert ["job"] == overview.take(2.0 + SPACING_SECONDS, 10)
    assert overview.next_at() is None


def test_a_job_that_came_back_may_begin_anew() -> None:
    """One that was gone is another one: its ids say nothing of the old ones."""
    overview = Overview()
    overview.accepts("a", EventId(5, 5))
    overview.forget("a")

    assert overview.accepts("a", EventId(1, 1))
