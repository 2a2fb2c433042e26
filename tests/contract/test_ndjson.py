"""`Accept: application/x-ndjson`: the same stream, a JSON object a line; by hand-over and by plain `send`."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from progress_stream.auth.verify import sign
from tests.support.server import SECRET, Attempt, Site
from tests.support.streams import Stream, data_of, follow, follow_to_end

Serve = Callable[..., Site]
NDJSON = "application/x-ndjson"


def lines_of(stream: Stream) -> list[dict[str, Any]]:
    """The whole lines so far; the last, unfinished one is left out."""
    return [json.loads(line) for line in stream.body.split(b"\n")[:-1]]


def types_of(stream: Stream) -> list[str]:
    return [line["type"] for line in lines_of(stream)]


def running_job(site: Site, count: int = 0) -> Attempt:
    job = site.job()
    job.start()
    if count:
        job.append(count=count)
    return job


def until(stream: Stream, number: int) -> Stream:
    return stream.until(
        lambda stream: any(line.get("id", "").endswith(f"-{number}") for line in lines_of(stream))
    )


@pytest.mark.contract("GET /jobs/{id}/events", "Lines of JSON")
def test_it_is_the_same_stream_in_other_bytes(each_site: Site) -> None:
    """History, what comes live, and the end: each line is the event's id and its data's fields, in that order."""
    job = running_job(each_site, 5)
    with (
        follow(each_site) as frames,
        follow(each_site, accept=NDJSON) as lines,
        follow(each_site, accept=NDJSON) as more,
    ):
        frames.until_number(7)
        until(lines, 7)
        until(more, 7)
        job.append(count=20)
        job.append("line", message="a \u2028 b \x85 \U0001f600")
        job.succeed({"rows": 1})
        frames.to_end()
        lines.to_end()
        more.to_end()

    expected = [{"id": frame.id, **data_of(frame)} for frame in frames.events]
    assert (200, NDJSON) == (lines.status, lines.headers["content-type"])
    assert "no-store, no-transform" == lines.headers["cache-control"]
    assert lines.ended
    assert expected == lines_of(lines)[1:] == lines_of(more)[1:]
    assert all(list(line)[:2] == ["id", "job"] for line in lines_of(lines)[1:])


def test_it_begins_with_the_position(each_site: Site) -> None:
    """At once, as the other form does."""
    running_job(each_site)
    with follow(each_site, accept=NDJSON) as stream:
        until(stream, 2)

    assert {"id": "0-0", "type": "position", "position": "0-0", "resumed": False} == lines_of(stream)[0]


@pytest.mark.contract("Lines of JSON")
@pytest.mark.parametrize("where", ["header", "query"])
def test_it_resumes_by_the_same_rules(each_site: Site, where: str) -> None:
    """The event with that id is not sent again, every later one is; then 204."""
    running_job(each_site, 5).succeed()
    ids = [line["id"] for line in lines_of(follow_to_end(each_site, accept=NDJSON))][1:]

    def ask(id: str) -> Stream:
        if where == "header":
            return follow_to_end(each_site, accept=NDJSON, position=id)
        return follow_to_end(each_site, query=f"last_event_id={id}", accept=NDJSON)

    assert ids[3:] == [line["id"] for line in lines_of(ask(ids[2]))][1:]
    assert 204 == ask(ids[-1]).status


@pytest.mark.contract("Lines of JSON")
def test_a_gap_and_a_snapshot_are_lines_too(each_site: Site) -> None:
    """With what the data says."""
    running_job(each_site, 5).succeed()
    gap = lines_of(follow_to_end(each_site, accept=NDJSON, position="nonsense"))
    asked = lines_of(follow_to_end(each_site, query="replay=snapshot", accept=NDJSON))

    assert ["position", "snapshot", "queued"] == [line["type"] for line in gap[:3]]
    assert (True, "malformed") == (gap[1]["gap"], gap[1]["reason"])
    assert [("position", None), ("snapshot", asked[1]["state"]["last_event_id"])] == [
        (line["type"], line.get("id")) for line in asked
    ]
    assert "succeeded" == asked[1]["state"]["state"]


@pytest.mark.contract("Lines of JSON")
def test_idle_it_says_ping(serve: Serve) -> None:
    """A line that any reader can see, in place of a comment, which JSON does not have."""
    site = serve(heartbeat_seconds=1)
    running_job(site)
    with follow(site, accept=NDJSON) as stream:
        stream.until(lambda stream: types_of(stream).count("ping") >= 2)

    assert {"type": "ping"} == lines_of(stream)[-1]


def test_it_lives_as_long_as_its_job(serve: Serve) -> None:
    """STREAM_SECONDS is for EventSource."""
    site = serve(stream_seconds=1)
    running_job(site)
    with follow(site, accept=NDJSON) as stream:
        assert not stream.for_seconds(2.5).ended


def test_its_end_with_the_token_is_a_line(each_site: Site) -> None:
    """Without an id."""
    running_job(each_site)
    token = sign(SECRET, "alice", "jobs:read", 2, now=int(time.time()))
    stream = follow_to_end(each_site, accept=NDJSON, token=token)

    assert {"type": "expired", "reason": "token_expired"} == lines_of(stream)[-1]
    assert stream.ended


def test_a_limit_is_a_status(serve: Serve) -> None:
    """Only EventSource cannot read one."""
    site = serve(max_streams_per_owner=1)
    running_job(site)
    with follow(site, accept=NDJSON) as held:
        until(held, 2)
        refused = follow_to_end(site, accept=NDJSON)

    assert (429, "application/problem+json") == (refused.status, refused.headers["content-type"])


def test_who_can_read_an_event_stream_gets_one(each_site: Site) -> None:
    """EventSource names one form; a client that names both is given the one that all tools know."""
    running_job(each_site).succeed()

    both = follow_to_end(each_site, accept=f"{NDJSON}, text/event-stream")
    assert "text/event-stream" == both.headers["content-type"]
    assert NDJSON == follow_to_end(each_site, accept=NDJSON, method="HEAD").headers["content-type"]
