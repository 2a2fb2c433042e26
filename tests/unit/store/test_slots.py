"""Which node of a Redis Cluster a command goes to, and where it goes after an answer that is none."""

import pytest
from redis import exceptions

from progress_stream.addresses import Address
from progress_stream.store.keys import PARTITIONS, Keys
from progress_stream.store.slots import (
    HUNG_SECONDS,
    SLOTS,
    Journey,
    Layout,
    by_node,
    read_view,
    sharded,
    slot_of,
    slot_of_command,
)

ONE, TWO, THREE = Address("one", 1), Address("two", 2), Address("three", 3)


def info(state: str = "ok", epoch: int = 6) -> bytes:
    return f"cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n".encode()


def halves(first: Address, second: Address) -> list[list[object]]:
    """What CLUSTER SLOTS says of two primaries, the first with a replica."""
    return [
        [0, 8191, [first.host.encode(), first.port, b"id", []], [b"replica", 9, b"id", []]],
        [8192, SLOTS - 1, [second.host.encode(), second.port, b"id", []]],
    ]


@pytest.fixture
def layout() -> Layout:
    found = Layout([ONE])
    assert found.takes(read_view([info(), halves(ONE, TWO)], ONE))
    return found


def test_a_command_goes_by_its_first_key() -> None:
    """Of a script that is the word after their number."""
    assert (
        slot_of("k") == slot_of_command(("GET", "k")) == slot_of_command(("EVALSHA", "sha", 2, "k", "other"))
    )
    assert slot_of("{p1}:a") == slot_of_command(("ZRANGE", "ps:{p1}:due", 0, 1))
    assert slot_of_command(("TIME",)) is None


def test_what_a_script_touches_lies_in_one_slot() -> None:
    """A job, its parts and their channel; an owner's lists and theirs."""
    keys = Keys("ps")
    job = {
        *keys.with_parent("job~3"),
        *keys.of("job"),
        keys.parts("job"),
        keys.outbox("job"),
        keys.channel("job~3"),
    }
    owner = {keys.changed("al ice"), *keys.lists("al ice", "actor"), keys.owner_channel("al ice")}

    assert 1 == len({slot_of(key) for key in job})
    assert 1 == len({slot_of(key) for key in owner})
    assert slot_of(keys.marker("p7")) == slot_of(keys.probe("x", "p7")) == slot_of("p7")


def test_partitions_lie_in_slots_of_their_own() -> None:
    """So that a Cluster of many nodes has some on each."""
    assert PARTITIONS == len({slot_of(f"p{partition}") for partition in range(PARTITIONS)})


def test_a_word_to_listeners_goes_to_its_channel_s_node() -> None:
    """Other commands stay as they are."""
    assert ("SPUBLISH", "c", b"x") == tuple(sharded(("PUBLISH", "c", b"x")))
    assert ("GET", "k") == tuple(sharded(("GET", "k")))


def test_lines_are_sent_together_where_they_go_together(layout: Layout) -> None:
    """A script is loaded wherever others go."""
    one, two = layout.tags()[ONE], layout.tags()[TWO]
    lines = [("SCRIPT LOAD", "x"), ("GET", f"{{{one}}}"), ("GET", f"{{{two}}}"), ("GET", f"{{{one}}}b")]

    assert {ONE: [0, 1, 3], TWO: [0, 2]} == by_node(lines, range(4), Journey(layout, 0).next)


def test_a_node_that_does_not_know_its_own_host_has_the_one_that_was_asked() -> None:
    """One that is unknown is none."""
    served = [[0, 1, [b"", 7, b"id"]], [2, 3, [None, 8, b"id"]], [4, 5, [b"?", 9, b"id"]]]
    view = read_view([info(), served], ONE)

    assert ((0, 1, Address("one", 7)), (2, 3, Address("one", 8))) == view.ranges


def test_one_that_is_cut_off_is_not_believed(layout: Layout) -> None:
    """It says that it is not well, or knows an older configuration; where nobody knows better, the best of that."""
    behind = read_view([info(epoch=5), halves(ONE, ONE)], ONE)
    unwell = read_view([info("fail", 9), halves(ONE, THREE)], ONE)

    assert not layout.takes(behind)
    assert not layout.takes(unwell)
    assert TWO == layout.owner(SLOTS - 1)
    layout.settle([unwell, behind])
    assert ONE == layout.owner(SLOTS - 1)


def test_the_map_is_asked_for_where_it_is_in_doubt_and_not_all_the_time(layout: Layout) -> None:
    """Any node tells it; who was silent a moment ago is asked last."""
    assert not layout.is_due(100)
    layout.doubt()
    assert layout.is_due(100)
    layout.note_silence(ONE, 100)
    order = layout.to_ask(100)
    assert ({ONE, TWO, Address("replica", 9)}, ONE) == (set(order), order[-1])
    assert not layout.is_due(100.01)


def test_a_node_that_hung_takes_nobody_s_time_for_a_while(layout: Layout) -> None:
    """Others are asked meanwhile; then it is tried again."""
    layout.note_hanging(ONE, 100)

    with pytest.raises(exceptions.ConnectionError):
        layout.check(ONE, 100.1)
    layout.check(TWO, 100.1)
    layout.check(ONE, 100 + HUNG_SECONDS)


def test_each_node_has_a_tag_of_its_own(layout: Layout) -> None:
    """By which it is probed."""
    tags = layout.tags()

    assert {ONE, TWO} == tags.keys()
    assert all(node == layout.owner(slot_of(tag)) for node, tag in tags.items())


def test_a_slot_that_moved_is_followed_at_once(layout: Layout) -> None:
    """And the map is asked for again."""
    journey = Journey(layout, 0)

    assert 0.0 == journey.after(exceptions.MovedError("5 three:3"), ONE)
    assert THREE == journey.next(5)
    assert (ONE, True) == (layout.owner(6), layout.is_due(100))


def test_a_slot_on_its_way_is_asked_for_once_elsewhere(layout: Layout) -> None:
    """`ASK` holds for one command."""
    journey = Journey(layout, 0)
    journey.after(exceptions.AskError("5 three:3"), ONE)

    assert (THREE, True) == (journey.next(5), journey.asking)
    assert 0 < journey.after(exceptions.TryAgainError("TRYAGAIN"), THREE) < 1
    assert (ONE, False) == (journey.next(5), journey.asking)


def test_nobody_is_sent_around_for_ever(layout: Layout) -> None:
    """Two nodes that each name the other."""
    journey = Journey(layout, 3)

    with pytest.raises(exceptions.MovedError):
        for _ in range(10):
            journey.after(exceptions.MovedError("5 two:2"), ONE)


@pytest.mark.parametrize(("tries", "waits"), [(0, 0), (2, 2)])
def test_a_connection_that_is_lost_is_worth_as_many_tries_as_the_caller_has_time_for(
    layout: Layout, tries: int, waits: int
) -> None:
    """Each of them by a new map."""
    journey = Journey(layout, tries)

    assert all(journey.after(exceptions.ConnectionError(), ONE) > 0 for _ in range(waits))
    with pytest.raises(exceptions.ConnectionError):
        journey.after(exceptions.ConnectionError(), ONE)
    assert layout.is_due(100)


def test_what_is_refused_for_good_is_not_tried_again(layout: Layout) -> None:
    """A wrong command stays one."""
    with pytest.raises(exceptions.ResponseError):
        Journey(layout, 5).after(exceptions.ResponseError("WRONGTYPE"), ONE)


def test_many_that_moved_at_once_are_one_step(layout: Layout) -> None:
    """A failover moves a third of all slots."""
    journey = Journey(layout, 0)

    assert 0.0 == journey.after_all([exceptions.MovedError(f"{slot} three:3") for slot in range(100)])
    assert THREE == layout.owner(99)
    assert None is journey.after_all([exceptions.ConnectionError()])
    assert None is journey.after_all([])


def test_a_slot_that_nobody_serves_is_said(layout: Layout) -> None:
    """As Redis itself says it."""
    with pytest.raises(exceptions.ClusterDownError):
        Journey(Layout([ONE]), 0).next(5)
