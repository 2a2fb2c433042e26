"""What the end of a job tells."""

import json
from typing import Any

import pytest

from progress_stream.reporting.outcome import RESULT_BYTES, error_of, result_of


def test_an_error_is_its_type_and_its_words() -> None:
    """Never more than 2,000 characters, never what UTF-8 cannot hold."""
    told = error_of(ValueError("x\ud800" + "y" * 5_000))

    assert "ValueError" == told["type"]
    assert 2_000 == len(told["message"])
    json.dumps(told).encode()


def test_an_error_that_cannot_be_shown_does_not_hide_the_failure() -> None:
    """`__str__` is foreign code."""

    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "Silent" == error_of(Silent())["type"]


@pytest.mark.parametrize(
    "result", [None, 0, "text", {"a": [1, 2.5, None]}, (1, 2), "x" * (RESULT_BYTES - 100)]
)
def test_a_result_of_json_is_kept(result: Any) -> None:
    """Up to 48 KiB of it."""
    assert {"result": result} == result_of(result, 65_536)


@pytest.mark.parametrize(
    "result", [object(), {1, 2}, b"x", float("nan"), "\ud800", "x" * RESULT_BYTES, {(1,): 2}]
)
def test_any_other_result_is_dropped_with_a_reason(result: Any) -> None:
    """The job has succeeded all the same."""
    kept = result_of(result, 65_536)

    assert kept["result"] is None
    assert kept["result_dropped"]


def test_a_result_that_holds_itself_is_dropped() -> None:
    """Not an endless loop."""
    knot: list[Any] = []
    knot.append(knot)

    assert result_of(knot, 65_536)["result"] is None
