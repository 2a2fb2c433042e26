"""States, fold and stored form: the pure middle."""

import json
from pathlib import Path
from typing import Any

import pytest

from progress_stream import events, jobs
from progress_stream.errors import InvalidEvent, UnknownForm
from progress_stream.events import TERMINAL, EventId
from progress_stream.jobs import NEXT, Control, Header, Record

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
    packed = {**jobs.new(Header("j", "a")), "state": "running", "eta": 5}
    control = Control(1_000, 3, 1, "n", 0, "failed", "r", EventId(1_000, 1))
    state = jobs.view(Record(packed, control, stalled_at=5_000, end=end))

    assert ("failed", False, None, end["at"], end["error"]) == (
        state["state"], state["stalled"], state["eta"], state["finished_at"], state["error"],
    )  # fmt: skip
    assert "1000-3" == state["last_event_id"]
