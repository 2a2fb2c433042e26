"""What a bare EventSource does in both browsers with what a server may send (WHATWG HTML §9.2): facts that our answers stand on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from progress_stream import events
from progress_stream.api.app import create_app
from progress_stream.frames import sse
from progress_stream.settings import load
from tests.browser.following import FOLLOW, AnyContext, AnyPage, eventually, until
from tests.foreign.strings import HOSTILE
from tests.foreign.test_parser import CASES
from tests.support.answers import Answer, Answers
from tests.support.proxy import Proxy
from tests.support.server import SECRET, Site, serving

#: All events of a stream until it ends or is refused: its type, data and id of each, and whether the browser would come back.
READ = """({ paths, types }) => Promise.all(paths.map((path) => new Promise((resolve) => {
  const seen = [];
  const source = new EventSource(path);
  for (const type of types) source.addEventListener(type, (event) => seen.push([event.type, event.data, event.lastEventId]));
  source.onerror = () => {
    resolve({ seen, again: source.readyState !== EventSource.CLOSED });
    source.close();
  };
})))"""
#: Goes on until the server says 204.
FOLLOW_TO_THE_END = """({ path, credentials = false, types = ["message"] }) => new Promise((resolve) => {
  const seen = [];
  const source = (window.source = new EventSource(path, { withCredentials: credentials }));
  for (const type of types) source.addEventListener(type, (event) => seen.push(event.lastEventId));
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(seen); };
})"""
#: Browsers draw 3 s (Chromium) and 5 s (Firefox) where no `retry` told them otherwise.
LEAST_DEFAULT_SECONDS = 2.5
#: What Firefox reads otherwise: it takes no id from a frame without data, and drops the event whose id has NUL in it. Frames of
#: ours have data wherever they have an id, and ids have no NUL.
ELSEWHERE = {
    "no data, no event": [["message", "b", ""]],
    "an id with NUL is ignored": [["message", "a", "1"]],
}
RETRY = b"retry: 20\n\n"


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Answers() as answers:
        yield answers


@pytest.fixture
def page(either: AnyContext, answers: Answers) -> AnyPage:
    page = either.new_page()
    page.goto(f"{answers.url}/")
    return page


def read(page: AnyPage, *paths: str, types: list[str] | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(READ, {"paths": paths, "types": types or ["message"]})
    return found


def test_each_case_of_the_standard_is_read_as_our_parser_reads_it(page: AnyPage, answers: Answers) -> None:
    """BOM, CR, LF, CRLF, ids with NUL, names, comments, broken UTF-8, and what has no blank line at its end."""
    for number, (_, stream, _) in enumerate(CASES):
        answers.prepare(f"/{number}", Answer(stream))
    types = sorted({frame.event for _, _, frames in CASES for frame in frames} | {"message"})
    found = read(page, *(f"/{number}" for number in range(len(CASES))), types=types)

    for (name, _, frames), got in zip(CASES, found, strict=True):
        as_ours = [[frame.event, frame.data, frame.id] for frame in frames]
        assert got["seen"] in (as_ours, ELSEWHERE.get(name)), name
        assert got["again"], name


def test_hostile_strings_come_through_as_they_were(page: AnyPage, answers: Answers) -> None:
    """Framed by us, taken by a browser; JSON before and after."""
    frames = [sse.encode(event="line", data=events.encode({"text": text}), id="1-1") for text in HOSTILE]
    answers.prepare("/hostile", Answer(b"".join(frames)))
    (found,) = read(page, "/hostile", types=["line"])

    assert list(HOSTILE) == [events.decode(data.encode())["text"] for _, data, _ in found["seen"]]


def test_a_browser_comes_back_with_the_last_id_of_a_whole_frame(page: AnyPage, answers: Answers) -> None:
    """Not with one that has NUL in it, nor that of a frame that was cut; an empty one is none."""
    path = answers.prepare(
        "/ids",
        Answer(RETRY + b"id: 1-1\ndata: a\n\n"),
        Answer(RETRY + b"id: 1-2\0\ndata: b\n\n"),
        Answer(RETRY + b"id: 1-3\ndata: c\n"),
        Answer(RETRY + "id: ä😀\ndata: d\n\n".encode()),
        Answer(RETRY + b"id\ndata: e\n\n"),
    )
    seen = page.evaluate(FOLLOW_TO_THE_END, {"path": path})
    positions = [asked.position for asked in answers.asked(path)]

    # Firefox drops the event whose id has NUL in it; that of the cut frame nobody may hand on.
    assert ["1-1", "ä😀", ""] == list(dict.fromkeys(seen))
    assert [None, "1-1", "1-1", "1-1", "ä😀".encode().decode("latin-1")] == positions[:5]
    assert positions[5] in (None, "")


def test_retry_is_how_long_a_browser_waits_and_what_is_no_number_is_not(
    page: AnyPage, answers: Answers
) -> None:
    """Milliseconds. A later `retry` that is none leaves the earlier one as it is."""
    path = answers.prepare(
        "/retry",
        Answer(b"retry: 700\n\n"), Answer(b"retry: 1e9\nretry: -1\nretry: 90000 \nretry: x\n\n"), Answer(b"retry: 1600\n\n"),
    )  # fmt: skip
    page.evaluate(FOLLOW_TO_THE_END, {"path": path})
    times = [asked.at for asked in answers.asked(path)]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]

    assert 3 == len(waits)
    assert all(0.6 < wait < LEAST_DEFAULT_SECONDS for wait in waits)
    assert 1.5 < waits[2]


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(status=204, headers={}),
        Answer(status=404),
        Answer(status=502, headers={"Content-Type": "text/html"}, body=b"<h1>Bad Gateway</h1>"),
        Answer(status=503),
        Answer(headers={"Content-Type": "application/json"}, body=b"{}"),
        Answer(headers={"Content-Type": "text/html"}, body=b"data: a\n\n"),
    ],
    ids=["204", "404", "502 with HTML", "503", "JSON", "HTML"],
)
def test_what_is_no_stream_ends_it_for_good(page: AnyPage, answers: Answers, refusal: Answer) -> None:
    """Why an end is a 204, why a full server still answers 200, and why our client is no EventSource."""
    path = answers.prepare("/refused", Answer(RETRY + b"data: a\n\n"), refusal, Answer(b"data: b\n\n"))

    assert [""] == page.evaluate(FOLLOW_TO_THE_END, {"path": path})
    assert 2 == len(answers.asked(path))


@pytest.mark.parametrize(
    "media_type", ["text/event-stream;charset=utf-8", "TEXT/EVENT-STREAM", "text/event-stream; a=b"]
)
def test_a_media_type_may_have_parameters(page: AnyPage, answers: Answers, media_type: str) -> None:
    path = answers.prepare("/typed", Answer(b"data: a\n\n", headers={"Content-Type": media_type}))

    assert [{"seen": [["message", "a", ""]], "again": True}] == read(page, path)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_to_the_stream(page: AnyPage, answers: Answers, status: int) -> None:
    """By a gateway that moved us: we send none. Whichever address the browser asks next, it brings its position."""
    to = answers.prepare("/moved", Answer(RETRY + b"id: 1-1\ndata: a\n\n"))
    path = answers.prepare("/first", Answer(status=status, headers={"Location": to}))

    assert ["1-1"] == page.evaluate(FOLLOW_TO_THE_END, {"path": path})
    assert [None, None, "1-1"] == sorted(
        (asked.position for asked in answers.asked(path) + answers.asked(to)), key=str, reverse=True
    )


class TestAnotherOrigin:
    """A page that lies elsewhere, at our server behind a proxy that cuts."""

    @pytest.fixture
    def site(
        self,
        redis_url: str,
        broker_url: str,
        namespace: str,
        tmp_path: Path,
        redis_client: Any,
        answers: Answers,
    ) -> Iterator[Site]:
        settings = load(
            redis_url=redis_url, broker_url=broker_url, namespace=namespace, data=tmp_path, jwt_secret=SecretStr(SECRET),
            heartbeat_seconds=1, ready_seconds=0, drain_seconds=0, cors_origins=(answers.url,),
        )  # fmt: skip
        with serving(create_app(settings), settings) as url:
            yield Site(url, settings, redis_client)

    @pytest.fixture
    def way(self, site: Site) -> Iterator[Proxy]:
        with Proxy(site.url) as between:
            yield between

    @pytest.mark.parametrize("credentials", [False, True])
    def test_an_eventsource_with_a_ticket_resumes(
        self, page: AnyPage, site: Site, way: Proxy, *, credentials: bool
    ) -> None:
        """Its `Last-Event-ID` needs no preflight; with credentials the origin must be named, not `*`."""
        job = site.job()
        job.start()
        with site.client() as client:
            ticket = client.post("/tickets", json={"jobs": ["job-1"]}).json()["token"]
        page.evaluate(
            f"(given) => {{ ({FOLLOW_TO_THE_END})(given).then((ids) => {{ window.ids = ids; }}); }}",
            {
                "path": f"{way.url}/jobs/job-1/events?token={ticket}", "credentials": credentials,
                "types": ["queued", "started", "line", "succeeded"],
            },
        )  # fmt: skip
        # A first connection that is cut before its answer came is no reconnect: Firefox may not come back from it.
        until(page, "window.source?.readyState === EventSource.OPEN")
        job.append(count=3)
        way.cut()
        job.append(count=3)
        eventually(lambda: len(way.streams()) == 2)
        job.succeed()
        until(page, "window.ids")

        assert list(range(1, 10)) == [events.EventId.parse(id).n for id in page.evaluate("window.ids")]

    def test_fetch_with_a_header_resumes(self, page: AnyPage, site: Site, way: Proxy) -> None:
        """`Authorization` and `Last-Event-ID` ask first, by a preflight."""
        job = site.job()
        job.start()
        base = FOLLOW.replace('"/assets', f'"{way.url}/assets').replace(
            'new URL("/", location.href)', f'"{way.url}/"'
        )
        page.evaluate(base, {"job": "job-1", "token": site.token()})
        until(page, "window.seen.statuses.at(-1) === 'live'")
        job.append(count=3)
        way.cut()
        job.append(count=3)
        job.succeed()
        until(page, "window.seen.statuses.at(-1) === 'ended'")

        assert list(range(1, 10)) == page.evaluate("window.seen.numbers")
        assert any(line.startswith("OPTIONS ") for line in way.asked)

    def test_a_page_that_is_not_named_gets_nothing(self, page: AnyPage, site: Site, answers: Answers) -> None:
        """Its browser is not let read the answer, and does not come back."""
        site.job()
        with site.client() as client:
            ticket = client.post("/tickets", json={"jobs": ["job-1"]}).json()["token"]
        with Answers() as stranger:
            page.goto(f"{stranger.url}/")
            found = read(page, f"{site.url}/jobs/job-1/events?token={ticket}", types=["queued"])

        assert [{"seen": [], "again": False}] == found
