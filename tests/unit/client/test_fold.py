"""A client's fold: the shared vectors, from the beginning, from a snapshot, and over a gap."""

import json
from pathlib import Path
from typing import Any

import pytest

from progress_stream import jobs
from progress_stream.client.rules import Fold
from progress_stream.events import EventId

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "fold.json").read_text())
EACH = pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])


def fold_all(fold: Fold, events: list[dict[str, Any]], first: int = 1) -> dict[str, Any]:
    for n, event in enumerate(events, first):
        fold.event(EventId(7, n), event["type"], event)
    return fold.state


def fresh() -> Fold:
    fold = Fold("j")
    fold.identify(jobs.new(jobs.Header(**VECTORS["header"])), whole=False)
    return fold


@EACH
def test_from_the_beginning(vector: dict[str, Any]) -> None:
    """As the server does."""
    state = fold_all(fresh(), vector["events"])

    assert vector["expect"] == {name: state[name] for name in vector["expect"]}


@EACH
def test_from_a_snapshot_in_the_middle(vector: dict[str, Any]) -> None:
    """Events that the snapshot holds are seen once more; the rest is folded."""
    header = jobs.new(jobs.Header(**VECTORS["header"]))
    for through in range(1, len(vector["events"]) + 1):
        state = header
        for event in vector["events"][:through]:
            state = jobs.fold(state, event)
        fold = Fold("j")
        fold.snapshot(state, f"7-{through}")
        first = max(through - 1, 1)
        folded = fold_all(fold, vector["events"][first - 1 :], first)

        assert vector["expect"] == {name: folded[name] for name in vector["expect"]}


def test_a_state_that_was_handed_out_does_not_change() -> None:
    """Whoever keeps events keeps their states."""
    fold = fresh()
    at = "2026-01-01T00:00:00.000Z"
    fold.event(EventId(7, 1), "started", {"at": at, "attempt": 1})
    fold.event(EventId(7, 2), "step", {"at": at, "name": "a", "state": "started"})
    kept, before = fold.state, json.dumps(fold.state)
    fold.event(EventId(7, 3), "step", {"at": at, "name": "a", "state": "finished"})
    fold.snapshot({"done": 5}, "7-9")

    assert before == json.dumps(kept)
