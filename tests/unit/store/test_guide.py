"""Which Sentinel is asked next, and what is believed of their answers."""

import pytest
import redis
from redis.exceptions import NoPermissionError

from progress_stream.addresses import Address
from progress_stream.store.failures import SentinelsRefuse, mapped
from progress_stream.store.sentinels import CHECK_SECONDS, SILENT_SECONDS, Guide, Told, read

OLD, NEW = Address("old", 1), Address("new", 2)


def test_each_is_asked_in_its_turn() -> None:
    """One that is cut off with the old primary is not the only one that is heard."""
    guide = Guide(3)

    assert [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]] == [guide.order(0) for _ in range(4)]


def test_one_that_was_silent_is_asked_last_for_a_while() -> None:
    """Its time-out is somebody's wait."""
    guide = Guide(3)
    guide.note_silence(0, 100)

    assert [1, 2, 0] == guide.order(101)
    assert [1, 2, 0] == guide.order(102)
    guide.order(103)
    assert [0, 1, 2] == guide.order(100 + SILENT_SECONDS + 1)


def test_an_older_configuration_does_not_lead_back() -> None:
    """What is known is kept while another may know better."""
    guide = Guide(2)

    assert guide.takes(Told(NEW, 5))
    assert not guide.takes(Told(OLD, 4))
    assert NEW == guide.address


def test_where_all_know_less_they_were_set_up_anew() -> None:
    """Epochs began again: what they say now holds, the greatest of it."""
    guide = Guide(2)
    guide.takes(Told(OLD, 9))

    guide.settle([Told(Address("other", 3), 0), Told(NEW, 1), Told(None)])

    assert NEW == guide.address


def test_silence_changes_nothing() -> None:
    """Sentinels that are away end no connection to a primary that is there."""
    guide = Guide(2)
    guide.takes(Told(OLD, 1))

    guide.settle([Told(None)])

    assert OLD == guide.address


def test_it_is_asked_for_once_a_second_and_rarely_where_nobody_answers() -> None:
    """Until an address is known, each time."""
    guide = Guide(1)
    assert guide.is_due(0)
    guide.order(0)
    assert guide.is_due(0)

    guide.takes(Told(OLD, 1))
    assert not guide.is_due(CHECK_SECONDS / 2)
    assert guide.is_due(CHECK_SECONDS)
    guide.order(1)
    guide.note_silence(0, 1)
    assert not guide.is_due(1 + CHECK_SECONDS)
    guide.doubt()
    assert guide.is_due(1)


def test_a_primary_that_is_down_is_not_believed_in() -> None:
    """The Sentinel says so in its flags."""
    address = (b"10.0.0.1", b"6379")

    assert Told(Address("10.0.0.1", 6379), 7) == read(address, [b"flags", b"master", b"config-epoch", b"7"])
    assert Told(None) == read(address, [b"flags", b"master,s_down", b"config-epoch", b"7"])
    assert Told(None) == read(None, [])


@pytest.mark.parametrize("refusal", [redis.AuthenticationError("hush"), NoPermissionError("hush")])
def test_who_may_not_ask_is_told_so(refusal: redis.RedisError) -> None:
    """And not that nobody names a primary; until the next answers, which may be others."""
    guide = Guide(2)
    guide.order(0)
    guide.note_refusal(refusal)
    guide.note_refusal(redis.ResponseError("No such master with that name"))

    with pytest.raises(SentinelsRefuse) as caught:
        guide.known()
    assert "the Sentinels refuse the password or the account" == str(mapped(caught.value))
    guide.order(1)
    with pytest.raises(redis.ConnectionError, match="no Sentinel names a primary"):
        guide.known()
