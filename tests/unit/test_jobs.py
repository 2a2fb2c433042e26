"""States, fold, stored form and verdicts: the pure middle."""

import json
from pathlib import Path
from typing import Any

import pytest

from progress_stream import events, jobs
from progress_stream.errors import InvalidEvent, UnknownForm
from progress_stream.events import TERMINAL, EventId
from progress_stream.jobs import NEXT, Control, Header, Limits, Lose, Record, Stall, Wait

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "fold.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_the_fold_follows_the_shared_vectors(vector: dict[str, Any]) -> None:
    """The same file drives the JavaScript fold."""
    state = jobs.new(Header(**VECTORS["header"]))
    for event in vector["events"]:
        state = jobs.fold(state, event)

    assert vector["expect"] == {name: state[name] for name in vector["expect"]}
    assert set(jobs.FIELDS) == set(state)


def test_every_pair_of_state_and_event_is_allowed_or_changes_nothing() -> None:
    """The table is the whole rule."""
    lifecycle = ["queued", "started", "retrying", *sorted(TERMINAL)]
    for status in [*NEXT, *TERMINAL]:
        for kind in lifecycle:
            state = {**jobs.new(Header("j", "a")), "state": status}
            event = events.make("j", kind, at=events.text_of(0), attempt=1)
            after = jobs.fold(state, event)
            allowed = NEXT.get(status, {}).get(kind)

            assert (after["state"] == allowed) if allowed else (after is state)


@pytest.mark.parametrize("kind", ["started", "cancelled", "failed"])
def test_a_job_that_is_no_longer_queued_waits_for_nothing(kind: str) -> None:
    """A client has that from a snapshot, and no event takes it back by itself."""
    state = {**jobs.new(Header("j", "a")), "waiting_for": "no worker announces actor a"}
    after = jobs.fold(state, events.make("j", kind, at=events.text_of(0), attempt=1))

    assert ("no worker announces actor a", None) == (state["waiting_for"], after["waiting_for"])


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_terminal_is_final(status: str) -> None:
    """A refusal names what is wrong."""
    with pytest.raises(InvalidEvent, match="after the end"):
        jobs.advance(status, "progress")


def test_a_stored_state_comes_back_whole() -> None:
    """What is null, false or empty is left out and comes back."""
    state = {
        **jobs.new(Header("j", "a", owner="o", created_at=5)),
        "done": 0,
        "result": {"a": [1]},
        "stalled": False,
    }

    assert state == jobs.unpack(jobs.pack(state))


@pytest.mark.parametrize("packed", [b"{}", b'{"v":0}', b"[]", b"\xff", b"1"])
def test_a_foreign_stored_form_is_refused(packed: bytes) -> None:
    """The stored form carries a version."""
    with pytest.raises(ValueError):
        jobs.unpack(packed)


def test_a_newer_stored_form_is_told_apart() -> None:
    """A later release wrote it: whoever asks is to come back."""
    with pytest.raises(UnknownForm):
        jobs.unpack(b'{"v":2}')


def record(status: str, **fields: Any) -> Record:
    control = Control(1_000, 3, 1, "n", 0, status, "r", EventId(1_000, 1))
    return Record({**jobs.new(Header("j", "a")), "state": status}, control, **fields)


LIMITS = Limits(stalled_ms=15_000, abandoned_ms=60_000, unconfirmed_ms=30_000)


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
    assert expected == jobs.verdict(record(status, **fields), now, LIMITS)


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
    assert expected == jobs.on_cancel(record(status, **fields), now)


def test_arguments_come_back_as_they_were_or_are_not_kept() -> None:
    """Too large, or no JSON: nothing rather than half of it."""
    args, kwargs = [1, "ü", None], {"file": {"key": "a/b"}, "rows": [1.5]}
    packed = jobs.pack_arguments(args, kwargs, 1_000)

    assert (args, kwargs) == jobs.unpack_arguments(packed)
    assert packed == jobs.pack_arguments(tuple(args), kwargs, len(packed))
    assert b"" == jobs.pack_arguments(args, kwargs, len(packed) - 1)
    for value in (object(), float("nan"), "\ud800"):
        assert b"" == jobs.pack_arguments([value], {}, 1_000)


@pytest.mark.parametrize("packed", [b"", b"[]", b"{}", b'{"args": {}, "kwargs": {}}'])
def test_foreign_arguments_are_refused(packed: bytes) -> None:
    """Nothing is sent that nobody sent before."""
    with pytest.raises(ValueError):
        jobs.unpack_arguments(packed)


def test_an_end_by_others_lies_over_the_packed_state() -> None:
    """The sweep's `failed` is shown although the attempt's own state still says running."""
    end = {"at": events.text_of(9_000), "error": {"type": "Lost", "message": "m"}}
    seen = record("failed", end=end, stalled_at=5_000)
    state = jobs.view(
        Record({**seen.packed, "state": "running", "eta": 5}, seen.control, stalled_at=5_000, end=end)
    )

    assert ("failed", False, None, end["at"], end["error"]) == (
        state["state"], state["stalled"], state["eta"], state["finished_at"], state["error"],
    )  # fmt: skip
    assert "1000-3" == state["last_event_id"]
