"""Ids, names and JSON at the edge: refused with a clear word, never repaired."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progress_stream import events
from progress_stream.errors import InvalidEvent, InvalidInput

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), ANY_JSON, max_size=5))
def test_any_json_is_one_line_that_comes_back(event: dict[str, Any]) -> None:
    """No byte of it ends a line, for whoever splits them how."""
    try:
        data = events.encode(event)
    except InvalidEvent as error:
        assert "surrogate" in str(error)
        return

    assert 1 == len(data.decode().splitlines())
    assert event == events.decode(data)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (float("nan"), "not JSON"),
        (float("inf"), "not JSON"),
        (object(), "not JSON"),
        (b"bytes", "not JSON"),
        ({1, 2}, "not JSON"),
        ("\ud800", "lone surrogate"),
    ],
)
def test_what_is_not_json_is_refused(value: object, fault: str) -> None:
    """At the actor, before anything is sent."""
    with pytest.raises(InvalidEvent, match=fault):
        events.encode({"x": value})


def test_a_value_that_holds_itself_is_refused() -> None:
    """No RecursionError reaches the actor."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidEvent):
        events.encode({"x": loop})


def test_the_three_foreign_line_breaks_are_escaped() -> None:
    """U+0085, U+2028 and U+2029 end lines for some clients."""
    assert b'{"x":"\\u0085\\u2028\\u2029"}' == events.encode({"x": "\x85\u2028\u2029"})


@pytest.mark.parametrize("name", ["preview", "a", "a.b-c_d", "x" * 64])
def test_an_own_type_may_be(name: str) -> None:
    """[a-z][a-z0-9_.-]{0,63}"""
    assert name == events.check_own_type(name)


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "x" * 65, "a b", "a\n", "ä", *sorted(events.RESERVED), None, 3]
)
def test_an_own_type_may_not_be(name: object) -> None:
    """Neither malformed nor one of ours."""
    with pytest.raises(InvalidEvent, match="type"):
        events.check_own_type(name)


@pytest.mark.parametrize("job", ["a", "A-Z_0.9", "x" * 128, "...", "event"])
def test_a_job_id_may_be(job: str) -> None:
    """1 to 128 of the allowed characters."""
    assert job == events.check_job_id(job)


@pytest.mark.parametrize("job", ["", ".", "..", "events", "x" * 129, "a~1", "a/b", "a b", "a\n", "ä", None])
def test_a_job_id_may_not_be(job: object) -> None:
    """A part's id is not for callers to give."""
    with pytest.raises(InvalidInput, match="allowed: 1 to 128"):
        events.check_job_id(job)


def test_a_part_has_an_id_of_its_own_form() -> None:
    """`<id>~<n>`"""
    assert events.is_job_id("a~3")
    assert not events.is_job_id("a~")
    assert not events.is_job_id("a~03")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("done", -1),
        ("total", True),
        ("rate", "3"),
        ("done", 2**53),
        ("message", 3),
        ("error", {"type": "x"}),
        ("eta", float("nan")),
    ],
)
def test_a_field_of_the_wrong_shape_is_refused_by_name(field: str, value: object) -> None:
    """The error names the field."""
    with pytest.raises(InvalidEvent) as caught:
        events.make("j", "progress", at=events.text_of(0), **{field: value})

    assert field == caught.value.field


def test_what_is_not_known_is_left_out_and_a_result_of_none_is_not() -> None:
    """`result` may be null."""
    event = events.make("j", "succeeded", at=events.text_of(0), attempt=1, result=None, message=None)

    assert {
        "job": "j",
        "type": "succeeded",
        "at": "1970-01-01T00:00:00.000Z",
        "attempt": 1,
        "result": None,
    } == event
    assert event == json.loads(events.encode(event))


@pytest.mark.parametrize(
    "text", ["", "März", "\U000311f2", "\u06a9\u200c\u06cc", "\U0001f469\u200d\U0001f52c", "a\u00a0b\u3000c"]
)
def test_words_of_every_script_can_be_a_title(text: str) -> None:
    """Rare characters, joiners and odd spaces too."""
    assert text == events.check_words("title", text)


@pytest.mark.parametrize("code", [0x0, 0x9F, 0xAD, 0x202E, 0x2028, 0x2029, 0xD800, 0xE000, 0x0378, 0xFEFF])
def test_what_cannot_be_shown_is_in_no_title(code: int) -> None:
    """Control and direction, half, private and unassigned characters."""
    with pytest.raises(InvalidInput):
        events.check_words("title", f"a{chr(code)}b")
