"""Every decoder against anything: it gives a value that can be used, or refuses in the one way that its callers expect.

The decoders that have such a test beside them are not here: tokens and tickets (tests/unit/auth), stream parsers (tests/foreign,
tests/unit/test_ndjson.py), tables and templates (tests/unit/workers), keys of files (tests/store).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from progress_stream import events, jobs, tracing, verdicts
from progress_stream.accepting import Announced
from progress_stream.api import etags, forms, limits, listing, queues
from progress_stream.auth import bearer, sessions, tickets
from progress_stream.errors import InvalidInput, NotAuthenticated, TooLarge
from progress_stream.events import MAX_PART, EventId
from progress_stream.jobs import Header
from progress_stream.settings import load
from progress_stream.store import messages
from progress_stream.store.answers import Look
from progress_stream.store.commands import Commands
from progress_stream.store.files import Files
from progress_stream.store.keys import Keys
from progress_stream.store.list_commands import listed
from progress_stream.streaming.topic import Topic
from tests.foreign.strings import ANY_TEXT

SETTINGS = load(body_bytes=20_000, file_bytes=30_000)
COMMANDS = Commands(Keys("ps"), SETTINGS)
NOW_MS = 1_800_000_000_000
#: What a reader of numbers trips over, as text.
NUMBERS = st.sampled_from(
    ["0", "-1", "1.5", "1e3", "1e999", "NaN", "-Infinity", "9" * 5_000, str(2**64), "٣", "１", "+1", " 1", "0x1", "1_0", ""]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
#: As a program in another language may write it: with NaN, half characters, numbers without end, nesting without end.
JSON_BYTES = st.one_of(
    JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    NUMBERS.map(str.encode),
    st.sampled_from(
        [
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"[" * 950 + b"]" * 950,
            b'"\\ud800"',
            b"\xff\xfe",
            b"{}",
            b'{"v":1}',
        ]
    ),
)
any_of = examples(max_examples=25, deadline=None)


def refuses(kind: type[Exception] | tuple[type[Exception], ...], decode: Callable[[], Any]) -> Any:
    """What was decoded, or None for a refusal of this kind. Any other exception fails the test."""
    try:
        return decode()
    except kind:
        return None


# -- what a request brings


@any_of
@given(
    header=ANY_TEXT,
    query=ANY_TEXT,
    cookie=ANY_TEXT,
    path=st.sampled_from(["/", "/jobs/a/events", "/jobs/events", "/jobs"]),
)
@example(header="Bearer " + "a b", query="", cookie="", path="/")
@example(header="Bearer \u2028", query="x", cookie='progress_stream="', path="/jobs/a/events")
def test_a_bearer_is_found_or_refused(header: str, query: str, cookie: str, path: str) -> None:
    """Wherever it stands; a refusal holds nothing of it."""
    for value in (header, f"Bearer {header}"):
        headers = {"authorization": value, "cookie": f"progress_stream={cookie}; {cookie}"}
        found = refuses(
            NotAuthenticated,
            lambda headers=headers: bearer.bearer_of(headers, {"token": query}, method="GET", path=path),
        )

        assert found is None or found.token


@any_of
@given(origin=ANY_TEXT, host=ANY_TEXT, site=st.none() | ANY_TEXT)
@example(origin="http://[", host="x", site=None)
@example(origin="http://x:99999999", host="x", site=None)
def test_an_origin_is_ours_or_not(origin: str, host: str, site: str | None) -> None:
    """No header makes the question fail, and what is no URL is no origin of ours."""
    headers = {"origin": origin} | ({} if site is None else {"sec-fetch-site": site})

    assert bearer.same_origin(headers, host) in (True, False)


@any_of
@given(text=ANY_TEXT | st.tuples(NUMBERS, NUMBERS).map("-".join))
def test_an_event_id_is_exactly_what_it_was_read_from(text: str) -> None:
    """No second spelling of a position, and no number that Redis cannot hold."""
    found = refuses(ValueError, lambda: EventId.parse(text))

    assert found is None or (text == str(found) and max(found) <= MAX_PART)


@any_of
@given(
    text=ANY_TEXT
    | st.binary(max_size=40).map(lambda data: data.decode("latin-1"))
    | st.text("MTIzLmpvYg-_=", max_size=30)
)
def test_a_cursor_is_one_of_ours_or_refused(text: str) -> None:
    """Nobody can make one that this server would not have given."""
    found = refuses(InvalidInput, lambda: listing.place_of(text))

    assert found is None or text == listing.cursor_of(found)


@any_of
@given(text=ANY_TEXT)
def test_any_condition_can_be_compared(text: str) -> None:
    """`If-None-Match` is a list of what anybody likes."""
    assert etags.match(text, etags.of(b"{}")) in (True, False)


def asked(body: bytes, content_type: str, cuts: list[int]) -> Request:
    """A request whose body comes in pieces."""
    places = sorted({place % (len(body) + 1) for place in cuts} | {0, len(body)})
    pieces = [body[start:end] for start, end in itertools.pairwise(places)] or [b""]

    async def receive() -> Message:
        piece = pieces.pop(0) if pieces else b""
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    headers = [(b"content-type", content_type.encode("latin-1", "replace"))]
    return Request(
        {"type": "http", "method": "POST", "path": "/jobs", "headers": headers, "query_string": b""}, receive
    )


#: What a form is made of, and what breaks one.
PIECES = st.sampled_from([
    b"--b", b"--b--", b"\r\n", b"\n", b"\r", b"\0", b":", b";", b'"', b"\\", b"=", b"--", b"b", b"x" * 3_000,
    b"Content-Disposition: form-data", b'; name="actor"', b'; name="title"', b'; filename="../../x"', b'; filename*=UTF-8\'\'%ff',
    b'; filename="', b"; filename=\r\n ", b"Content-Disposition: attachment", b"Content-Type: text/csv", b"Content-Type: \xff/\xfe",
    b"Content-Transfer-Encoding: base64", b"Content-Type: multipart/mixed; boundary=c", b"\xff\xfe", b"personalize",
])  # fmt: skip
A_PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\nx\r\n'
FORM_TYPES = st.sampled_from(
    ["multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="',
     "multipart/form-data; boundary=b; boundary=c", "multipart/form-data; charset=utf-16; boundary=b",
     "multipart/form-data; charset=none; boundary=b", "multipart/form-data; boundary=\xff"]
)  # fmt: skip


@any_of
@given(
    pieces=st.lists(PIECES, max_size=30), kind=FORM_TYPES, cuts=st.lists(st.integers(0, 10_000), max_size=4)
)
@example(
    pieces=[A_PART % b"n%d" * 1 % n for n in range(2_000)], kind="multipart/form-data; boundary=b", cuts=[]
)
@example(pieces=[b"--b\r\n", b"X: y\r\n" * 5_000], kind="multipart/form-data; boundary=b", cuts=[7])
@example(pieces=[b"--b\r\n" * 5_000], kind="multipart/form-data; boundary=b", cuts=[])
def test_any_form_is_read_or_refused(pieces: list[bytes], kind: str, cuts: list[int]) -> None:
    """Whatever the order of its pieces, and wherever the network cuts it."""
    request = asked(b"".join(pieces), kind, cuts)
    form = refuses(
        (InvalidInput, TooLarge, HTTPException), lambda: asyncio.run(forms.read(request, SETTINGS))
    )

    if form is not None and form.file is not None:
        form.file.file.close()


@any_of
@given(body=JSON_BYTES, cuts=st.lists(st.integers(0, 10_000), max_size=3))
def test_any_body_is_an_object_or_refused(body: bytes, cuts: list[int]) -> None:
    """Also one that is nested without end, or holds a number that is none."""
    request = asked(body, "application/json", cuts)
    read = refuses(
        (InvalidInput, TooLarge, HTTPException), lambda: asyncio.run(limits.json_object(request, 20_000))
    )

    assert read is None or isinstance(read, dict)


# -- what lies in a Redis that somebody else wrote to


@any_of
@given(data=JSON_BYTES)
def test_what_is_read_can_be_written(data: bytes) -> None:
    """`json` reads NaN, infinities, half characters and any depth; what it could not write is refused where it is read."""
    try:
        value = events.decode_any(data)
    except ValueError:
        return
    written = events.encode_any({"state": [value]})

    assert {"state": [value]} == json.loads(written)


@any_of
@given(record=JSON_BYTES)
def test_records_of_people_open_for_nobody_else(record: bytes) -> None:
    """Tickets and sessions: refused, with the one error that is 401."""
    assert refuses(NotAuthenticated, lambda: tickets.open_record(record, 0.0)) is None
    assert refuses(NotAuthenticated, lambda: sessions.open_record(record, "key", 0.0)) is None
    assert sessions.is_over(record, 0.0) in (True, False)


@any_of
@given(text=JSON_BYTES, name=JSON, schema=JSON)
def test_an_announcement_can_be_shown_or_is_none(text: bytes, name: Any, schema: Any) -> None:
    """Of workers; a program that writes something else there is not announced."""
    made = json.dumps({"name": name, "queue": "default", "schema": {"properties": schema}}).encode()
    for announcement in (text, made):
        found = refuses(ValueError, lambda announcement=announcement: Announced.parse(announcement))

        assert found is None or (isinstance(found.name, str) and isinstance(found.files, tuple))
        assert len(queues._places({"actor": announcement})) <= 1


@any_of
@given(data=JSON_BYTES)
def test_arguments_and_traces_are_ours_or_none(data: bytes) -> None:
    """A retry calls with what it finds; a stream links to what it finds."""
    assert refuses(ValueError, lambda: jobs.unpack_arguments(data)) is None
    assert all(isinstance(text, str) for text in tracing.unpack(data).values())


@any_of
@given(
    ref=st.dictionaries(st.sampled_from(["key", "name", "media_type", "size"]), JSON)
    | st.dictionaries(ANY_TEXT, JSON, max_size=3)
)
@example(ref={"key": f"job/{'a' * 32}", "name": "x", "media_type": "text/csv\r\nSet-Cookie: a=b", "size": 1})
@example(ref={"key": f"../{'a' * 32}", "name": "x", "media_type": "text/csv", "size": 1})
@example(ref={"key": f"job/{'a' * 32}", "name": "x\r\nSet-Cookie: a=b", "media_type": "text/csv", "size": 1})
def test_a_reference_to_a_file_never_leads_elsewhere_or_into_a_header(ref: dict[str, Any]) -> None:
    """What is handed out of it is a key of ours, a name and a media type of one line."""
    assert refuses(InvalidInput, lambda: Files.checked(ref)) is None


LINES = st.lists(
    st.sampled_from([b"progress", b"{}", b'{"a":1}', b"1-1", b"9-" + b"9" * 30, b"\r", b"", b"removed"])
    | st.binary(max_size=9),
    max_size=6,
).map(b"\n".join)


@any_of
@given(payload=LINES | st.binary(max_size=60))
@example(payload=b"9" * 5_000 + b"-1\nprogress\n{}")
@example(payload=b"1-" + b"9" * 5_000)
@example(payload=b"18446744073709551615-18446744073709551615\nprogress\n{}\nprogress\n{}")
def test_a_message_on_a_jobs_channel_is_frames_or_nothing(payload: bytes) -> None:
    """Every id of it is one that Redis can hold, and no frame of it begins another."""
    message = messages.events_of(payload)
    if message is None:
        return
    topic = Topic("job")
    topic.hear(*message)

    assert topic.last is None or max(topic.last) <= MAX_PART
    assert all(frame == b"" or 3 == frame.count(b"\n") - 1 for frame in topic.frames)


@any_of
@given(payload=LINES | st.binary(max_size=60))
@example(payload=b"9" * 5_000 + b"\njob")
@example(payload=b"1\njob\n" + b"9" * 300)
def test_a_word_on_an_owners_channel_is_a_change_or_nothing(payload: bytes) -> None:
    """A time that no clock reaches would be the newest that lists ever hear of."""
    change = messages.change_of(payload)

    assert change is None or (events.is_job_id(change[0]) and change[1] < 10**14 and change[2] < 10**12)


STATE = jobs.new(Header("job", "personalize", owner="alice", created_at=NOW_MS))
CONTROL = [NOW_MS, 3, 1, "nonce", 3, "running", "a" * 40, NOW_MS, 1]
SPREAD = {**dict.fromkeys(jobs.PARTS, 1), "sealed": 1, "released": 0, "after": ""}
#: As `read.lua` gives them: control, tombstone, state, seen_at, stalled_at, cancel_at, end, file, confirmed, fingerprint, spread.
WHOLE: list[bytes | None] = [
    events.encode_any(CONTROL), None, jobs.pack(STATE), b"1800000000000", None, None, None, None, b"1", b"", events.encode(SPREAD),
]  # fmt: skip


def changed(known: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """One of its members is another."""
    return st.tuples(st.sampled_from(sorted(known)), JSON).map(
        lambda pair: json.dumps({**known, pair[0]: pair[1]}).encode()
    )


FIELD = st.one_of(
    JSON_BYTES,
    changed({"v": 1, **STATE}),
    changed(SPREAD),
    changed({"at": events.text_of(NOW_MS), "error": None}),
    st.tuples(st.integers(0, 8), JSON).map(
        lambda pair: json.dumps([*CONTROL[: pair[0]], pair[1], *CONTROL[pair[0] + 1 :]]).encode()
    ),
)


def looked(fields: list[bytes | None]) -> Look:
    reply = [b"master", b"a" * 40, fields, [[b"1-1", [b"t", b"progress", b"d", b"{}"]]], NOW_MS]
    return COMMANDS.look("job").read(reply)


def test_what_we_write_is_no_foreign_thing() -> None:
    """Else nothing below would prove anything."""
    assert looked(WHOLE).record is not None


@examples(max_examples=100, deadline=None)
@given(place=st.integers(0, 10), field=FIELD, also=st.integers(0, 10), other=st.none() | FIELD)
@example(place=3, field=b"9" * 20, also=3, other=None)
@example(place=2, field=b'{"v":1,"id":"j","actor":"a","created_at":"0001-01-01"}', also=3, other=None)
@example(
    place=2,
    field=b'{"v":1,"id":"j","actor":"a","created_at":"2026-01-01T00:00:00Z","rate":1e999}',
    also=3,
    other=None,
)
def test_a_job_that_somebody_else_wrote_is_one_or_is_none(
    place: int, field: bytes, also: int, other: bytes | None
) -> None:
    """What is taken for a job can be shown, listed and swept; all else is foreign, and no decoder raises."""
    fields = list(WHOLE)
    fields[place] = field
    fields[also] = fields[also] if other is None else other
    look = looked(fields)

    assert look.foreign == (look.record is None)
    if look.record is not None:
        events.encode(jobs.view(look.record))
        events.encode({"hint": listed(look.record.packed)})
        verdicts.verdict(look.record, NOW_MS, verdicts.Limits(15_000, 3_600_000))
        verdicts.seconds_until_due(look.record, NOW_MS)


@pytest.mark.parametrize("score", ["inf", "-inf", "-5", "1e300", "nan"])
def test_a_hint_with_any_score_keeps_its_place(score: str) -> None:
    """Sorted sets hold what no clock shows."""
    read = COMMANDS.lists.page("alice", None, None, None, 2).read

    assert [(0, "a\ufffd"), (7, "b")] == read([b"a\xff", score.encode(), b"b", b"7"])
