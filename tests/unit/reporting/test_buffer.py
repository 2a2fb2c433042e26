"""The reporter's buffer against a server that loses answers, tails and everything: a clock and dice as arguments, no I/O."""

import random
from typing import Any

import pytest

from progress_stream import events, jobs
from progress_stream.errors import InvalidEvent
from progress_stream.reporting.buffer import KEPT_EVENTS, Batch, Buffer, Rates

AT = "2026-01-01T00:00:00.000Z"
WALL = 1_767_225_600.0


def new(rates: Rates | None = None, now: float = 0.0) -> Buffer:
    state = jobs.fold(jobs.new(jobs.Header("job", "actor")), events.make("job", "started", at=AT, attempt=1))
    return Buffer("job", state, rates or Rates(), now)


def send(buffer: Buffer, now: float) -> Batch:
    """What is due, acknowledged."""
    batch = buffer.freeze(now, AT, 1)
    assert batch is not None
    buffer.acknowledge()
    return batch


def said(batch: Batch) -> list[dict[str, Any]]:
    return [events.decode(data) for _, data in batch.lines]


def test_progress_is_one_slot_that_the_newest_value_overwrites() -> None:
    """The first leaves at once, the rest a tenth of a second later as one."""
    buffer = new()
    buffer.progress(WALL, done=1)
    first = send(buffer, 0.0)
    for done in range(2, 100):
        buffer.progress(WALL, done=done)

    assert [1] == [event["done"] for event in said(first)]
    assert buffer.freeze(0.05, AT, 1) is None
    assert 0.1 == buffer.due(0.05)
    assert [99] == [event["done"] for event in said(send(buffer, 0.1))]
    assert buffer.empty


def test_the_end_carries_the_last_progress_before_it() -> None:
    """However little time has passed since the one before."""
    buffer = new()
    buffer.progress(WALL, done=1, total=2)
    send(buffer, 0.0)
    buffer.progress(WALL, done=2)
    buffer.lifecycle(0.01, AT, "succeeded", result=None)
    batch = send(buffer, 0.01)

    assert [("progress", 2), ("succeeded", None)] == [(e["type"], e.get("done")) for e in said(batch)]
    assert batch.ends
    assert ("succeeded", 2) == (batch.state["state"], batch.state["done"])


def test_own_events_are_due_at_once_and_pass_waiting_progress() -> None:
    """They are never held back for it."""
    buffer = new()
    buffer.progress(WALL, done=1)
    send(buffer, 0.0)
    buffer.progress(WALL, done=2)
    buffer.own(AT, "token", {"t": 1})

    assert 0.01 == buffer.due(0.01)
    assert ["token"] == [event["type"] for event in said(send(buffer, 0.01))]


def test_every_event_holds_the_attempt_it_was_sent_under() -> None:
    """Redis gives the number; what was said before it did waits without one."""
    buffer = new()
    buffer.own(AT, "early", None)
    batch = buffer.freeze(0.0, AT, 7)

    assert batch is not None
    assert [{"job": "job", "type": "early", "at": AT, "attempt": 7}] == said(batch)


@pytest.mark.contract("LOG_RATE", "LOG_BURST")
def test_a_flood_of_logs_becomes_a_burst_and_one_n_more() -> None:
    """The bucket refills; what was left out is told once a second, and at the end."""
    buffer = new(Rates(log_rate=20, log_burst=200))
    for number in range(1_000):
        buffer.log(0.0, AT, f"{number}", "info")
    first = said(send(buffer, 0.0))
    buffer.log(0.5, AT, "later", "info")
    second = said(send(buffer, 0.5))
    third = said(send(buffer, 1.0))

    assert [str(number) for number in range(200)] == [event["message"] for event in first]
    assert ["later"] == [event["message"] for event in second]
    assert [("800 more log events were left out", 800)] == [(e["message"], e["left_out"]) for e in third]


def test_what_was_left_out_is_told_before_the_end() -> None:
    """Nobody should think that the log is whole."""
    buffer = new(Rates(log_rate=1, log_burst=1))
    for _ in range(3):
        buffer.log(0.0, AT, "x", "info")
    buffer.lifecycle(0.0, AT, "succeeded", result=None)

    assert ["log", "log", "succeeded"] == [event["type"] for event in said(send(buffer, 0.0))]


def test_while_redis_is_away_progress_goes_first_then_the_oldest_logs() -> None:
    """Steps and the end are kept; how many logs went is told."""
    buffer = new(Rates(pending_bytes=10_000, log_rate=1e9, log_burst=10**9))
    for number in range(200):
        buffer.step(0.0, AT, f"step {number % 3}", "started")
        buffer.progress(WALL, done=number)
        buffer.log(0.0, AT, f"line {number}", "info")
    buffer.lifecycle(0.0, AT, "failed", error={"type": "E", "message": "m"})
    types: list[str] = []
    while not buffer.empty:
        types += [event["type"] for event in said(send(buffer, 0.0))]

    assert types.count("progress") <= 1
    assert "failed" == types[-1]
    assert types.count("step") > 50


def test_memory_stays_bounded_under_any_flood() -> None:
    """A Redis that never comes back costs a bounded number of bytes."""
    buffer = new(Rates(pending_bytes=50_000))
    for number in range(20_000):
        buffer.own(AT, "token", "x" * 100)
        buffer.log(0.0, AT, f"{number}", "info")

    assert buffer._bytes <= 50_000


def test_a_frozen_batch_is_the_same_until_it_is_answered() -> None:
    """What is said meanwhile waits for the next numbers."""
    buffer = new()
    buffer.own(AT, "token", 1)
    first = buffer.freeze(0.0, AT, 1)
    buffer.own(AT, "token", 2)

    assert first == buffer.freeze(0.0, AT, 1)
    buffer.acknowledge()
    following = buffer.freeze(0.0, AT, 1)
    assert following is not None
    assert 2 == following.base


def test_a_hole_is_filled_from_memory_under_the_old_numbers() -> None:
    """From `last + 1` on, with the whole state."""
    buffer = new()
    for number in range(1, 11):
        buffer.own(AT, "token", number)
        send(buffer, 0.0)
    buffer.own(AT, "token", 11)
    buffer.freeze(0.0, AT, 1)
    buffer.resend(6)
    batch = buffer.freeze(0.0, AT, 1)

    assert batch is not None
    assert (7, False) == (batch.base, batch.jump)
    assert [7, 8, 9, 10, 11] == [event["data"] for event in said(batch)]


def test_a_hole_deeper_than_memory_is_jumped_over() -> None:
    """What is left is sent, and says that something is missing."""
    buffer = new()
    for number in range(KEPT_EVENTS + 50):
        buffer.own(AT, "token", number)
        send(buffer, 0.0)
    buffer.resend(0)
    batch = buffer.freeze(0.0, AT, 1)

    assert batch is not None
    assert (51, True, KEPT_EVENTS) == (batch.base, batch.jump, len(batch.lines))


@pytest.mark.contract("EVENT_BYTES")
@pytest.mark.parametrize("size", [65_536 - 60, 70_000])
def test_an_event_over_the_limit_is_refused_whole(size: int) -> None:
    """The error names the setting; the queue stays as it was."""
    buffer = new()
    with pytest.raises(InvalidEvent, match="EVENT_BYTES"):
        buffer.own(AT, "big", "x" * size)
    with pytest.raises(InvalidEvent, match="EVENT_BYTES"):
        buffer.progress(WALL, message="\0" * (size // 5))

    assert buffer.empty


class Server:
    """What append.lua and start.lua do with numbers, and the ways to lose things."""

    def __init__(self) -> None:
        self.last = 0
        self.held: dict[int, bytes] = {}
        self.order: list[int] = []
        self.gaps = 0

    def append(self, batch: Batch) -> int | None:
        """None, or the last number that is held before a hole."""
        if batch.base > self.last + 1:
            if not batch.jump:
                return self.last
            self.gaps += 1
        for number, (_, data) in enumerate(batch.lines, batch.base):
            if number > self.last:
                self.held[number] = data
                self.order.append(number)
                self.last = number
        return None

    def lose_tail(self, dice: random.Random) -> None:
        keep = dice.randint(max(0, self.last - 300), self.last)
        self.held = {number: data for number, data in self.held.items() if number <= keep}
        self.order = [number for number in self.order if number <= keep]
        self.last = keep


@pytest.mark.parametrize("seed", range(200))
def test_under_lost_answers_and_lost_tails_each_number_names_one_content(seed: int) -> None:
    """At the end the server holds every event once, in order, with the content it had at first."""
    dice = random.Random(seed)
    buffer, server, now, written = new(Rates(log_burst=10**6)), Server(), 0.0, 0
    first_seen: dict[int, bytes] = {}
    while written < 400 or not buffer.empty:
        now += dice.random() * 0.05
        for _ in range(dice.randint(0, 8) if written < 400 else 0):
            buffer.own(AT, "token", written)
            written += 1
        if dice.random() < 0.05:
            server.lose_tail(dice)
        batch = buffer.freeze(now, AT, 1)
        if batch is None:
            continue
        for number, (_, data) in enumerate(batch.lines, batch.base):
            assert data == first_seen.setdefault(number, data)
        hole = server.append(batch)
        if dice.random() < 0.2:
            continue  # the answer is lost: the same batch goes again
        if hole is None:
            buffer.acknowledge()
        else:
            buffer.resend(hole)
    missing = server.last
    if missing < buffer.next_sequence - 1:
        buffer.resend(missing)
        final = buffer.freeze(now, AT, 1)
        assert final is not None
        server.append(final)

    assert 0 == server.gaps
    assert list(range(1, written + 1)) == server.order
    assert list(range(written)) == [events.decode(server.held[n])["data"] for n in server.order]
