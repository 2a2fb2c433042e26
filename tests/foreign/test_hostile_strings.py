"""Any string in any field: what a foreign client reads is what the actor said, or the actor is told what is wrong with it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import httpx_sse
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from progress_stream import events, report
from progress_stream.errors import InvalidEvent, InvalidInput
from progress_stream.frames import sse
from progress_stream.reporting.job import Job
from progress_stream.settings import Settings
from tests.foreign.parsers import NodeParser, Seen, cut, httpx_sse_read
from tests.foreign.strings import ANY_TEXT, HOSTILE, LONE_SURROGATES, LONG, TEXT
from tests.support.server import PATIENCE_SECONDS, Site
from tests.worker.conftest import Stack

ONCE = [HealthCheck.function_scoped_fixture]
AT = "2026-01-01T00:00:00.000Z"


# -- without Redis and HTTP


@examples(max_examples=300, deadline=None, suppress_health_check=ONCE)
@given(
    texts=st.lists(st.tuples(TEXT, st.dictionaries(TEXT, TEXT, max_size=3)), min_size=1, max_size=4),
    places=st.lists(st.integers(0, 10**6), max_size=20),
)
def test_any_text_comes_out_of_both_parsers_as_it_went_in(
    node: NodeParser, texts: list[tuple[str, dict[str, str]]], places: list[int]
) -> None:
    """As a message and as keys and values of an own event, whatever the cuts between the bytes."""
    said = [events.make("j", "own", at=AT, attempt=1, message=text, data=data) for text, data in texts]
    stream = b"".join(
        sse.stored(b"1-%d" % n, b"own", events.encode(event)) + sse.comment()
        for n, event in enumerate(said, 1)
    )
    chunks = cut(stream, places)
    seen = node.read(chunks).events

    assert httpx_sse_read(chunks) == seen
    assert [f"1-{n}" for n in range(1, len(said) + 1)] == [event.id for event in seen]
    assert said == [json.loads(event.data) for event in seen]


@examples(max_examples=300, deadline=None)
@given(text=ANY_TEXT)
def test_only_what_utf8_cannot_hold_is_refused(text: str) -> None:
    """Never replaced, never cut: the error says where the fault is."""
    surrogates = any("\ud800" <= character <= "\udfff" for character in text)
    try:
        data = events.encode(events.make("j", "own", at=AT, data=[text]))
    except InvalidEvent as error:
        assert surrogates
        assert "lone surrogate" in str(error)
    else:
        assert not surrogates
        assert [text] == json.loads(data)["data"]
        assert 1 == len(data.decode().splitlines())


@pytest.mark.parametrize("bad", ["\n", "\r", "\r\n", "\0"], ids=["LF", "CR", "CRLF", "NUL"])
@pytest.mark.parametrize("around", ["{}", "a{}b", "a{}id: 9-9", "{}{}"])
def test_no_field_of_a_frame_lets_another_field_in(bad: str, around: str) -> None:
    """Refused, not repaired: whoever framed it has a fault that should be seen."""
    text = around.replace("{}", bad)
    tries: list[Callable[[], bytes]] = [
        lambda: sse.encode(event=text, data=b"{}"),
        lambda: sse.encode(id=text, data=b"{}"),
        lambda: sse.encode(data=text.encode()),
        lambda: sse.encode(retry=text, data=b"{}"),  # type: ignore[arg-type]
        lambda: sse.comment(text),
    ]
    for encode in tries:
        with pytest.raises(InvalidInput):
            encode()


@pytest.mark.parametrize("retry", [-1, 1.5, True, "5", float("nan")])
def test_a_retry_is_a_whole_number(retry: Any) -> None:
    """Clients ignore all else, and would come back at a pace of their own."""
    with pytest.raises(InvalidInput, match="retry"):
        sse.encode(retry=retry, data=b"{}")


@examples(max_examples=200, deadline=None, suppress_health_check=ONCE)
@given(event=ANY_TEXT, id=ANY_TEXT, data=ANY_TEXT, retry=st.integers(0, 10**9))
def test_what_a_frame_takes_both_parsers_give_back(
    node: NodeParser, event: str, id: str, data: str, retry: int
) -> None:
    """Field by field, where it is not refused."""
    try:
        frame = sse.encode(event=event, id=id, data=data.encode("utf-8", "surrogatepass"), retry=retry)
    except InvalidInput:
        assert set(event + id + data) & set("\n\r\0") or not _is_utf8(event + id)
        return
    if not _is_utf8(data):
        return
    expected = [Seen(id, event or "message", data)]
    reading = node.read([frame])

    assert (expected, [retry]) == (reading.events, reading.retries)
    if data or event:
        assert expected == httpx_sse_read([frame])


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


# -- the real way: reporter, Redis, server, socket


class Watch:
    """A watcher's raw bytes, from the first one on, live."""

    def __init__(self, site: Site, job: str) -> None:
        self._site = site
        self._job = job
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.body = b""

    def _read(self) -> None:
        client = self._site.client()
        with client, client.stream("GET", f"/jobs/{self._job}/events") as response:
            for chunk in response.iter_raw():
                self.body += chunk
                self._opened.set()

    def open(self) -> None:
        self._thread.start()
        assert self._opened.wait(PATIENCE_SECONDS)

    def ended(self) -> bytes:
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "the stream did not end"
        return self.body


@contextmanager
def watched(site: Site, settings: Settings, **said: Any) -> Iterator[tuple[Job, Watch]]:
    """A job of this process with somebody who watches it from before its first event."""
    with report("hostile", owner="alice", settings=settings, **said) as job:
        watch = Watch(site, job.id)
        watch.open()
        yield job, watch


def replayed(site: Site, job: str) -> list[Seen]:
    """The whole stream once more, as httpx-sse reads it from the socket."""
    with (
        site.client() as client,
        httpx_sse.connect_sse(client, "GET", f"/jobs/{job}/events") as source,
    ):
        return [Seen(event.id, event.event, event.data) for event in source.iter_sse()]


def bodies(node: NodeParser, site: Site, job: str, watch: Watch) -> list[dict[str, Any]]:
    """What all foreign readers agree on: live bytes cut anew by npm's parser, the replay by httpx-sse."""
    random = Random(job)
    body = watch.ended()
    live = node.read(cut(body, [random.randrange(len(body)) for _ in range(200)])).events
    again = replayed(site, job)

    assert live[1:] == again[1:]
    ids = [events.EventId.parse(event.id or "").n for event in live[1:]]
    assert list(range(1, len(ids) + 1)) == ids
    read = [json.loads(event.data) for event in live[1:]]
    assert [event.event for event in live[1:]] == [body["type"] for body in read]
    return read


def of_type(read: list[dict[str, Any]], type: str) -> list[dict[str, Any]]:
    return [body for body in read if body["type"] == type]


def test_own_data_and_log_lines_arrive_as_they_were_said(
    node: NodeParser, each_site: Site, settings: Settings
) -> None:
    """As keys and values, as long as an event may be."""
    texts = [*HOSTILE.values(), *LONG.values()]
    with watched(each_site, settings) as (job, watch):
        for text in texts:
            job.event("own", text)
            job.log(text)
        for text in HOSTILE.values():
            job.event("keyed", {text: [text, {text: text}]})
    read = bodies(node, each_site, job.id, watch)

    assert texts == [body["data"] for body in of_type(read, "own")]
    assert texts == [body["message"] for body in of_type(read, "log")]
    assert [{text: [text, {text: text}]} for text in HOSTILE.values()] == [
        body["data"] for body in of_type(read, "keyed")
    ]


def test_the_bar_s_words_and_steps_arrive_as_they_were_said(
    node: NodeParser, each_site: Site, settings: Settings
) -> None:
    """`message` and `unit` of a bar, names of steps; in the events and in the state. Empty words say nothing."""
    texts = [text for text in HOSTILE.values() if text]
    with watched(each_site, settings) as (job, watch):
        for done, text in enumerate([*texts, *LONG.values()]):
            job.update(done=done, message=text, unit="rows")
            with job.step("next"):  # what was said of the bar leaves before a step
                pass
        for text in texts:
            job.update(unit=text, message="unit")
            with job.step(text):
                pass
        state = each_site.client().get(f"/jobs/{job.id}").json()
    read = bodies(node, each_site, job.id, watch)
    bar = of_type(read, "progress")

    assert [*texts, *LONG.values()] == [body["message"] for body in bar if body["message"] != "unit"]
    assert texts == [body["unit"] for body in bar if body["message"] == "unit"]
    started = [body["name"] for body in of_type(read, "step") if body["state"] == "started"]
    assert texts == [name for name in started if name != "next"]
    assert {"state", "steps", "message", "unit"} <= state.keys()


def test_an_end_s_words_arrive_as_they_were_said(
    node: NodeParser, each_site: Site, settings: Settings, broker_url: str
) -> None:
    """An actor's result and its error's message, by a real worker; and in the state of the job."""
    stack = Stack(settings, broker_url)

    @stack.actor(actor_name="returns", owner="alice")
    def returns(text: str) -> Any:
        return {text: [text]}

    @stack.actor(actor_name="fails", owner="alice")
    def fails(text: str) -> None:
        raise ValueError(text)

    sent = [(text, returns.send(text), fails.send(text)) for text in HOSTILE.values()]
    stack.work()
    try:
        for text, returned, failed in sent:
            assert {text: [text]} == ended(node, each_site, stack, returned.message_id)["result"]
            error = ended(node, each_site, stack, failed.message_id)["error"]
            assert {"type": "ValueError", "message": text} == error
    finally:
        stack.stop()


def ended(node: NodeParser, site: Site, stack: Stack, job: str) -> dict[str, Any]:
    """The terminal event as both parsers read it from the socket, the state agreeing."""
    stack.ended(job)
    with site.client() as client, client.stream("GET", f"/jobs/{job}/events") as response:
        body = b"".join(response.iter_raw())
        state = client.get(f"/jobs/{job}").json()
    random = Random(job)
    seen = node.read(cut(body, [random.randrange(len(body)) for _ in range(50)])).events
    last: dict[str, Any] = json.loads(seen[-1].data)

    assert httpx_sse_read([body])[-1] == seen[-1]
    assert (last.get("result"), last.get("error")) == (state["result"], state["error"])
    return last


def test_a_title_arrives_as_it_was_said_or_is_refused(
    node: NodeParser, each_site: Site, settings: Settings
) -> None:
    """In the snapshot and in the state; refused, before the job exists, where a person could not read it."""
    arrived = 0
    for text in HOSTILE.values():
        if text and (set(text) & set("\n\r\0\x85\u2028\u2029\x1b\ufeff\u202e\uffff\U0010ffff")):
            with pytest.raises(InvalidInput, match="title"), report("t", title=text, settings=settings):
                pytest.fail("it began")
            continue
        with report("t", owner="alice", title=text, settings=settings) as job:
            pass
        arrived += 1
        with each_site.client() as client:
            stream = client.get(f"/jobs/{job.id}/events?replay=snapshot").content
            state = client.get(f"/jobs/{job.id}").json()
        snapshot = node.read([stream]).events[1]

        assert httpx_sse_read([stream])[1] == snapshot
        assert (text, text) == (json.loads(snapshot.data)["state"]["title"], state["title"])
    assert arrived > 10


# -- refused at the actor


@contextmanager
def reporting(settings: Settings) -> Iterator[Job]:
    with report("refused", owner="alice", settings=settings) as job:
        yield job


SAYINGS: dict[str, Callable[[Job, str], object]] = {
    "own data": lambda job, text: job.event("own", text),
    "a key of own data": lambda job, text: job.event("own", {text: 1}),
    "log": lambda job, text: job.log(text),
    "message": lambda job, text: job.update(message=text),
    "unit": lambda job, text: job.update(unit=text),
    "step": lambda job, text: job.step(text).__enter__(),
}


@pytest.mark.parametrize("say", SAYINGS.values(), ids=SAYINGS.keys())
def test_a_lone_surrogate_is_refused_where_it_is_said(
    each_site: Site, settings: Settings, say: Callable[[Job, str], object]
) -> None:
    """The error names it; the job goes on and ends as if it had not been said."""
    with reporting(settings) as job:
        for text in LONE_SURROGATES.values():
            with pytest.raises(InvalidEvent, match="lone surrogate"):
                say(job, text)
        job.log("after")
    seen = [json.loads(event.data) for event in replayed(each_site, job.id)[1:]]

    assert ["queued", "started", "log", "succeeded"] == [body["type"] for body in seen]


@pytest.mark.parametrize("say", SAYINGS.values(), ids=SAYINGS.keys())
def test_too_large_is_refused_where_it_is_said(settings: Settings, say: Callable[[Job, str], object]) -> None:
    """With the size and the limit in the error (a step's name has a bound of its own)."""
    with reporting(settings) as job, pytest.raises(InvalidEvent, match=r"65536 \(EVENT_BYTES\)|1 to 200"):
        say(job, "x" * 65_536)


@pytest.mark.parametrize(
    "name", [*HOSTILE.values(), *LONE_SURROGATES.values(), "x" * 65, "Own", "own\n", "succeeded"]
)
def test_a_type_that_is_no_name_is_refused(settings: Settings, name: str) -> None:
    """Nothing but the contract's letters reaches an `event:` line."""
    with reporting(settings) as job, pytest.raises(InvalidEvent, match="type"):
        job.event(name, {})


@pytest.mark.parametrize("field", ["title", "owner"])
@pytest.mark.parametrize("text", LONE_SURROGATES.values(), ids=LONE_SURROGATES.keys())
def test_a_job_is_not_begun_with_what_cannot_be_stored(settings: Settings, field: str, text: str) -> None:
    """The caller is told, instead of a job that nobody can see."""
    with pytest.raises(InvalidInput, match=field), report("refused", settings=settings, **{field: text}):
        pytest.fail("it began")


def test_words_of_an_error_that_cannot_be_stored_do_not_hide_the_error(
    each_site: Site, settings: Settings
) -> None:
    """An exception cannot be refused: its message is told as far as UTF-8 can hold it, and at most 2,000 characters."""
    for said, told in (("a\ud800b", "a?b"), ("x" * 65_536, "x" * 2_000)):
        with pytest.raises(ValueError, match=r"^[ax]"), reporting(settings) as job:
            raise ValueError(said)
        last = json.loads(replayed(each_site, job.id)[-1].data)

        assert {"type": "ValueError", "message": told} == last["error"]


# -- written by others


BREAKING: dict[str, tuple[str, bytes]] = {
    "a line break in the type": ("own\nid: 9-9", b'{"n":1}'),
    "CR in the type": ("own\rdata: {}\r\r", b'{"n":1}'),
    "a line break in the data": ("own", b'{"n":1}\n\nevent: succeeded\ndata: {}\n'),
    "CRLF in the data": ("own", b'{"n":\r\n1}'),
    "no type": ("", b'{"n":1}'),
}


@pytest.mark.parametrize("entry", BREAKING.values(), ids=BREAKING.keys())
def test_an_entry_that_would_break_the_framing_is_left_out(
    node: NodeParser, each_site: Site, entry: tuple[str, bytes]
) -> None:
    """Whoever wrote it into Redis past our checks: live and from the stream, its neighbours arrive and nothing else does."""
    attempt = each_site.job()
    attempt.start()
    watch = Watch(each_site, attempt.job)
    watch.open()
    append = attempt.store.commands.append
    for batch in ([("own", b'{"n":0}')], [entry], [("own", b'{"n":2}'), entry, ("own", b'{"n":4}')]):
        attempt.store.send(
            append(attempt.job, attempt.attempt, attempt.nonce, attempt.sequence + 1, batch, attempt.state)
        )
        attempt.sequence += len(batch)
    attempt.succeed()
    live = node.read([watch.ended()]).events[1:]
    again = replayed(each_site, attempt.job)[1:]

    assert ["queued", "started", "own", "own", "own", "succeeded"] == [event.event for event in live]
    assert [1, 2, 3, 5, 7, 8] == [events.EventId.parse(event.id or "").n for event in live]
    assert live == again
