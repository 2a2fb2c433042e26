"""Hostile words in every field of a job, in every output: each is one value there, and nothing else.

That foreign stream parsers read them back as they were said is in tests/foreign; cells of a CSV in tests/unit/workers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from progress_stream.errors import InvalidInput
from progress_stream.jobs import Header
from tests.cli.processes import in_a_terminal, run
from tests.contract.test_list import MOMENT_MS, move
from tests.contract.test_list_stream import look, states
from tests.support.server import Attempt, Site
from tests.support.streams import Stream, follow_to_end

WORDS = {
    "an event": "x\r\n\r\nevent: succeeded\r\ndata: {\"result\":\"forged\"}\r\nid: 9-9\r\n\r\n",
    "data": "x\n\ndata: forged\n\n",
    "CR alone": "x\rdata: forged\r\rid: 9-9\r",
    "NUL": "x\0\nid: 9-9\0\n",
    "other line ends": "x\u2028data: forged\u2029\u2029\x85data: forged\x85\x0b\x0c\x1c\x1d\x1e",
    "a line of JSON": '"}\n{"id":"9-9","type":"succeeded","result":"forged"}\n{"a":"',
    "a chunk": "\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    "a script": "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1><svg onload=window.hacked=1>{{7*7}}",
    "a terminal": "\x1b]0;forged\x07\x1b[2J\x1b[31mred\x9b31m\x9d0;t\x9c\x1bP+q\x1b\\\u202egnp\u202c\x08\x08\x7f",
    "a formula": "=cmd|'/c calc'!A0\t@SUM(1)\t+1\t-1",
    "JSON with a prototype": '{"__proto__":{"hacked":1}}',
}  # fmt: skip
#: What a line of an event stream may begin with, also for clients that end lines where `str.splitlines` does.
FIELD = re.compile(r"(event|data|id|retry): |:|$")
ALL = list(WORDS.values())
KNOWN_HEADERS = {
    "cache-control", "connection", "content-length", "content-security-policy", "content-type", "date", "referrer-policy",
    "x-content-type-options", "x-request-id",
}  # fmt: skip


def said(site: Site, id: str = "job-1") -> Attempt:
    """A job that has ended, with all of them in each of its fields: as nobody could say some of them by HTTP."""
    header = Header(id, "personalize", owner="alice", title=" ".join(ALL), created_at=MOMENT_MS)
    job = Attempt(site, header)
    move(site, job, "queued", done=False)
    job.create()
    job.start()
    for words in ALL:
        job.append("log", message=words, level="info")
        job.append("progress", done=1, total=2, unit=words, message=words)
        job.append("step", name=words, state="finished", seconds=1)
        job.append("preview", data={words: words, "list": [words]})
    job._end("failed", error={"type": ALL[0], "message": " ".join(ALL)})
    move(site, job, "failed")
    return job


@pytest.fixture
def job(site: Site) -> Attempt:
    return said(site)


def strings(value: Any) -> set[str]:
    """Every text in a JSON value."""
    if isinstance(value, dict):
        return set(value) | {text for inner in value.values() for text in strings(inner)}
    if isinstance(value, list):
        return {text for inner in value for text in strings(inner)}
    return {value} if isinstance(value, str) else set()


def test_an_event_stream_holds_them_as_data(site: Site, job: Attempt) -> None:
    """As many frames as events, however a client ends its lines; each with the words that were said."""
    stream = follow_to_end(site)
    lines = stream.body.decode().splitlines()

    assert [line for line in lines if not FIELD.match(line)] == []
    assert len(stream.frames) == sum(line.startswith("event: ") for line in lines)
    assert list(range(1, 4 * len(ALL) + 4)) == stream.numbers
    assert "succeeded" not in stream.types
    assert set(ALL) <= set().union(*(strings(json.loads(frame.data)) for frame in stream.frames))


def test_a_line_of_json_holds_one_event(site: Site, job: Attempt) -> None:
    """NDJSON: as many lines as events, each a whole object under its own number."""
    body = follow_to_end(site, accept="application/x-ndjson").body.decode()
    lines = [json.loads(line) for line in body.splitlines()]

    assert [f"{n}" for n in range(1, 4 * len(ALL) + 4)] == [
        line["id"].partition("-")[2] for line in lines[1:]
    ]
    assert set(ALL) <= set().union(*map(strings, lines))
    assert "9-9" not in {line.get("id") for line in lines}


PATHS: dict[str, Callable[[Any], Any]] = {
    "/jobs/job-1": lambda body: body,
    "/jobs": lambda body: body["jobs"][0],
    "/jobs/job-1/events?wait=0": lambda body: body["state"],
    "/jobs?state=failed&actor=personalize": lambda body: body["jobs"][0],
}


def test_an_answer_in_json_holds_them_and_no_browser_takes_it_for_a_page(site: Site, job: Attempt) -> None:
    """Whole, under a media type that is not guessed at."""
    for path, state_in in PATHS.items():
        with site.client() as client:
            answer = client.get(path)
        state = state_in(answer.json())

        assert "application/json" == answer.headers["Content-Type"]
        assert "nosniff" == answer.headers["X-Content-Type-Options"]
        assert (" ".join(ALL), "failed", None) == (state["title"], state["state"], state.get("result"))
        assert set(ALL) <= {step["name"] for step in state["steps"]}
        assert 1 == len(answer.text.splitlines())


def test_a_page_of_many_holds_them_in_one_frame_each(site: Site, job: Attempt) -> None:
    """The stream of a list: nothing of a state leaves it."""
    with look(site, "jobs=job-1") as stream:
        stream.until(lambda stream: bool(states(stream)))

    assert [line for line in stream.body.decode().splitlines() if not FIELD.match(line)] == []
    assert ["position", "job"] == stream.types
    assert " ".join(ALL) == states(stream)[0]["title"]


def test_a_name_of_a_file_is_one_header_or_refused(site: Site) -> None:
    """What cannot be a name is refused where it is said; what can stands in one header, and never as a path."""
    disposition = re.compile(r"attachment; filename=\"[ -~]*\"(; filename\*=UTF-8''[A-Za-z0-9%._~-]+)?")
    refused = []
    for number, (kind, words) in enumerate(WORDS.items()):
        job = site.job(f"job-{number}")
        job.start()
        try:
            file = job.save(f"../../{words}", "text/csv", b"x")
        except InvalidInput:
            refused.append(kind)
            continue
        job.succeed({}, file)
        with site.client() as client:
            answer = client.get(f"/jobs/job-{number}/result")

        assert (200, b"x", "1") == (answer.status_code, answer.content, answer.headers["Content-Length"]), (
            kind
        )
        assert disposition.fullmatch(answer.headers["Content-Disposition"]), kind
        assert ".." not in answer.headers["Content-Disposition"]
    assert [
        "an event",
        "data",
        "CR alone",
        "NUL",
        "other line ends",
        "a line of JSON",
        "a chunk",
        "a terminal",
        "a formula",
    ] == refused


def test_an_owner_may_be_called_anything(site: Site) -> None:
    """A subject is an identity provider's text: it begins no key of another, no header and no frame."""
    for number, words in enumerate(ALL):
        id = f"mine-{number}"
        mine = Attempt(site, Header(id, "personalize", owner=words, created_at=MOMENT_MS))
        move(site, mine, "queued", done=False)
        mine.create()
        move(site, mine, "queued")
        with site.client(words) as client, look(site, subject=words) as stream:
            assert words == client.get(f"/jobs/{id}").json()["owner"]
            assert [id] == [row["id"] for row in client.get("/jobs").json()["jobs"]]
            stream.until(lambda stream: bool(states(stream)))

            assert [(id, words)] == [(state["id"], state["owner"]) for state in states(stream)]


def test_what_a_request_says_of_itself_goes_into_no_other_header(site: Site) -> None:
    """An id for the log, a position, a key: it comes back as data or not at all, or the request is none."""
    site.job()
    for kind, words in WORDS.items():
        for name in (
            "X-Request-ID",
            "Last-Event-ID",
            "Idempotency-Key",
            "If-None-Match",
            "Origin",
            "traceparent",
            "Accept",
        ):
            path, headers = "/jobs/job-1/events?wait=0", site.headers() | {name: f"a{words}b"}
            with Stream(site.url, path, headers) as stream:
                stream.until(lambda stream: stream.status > 0)

                assert stream.status in {200, 400}, (kind, name)
                assert not any("forged" in text or "hacked" in text for text in stream.headers.values()), (
                    kind,
                    name,
                )
                assert stream.headers.keys() <= KNOWN_HEADERS, (kind, name)


#: ESC, BEL, C1 and what turns writing around; backspace. A line feed only where a line ends.
COMMANDING = re.compile("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
#: What our own colours and cursor moves begin with: everything else behind an ESC is somebody else's.
OURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


COMMANDS = (("watch", "job-1"), ("watch", "--json", "job-1"), ("jobs",), ("jobs", "--json"))


@pytest.mark.slow
def test_no_command_line_output_is_a_command(site: Site, job: Attempt) -> None:
    """To a pipe and to a terminal: the words are there to read, and no character of theirs does anything."""
    env = {"PROGRESS_STREAM_URL": site.url, "PROGRESS_STREAM_TOKEN": site.token()}
    with ThreadPoolExecutor(2) as pool:
        piped = [one.stdout for one in pool.map(lambda words: run(*words, env=env), COMMANDS)]
        shown = [
            text for _, text in pool.map(lambda words: in_a_terminal(*words, env=env, columns=200), COMMANDS)
        ]

    for output in piped:
        assert "forged" in output
        assert "\x1b" not in output
        assert COMMANDING.search(output) is None
    for output in shown:
        plain = OURS.sub("", output).replace("\r\n", "\n").replace("\r", "")
        assert "forged" in plain
        assert "\x1b" not in plain, repr(plain[max(plain.index("\x1b") - 50, 0) :][:120])
        assert COMMANDING.search(plain) is None
        assert "\x1b[2J" not in output and "\x1b[31mred" not in output


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    # Half a second, for one slow test.
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import ARGUMENTS, CHROMIUM, executable

    found = executable(CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.mark.slow
def test_the_page_shows_them_as_text(chromium: Any, site: Site, job: Attempt) -> None:
    """In the list and in the job's own view: no element and no script comes of them, and the policy has nothing to stop."""
    from playwright.sync_api import expect

    page = chromium.new_page()
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(f"{site.url}/?token={site.token()}")
    for view in ("#/", "#/jobs/job-1"):
        page.goto(f"{site.url}/{view}")
        expect(page.locator("main")).to_contain_text("<script>window.hacked=1</script>")

        assert 0 == page.evaluate("document.querySelectorAll('[onerror], [onload], img[src=x]').length")
        assert page.evaluate("window.hacked === undefined && ({}).hacked === undefined")
        assert 0 == page.evaluate("[...document.scripts].filter((one) => !one.src).length")
    assert [] == complaints
    page.close()
