"""Lines of JSON, out and back in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progress_stream import events
from progress_stream.errors import InvalidInput
from progress_stream.frames import ndjson, sse
from progress_stream.streaming.formats import NDJSON
from progress_stream.streaming.topic import Topic

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5
)


@given(
    st.lists(st.dictionaries(st.text(), VALUES), max_size=5),
    st.lists(st.integers(min_value=1, max_value=7), min_size=1, max_size=20),
)
def test_what_goes_out_comes_back_in_any_cuts(objects: list[dict[str, object]], cuts: list[int]) -> None:
    """Whatever text an event holds."""
    kept = [each for each in objects if _is_encodable(each)]
    whole = b"".join(ndjson.stored(b"1-2", b"own", events.encode(each)) for each in kept)
    parser = ndjson.Parser()
    seen = []
    while whole:
        for cut in cuts:
            seen += parser.feed(whole[:cut])
            whole = whole[cut:]

    assert [{"id": "1-2", **each} for each in kept] == seen


def _is_encodable(value: object) -> bool:
    try:
        events.encode_any(value)
    except InvalidInput:
        return False
    return True


def test_an_entry_that_is_no_object_keeps_its_place() -> None:
    """Somebody else wrote it: its number is told, so that no hole is silent."""
    assert {"id": "1-2", "type": "own"} == json.loads(ndjson.stored(b"1-2", b"own", b"[1]"))


@pytest.mark.parametrize("data", [b"[]", b"", b'{"a":1}\n', b'{"a":\r1}'])
def test_what_is_no_line_is_refused(data: bytes) -> None:
    """Never repaired."""
    with pytest.raises(InvalidInput):
        ndjson.line(data, type="x")


def test_an_endless_line_stops_the_parser() -> None:
    """It does not fill the memory of a client."""
    parser = ndjson.Parser()
    with pytest.raises(InvalidInput, match="endless"):
        for _ in range(10):
            parser.feed(b"x" * 1_000_000)


def test_what_is_no_object_is_left_out() -> None:
    """Empty lines, broken ones, other JSON."""
    assert [{"a": 1}] == ndjson.Parser().feed(b'\n[1]\n{"a":1}\n{"a"\n' + b"[" * 100_000 + b"\n")


def test_a_frame_is_taken_apart_as_it_was_made() -> None:
    """Whatever colons its data holds."""
    parts = (b"1-2", b"own", b'{"a":"data: x"}')

    assert parts == sse.parts_of_stored(sse.stored(*parts))


def test_a_topic_gives_both_forms_of_the_same_events() -> None:
    """Also when the older half was dropped in between, and of an entry that cannot be framed."""
    topic = Topic("j")
    for n in range(1, 1_500):
        data = b'{"n":%d}' % n if n % 100 else b"broken\n"
        topic.hear(events.EventId(7, n), [(b"own", data)])
        if n % 300 == 0:
            topic.after(n - 10, NDJSON)
    last = [json.loads(line)["n"] for line in topic.after(1_000, NDJSON).splitlines()]

    assert [n for n in range(1_001, 1_500) if n % 100] == last
    assert topic.after(1_000).count(b"data: ") == len(last)
