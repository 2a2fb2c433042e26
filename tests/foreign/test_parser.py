"""Our own parser against the standard's cases (WHATWG HTML §9.2.6) and against npm's eventsource-parser."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from progress_stream.frames.sse import Frame, Parser
from tests.foreign.parsers import NodeParser, cut

#: What a line may be made of: fields known and unknown, with and without colon and space, and what looks like them.
LINES = [
    "data", "data:", "data: ", "data:  two", "data:a", "data: a: b", " data: no field", "Data: no field", "data : no field",
    "event", "event: kind", "event:", "id: 7", "id:7-1", "id", "retry: 10", "retry: 007", "retry:", "retry: 1e3", "retry: -1",
    "retry: +1", "retry: 1_0", "retry: ١", "retry: 1 ", ":", ": comment", ":data: no", "\ufeffdata: second BOM",
    "data: \ufeff", "data: ä€😀", "data: \u0085\u2028\u2029\x0b\x0c\x1c", "data: \0", "data: {\"a\":1}", "unknown: field", "",
]  # fmt: skip
ENDS = ["\n", "\r", "\r\n"]


def frames_of(*chunks: bytes) -> list[Frame]:
    parser = Parser()
    return [frame for chunk in chunks for frame in parser.feed(chunk)]


CASES: list[tuple[str, bytes, list[Frame]]] = [
    ("a BOM at the start", b"\xef\xbb\xbfdata: a\n\n", [Frame("message", "a", "")]),
    ("one BOM only", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [Frame("message", "b", "")]),
    ("LF", b"data: a\n\ndata: b\n\n", [Frame("message", "a", ""), Frame("message", "b", "")]),
    ("CR", b"data: a\r\rdata: b\r\r", [Frame("message", "a", ""), Frame("message", "b", "")]),
    ("CRLF", b"data: a\r\n\r\ndata: b\r\n\r\n", [Frame("message", "a", ""), Frame("message", "b", "")]),
    ("mixed line ends", b"data: a\r\n\ndata: b\r\r\n", [Frame("message", "a", ""), Frame("message", "b", "")]),
    ("LF CR is two ends", b"data: a\n\rdata: b\n\r", [Frame("message", "a", ""), Frame("message", "b", "")]),
    ("lines of data are joined", b"data: YHOO\ndata: +2\ndata: 10\n\n", [Frame("message", "YHOO\n+2\n10", "")]),
    ("empty data is an event", b"data\n\ndata\ndata\n\ndata:", [Frame("message", "", ""), Frame("message", "\n", "")]),
    ("one space is taken", b"data:test\n\ndata: test\n\n", [Frame("message", "test", "")] * 2),
    ("only one space is taken", b"data:  test\n\n", [Frame("message", " test", "")]),
    ("no data, no event", b"event: a\nid: 1\n\ndata: b\n\n", [Frame("message", "b", "1")]),
    ("an unfinished event is dropped", b"data: a\n\ndata: b\n", [Frame("message", "a", "")]),
    ("comments", b": c\n:\n:data: x\ndata: a\n:\n\n", [Frame("message", "a", "")]),
    ("event names", b"event: add\ndata: 1\n\ndata: 2\n\n", [Frame("add", "1", ""), Frame("message", "2", "")]),
    ("the last event name counts", b"event: a\nevent: b\ndata: 1\n\n", [Frame("b", "1", "")]),
    ("an empty event name is none", b"event: a\nevent\ndata: 1\n\n", [Frame("message", "1", "")]),
    ("an id stays", b"id: 1\ndata: a\n\ndata: b\n\n", [Frame("message", "a", "1"), Frame("message", "b", "1")]),
    ("an empty id resets", b"id: 1\ndata: a\n\nid\ndata: b\n\n", [Frame("message", "a", "1"), Frame("message", "b", "")]),
    ("an id with NUL is ignored", b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
     [Frame("message", "a", "1"), Frame("message", "b", "1")]),
    ("retry", b"retry: 30\ndata: a\n\ndata: b\n\n", [Frame("message", "a", "", 30), Frame("message", "b", "")]),
    ("retry is digits only", b"retry: 1.5\nretry: -1\nretry: x\nretry: \xd9\xa1\nretry\ndata: a\n\n", [Frame("message", "a", "")]),
    ("retry beyond all sense", b"retry: " + b"9" * 5_000 + b"\ndata: a\n\n", [Frame("message", "a", "")]),
    ("field names are exact", b"Data: a\n data: b\ndata : c\ndatax\n\n", []),
    ("no other line ends", "data: \x0b\x0c\x1c\x85\u2028\u2029\n\n".encode(),
     [Frame("message", "\x0b\x0c\x1c\x85\u2028\u2029", "")]),
    ("broken UTF-8 is replaced", b"data: \xff\xc3\n\n", [Frame("message", "\ufffd\ufffd", "")]),
]  # fmt: skip


@pytest.mark.parametrize(("stream", "frames"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_case_of_the_standard(stream: bytes, frames: list[Frame]) -> None:
    """In one piece, byte by byte, in every two pieces, and with empty chunks between."""
    assert frames == frames_of(stream)
    assert frames == frames_of(*(stream[place : place + 1] for place in range(len(stream))))
    for place in range(len(stream) if len(stream) < 200 else 0):
        assert frames == frames_of(stream[:place], b"", stream[place:]), place


def test_the_id_of_a_frame_that_was_cut_off_does_not_count() -> None:
    """§9.2.6 sets the last event id at the blank line: a client that comes back with it must not have missed its event."""
    parser = Parser()
    parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")

    assert "1" == parser.last_event_id
    parser.feed(b"\n")
    assert "2" == parser.last_event_id


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(ENDS)), max_size=25),
    places=st.lists(st.integers(0, 2_000), max_size=12),
    bom=st.booleans(),
)
def test_it_reads_what_the_reference_reads(
    node: NodeParser, lines: list[tuple[str, str]], places: list[int], bom: bool
) -> None:
    """Any lines, any line ends, any cuts. The reference holds a last CR back, so the stream goes on with a comment."""
    stream = ("\ufeff" * bom + "".join(line + end for line, end in lines) + ":\n").encode()
    chunks = cut(stream, places)
    ours, theirs = frames_of(*chunks), node.read(chunks)

    assert [(event.event, event.data) for event in theirs.events] == [(f.event, f.data) for f in ours]
    # It tells an id with its own event alone; §9.2.6 lets the last one stay.
    for frame, event in zip(ours, theirs.events, strict=True):
        assert event.id in (None, frame.id)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=st.binary(max_size=200), places=st.lists(st.integers(0, 200), max_size=8))
def test_it_reads_any_bytes_as_the_reference_does(node: NodeParser, stream: bytes, places: list[int]) -> None:
    """Broken UTF-8, cut anywhere, is replaced by as many U+FFFD as the standard decoder's."""
    whole = b"data: " + stream.replace(b"\r", b"").replace(b"\n", b"\ndata:") + b"\n\n"
    chunks = cut(whole, places)

    assert [event.data for event in node.read(chunks).events] == [frame.data for frame in frames_of(*chunks)]
