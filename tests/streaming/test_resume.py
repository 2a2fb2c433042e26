"""Whether a position is found, and what is said where it is not."""

import pytest

from progress_stream import events, jobs
from progress_stream.events import BEGINNING, EventId
from progress_stream.jobs import Control, Header, Record
from progress_stream.streaming.resume import Gap, resume


def record(epoch: int, n: int, *, born: EventId | None = None, status: str = "running") -> Record:
    control = Control(epoch, n, 1, "nonce", 0, status, "r", born or EventId(epoch, 1))
    return Record(jobs.new(Header("j", "a")), control)


def entries(*ids: str) -> list[tuple[EventId, bytes, bytes]]:
    return [(EventId.parse(id), b"log", b"{}") for id in ids]


def ids(page_entries: list[tuple[EventId, bytes, bytes]]) -> list[str]:
    return [str(entry[0]) for entry in page_entries]


def test_from_the_beginning_all_follows_when_the_first_event_is_kept() -> None:
    """`0-0` is found when n = 1 is the first entry."""
    page = resume(BEGINNING, record(5, 2), entries("5-1", "5-2"))

    assert page.gap is None
    assert ["5-1", "5-2"] == ids(page.entries)
    assert EventId(5, 2) == page.position


def test_an_event_that_is_kept_is_found_and_not_sent_again() -> None:
    """The read is inclusive: the client's own event proves that nothing before it changed."""
    page = resume(EventId(5, 1), record(5, 3), entries("5-1", "5-2", "5-3"))

    assert page.gap is None
    assert ["5-2", "5-3"] == ids(page.entries)


def test_the_direct_successor_in_the_same_epoch_proves_a_position() -> None:
    """The client's own event was trimmed, but nothing after it."""
    assert resume(EventId(5, 1), record(5, 3), entries("5-2", "5-3")).gap is None


def test_a_successor_in_another_epoch_proves_nothing() -> None:
    """Event 5-2 may have been another one than the promoted server's 9-2."""
    page = resume(EventId(5, 2), record(9, 4, born=EventId(5, 1)), entries("9-3", "9-4"))

    assert page.gap == Gap("trimmed", EventId(9, 2))
    assert ["9-3", "9-4"] == ids(page.entries)


def test_a_lost_tail_is_told_even_when_the_count_has_caught_up() -> None:
    """The client holds 5-7; the promoted server went on from 5-5 with 9-6, 9-7, 9-8."""
    page = resume(EventId(5, 7), record(9, 8, born=EventId(5, 1)), entries("9-6", "9-7", "9-8"))

    assert page.gap == Gap("lost", EventId(9, 5))
    assert ["9-6", "9-7", "9-8"] == ids(page.entries)


def test_a_position_of_an_epoch_that_never_was_is_unknown() -> None:
    """A higher epoch than ours: the events in question are in the state only, and none follows."""
    page = resume(EventId(99, 3), record(5, 4), [])

    assert page.gap == Gap("unknown", EventId(5, 4))
    assert EventId(5, 4) == page.position


def test_the_newest_id_is_found_whatever_the_stream_still_holds() -> None:
    """An expired stream leaves the state: whoever has seen the end has missed nothing."""
    assert resume(EventId(5, 4), record(5, 4, status="succeeded"), []).gap is None


def test_an_expired_stream_is_a_gap_for_everybody_else() -> None:
    """The state is all that is left."""
    for position in (BEGINNING, EventId(5, 2)):
        assert resume(position, record(5, 4, status="succeeded"), []).gap == Gap("trimmed", EventId(5, 4))


def test_a_missing_number_inside_a_page_is_told_where_it_is_missing() -> None:
    """The page ends before the hole; the next look begins there and says so."""
    first = resume(BEGINNING, record(5, 5), entries("5-1", "5-2", "5-4", "5-5"))
    second = resume(first.position, record(5, 5), entries("5-2", "5-4", "5-5"))

    assert ["5-1", "5-2"] == ids(first.entries)
    assert second.gap == Gap("lost", EventId(5, 3))
    assert ["5-4", "5-5"] == ids(second.entries)


def test_a_new_epoch_inside_a_page_is_no_gap() -> None:
    """A plain restart of Redis begins an epoch and loses nothing."""
    page = resume(EventId(5, 1), record(9, 3, born=EventId(5, 1)), entries("5-1", "5-2", "9-3"))

    assert page.gap is None
    assert ["5-2", "9-3"] == ids(page.entries)


def test_a_malformed_position_gets_everything_that_is_kept() -> None:
    """Never an error: EventSource gives up for good on one."""
    page = resume(None, record(5, 2), entries("5-1", "5-2"))

    assert page.gap == Gap("malformed", EventId(5, 0))
    assert ["5-1", "5-2"] == ids(page.entries)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5-",
        "-5",
        "05-1",
        "5-01",
        "5-1 ",
        "18446744073709551616-0",
        "1-18446744073709551616",
        "a-b",
        "5-1-1",
        "٥-1",
    ],
)
def test_what_is_no_id_is_malformed(text: str) -> None:
    """Two numbers below 2^64, no leading zero, ASCII digits alone."""
    with pytest.raises(ValueError, match="not an event id"):
        EventId.parse(text)


def test_a_position_in_the_future_of_the_same_epoch_is_lost() -> None:
    """It cannot be told from an event that Redis lost."""
    assert resume(EventId(5, 9), record(5, 4), []).gap == Gap("lost", EventId(5, 4))


def test_every_time_of_a_state_can_be_read_back() -> None:
    """RFC 3339 with milliseconds, UTC."""
    assert 1_795_569_306_728 == events.ms_of(events.text_of(1_795_569_306_728))
