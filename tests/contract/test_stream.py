"""`GET /jobs/{id}/events`: where it begins, what comes first, what follows, how it ends. Each by hand-over and by plain `send`."""

import socket
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from progress_stream.events import EventId
from tests.support.server import PATIENCE_SECONDS, Attempt, Site
from tests.support.streams import Stream, data_of, follow, follow_to_end, request

Serve = Callable[..., Site]

#: Not two numbers below 2^64 with a `-` between and no leading zero.
MALFORMED = (
    "x", "1", "-", "1-", "-1", "01-1", "1-01", "+1-1", "1 -1", "1-1-1", "1.0-1", "1-1x", "$$", "18446744073709551616-1",
    "1-18446744073709551616", "99999999999999999999999-1", "%00", "١-١", "9" * 500,
)  # fmt: skip


def running_job(site: Site, events: int = 0) -> Attempt:
    """`queued`, `started`, and so many events of an own type."""
    job = site.job()
    job.start()
    if events:
        job.append(count=events)
    return job


def ended_job(site: Site, events: int = 0) -> Attempt:
    job = running_job(site, events)
    job.succeed({"rows": events})
    return job


def ids_in_redis(site: Site, job: str = "job-1") -> list[str]:
    events_key = site.store.commands.keys.of(job)[0]
    return [id.decode() for id, _ in site.redis.xrange(events_key)]


# -- position


@pytest.mark.contract("Where it begins")
def test_without_a_position_it_begins_with_the_first_event(each_site: Site) -> None:
    """Absent, empty or `0-0`, in the header or in either spelling of the URL; ids are those in Redis."""
    ended_job(each_site, 3)
    kept = ids_in_redis(each_site)
    asked = [
        follow_to_end(each_site),
        follow_to_end(each_site, position=""),
        follow_to_end(each_site, position="0-0"),
        follow_to_end(each_site, query="last_event_id="),
        follow_to_end(each_site, query="last_event_id=0-0"),
        follow_to_end(each_site, query="lastEventId=0-0"),
    ]

    for stream in asked:
        assert kept == stream.ids
        assert ["position", "queued", "started", "line", "line", "line", "succeeded"] == stream.types
        assert "0-0" == stream.position["position"]


@pytest.mark.contract("Where it begins")
@pytest.mark.parametrize("how", ["header", "last_event_id", "lastEventId"])
def test_after_a_position_each_later_event_is_sent_once(each_site: Site, how: str) -> None:
    """The event with that id is not sent again."""
    ended_job(each_site, 5)
    kept = ids_in_redis(each_site)
    for index in range(len(kept) - 1):
        here = kept[index]
        stream = (
            follow_to_end(each_site, position=here)
            if how == "header"
            else follow_to_end(each_site, query=f"{how}={here}")
        )

        assert kept[index + 1 :] == stream.ids
        assert {"position": here, "resumed": True} == stream.position
        assert "snapshot" not in stream.types


@pytest.mark.contract("Where it begins")
def test_white_space_around_the_header_is_no_part_of_it(site: Site) -> None:
    """RFC 9110 §5.5."""
    ended_job(site, 3)
    kept = ids_in_redis(site)
    stream = follow_to_end(site, position=f"  {kept[1]} \t ")

    assert kept[1] == stream.position["position"]
    assert kept[2:] == stream.ids


@pytest.mark.contract("Where it begins")
def test_the_header_wins_over_everything_in_the_url(each_site: Site) -> None:
    """A browser sends the same URL again with every reconnect."""
    ended_job(each_site, 5)
    kept = ids_in_redis(each_site)
    for query in (f"last_event_id={kept[1]}", f"lastEventId={kept[1]}", "last_event_id=$", "last_event_id=x"):
        assert kept[5:] == follow_to_end(each_site, query=query, position=kept[4]).ids
        assert kept == follow_to_end(each_site, query=query, position="0-0").ids


@pytest.mark.contract("Where it begins")
def test_a_dollar_means_only_what_comes_from_now_on(each_site: Site) -> None:
    """Its position is the last id, so that a client cut before its first event misses nothing."""
    job = running_job(each_site, 5)
    last = ids_in_redis(each_site)[-1]
    with follow(each_site, query="last_event_id=$") as stream, follow(each_site, position="$") as other:
        for each in (stream, other):
            each.until_type("position")
            assert (last, last) == (each.frames[0].id, each.position["position"])
        job.append()
        job.succeed()

        assert [8, 9] == stream.to_end().numbers == other.to_end().numbers


@pytest.mark.contract("GET /jobs/{id}/events", "Where it begins")
def test_history_goes_over_into_live_with_nothing_lost_or_repeated(each_site: Site) -> None:
    """Watchers who come while the job writes, each at another moment, all get the same."""
    job = running_job(each_site, 500)
    streams: list[Stream] = []
    done = threading.Event()

    def write() -> None:
        for _ in range(150):
            job.append(count=10)
            time.sleep(0.005)
        job.succeed()
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        streams.append(follow(each_site, position="0-0" if len(streams) % 2 else None))
        time.sleep(0.03)
    writer.join()
    for stream in streams:
        with stream:
            assert list(range(1, 2_004)) == stream.to_end().numbers
            assert stream.ended
    assert len(streams) >= 10


def test_a_quiet_job_s_first_event_leaves_at_once(each_site: Site) -> None:
    """Not gathered, not waited for by any timer."""
    job = running_job(each_site)
    took: list[float] = []
    with follow(each_site) as stream:
        for n in range(3, 13):
            stream.until_number(n - 1)
            time.sleep(0.05)
            began = time.monotonic()
            job.append()
            stream.until_number(n)
            took.append(time.monotonic() - began)

    assert sorted(took)[len(took) // 2] < 0.1


# -- first bytes


@pytest.mark.contract("The first bytes")
def test_the_first_bytes_are_one_frame_that_says_where_it_begins(each_site: Site) -> None:
    """`retry`, `position`, `id`, `resumed`; on their own, ahead of the history that Redis has to be asked for."""
    running_job(each_site, 200)
    last = ids_in_redis(each_site)[-2]
    with follow(each_site) as first, follow(each_site, position=last) as again:
        first.until_number(202)
        again.until_number(202)

    chunk = bytes(first.response.chunks[0])
    retry = first.frames[0].retry
    assert (
        chunk == b'retry: %d\nevent: position\ndata: {"position":"0-0","resumed":false}\nid: 0-0\n\n' % retry
    )
    assert bytes(again.response.chunks[0]).endswith(b"\nid: %b\n\n" % last.encode())
    assert {"position": last, "resumed": True} == again.position


@pytest.mark.contract("The first bytes")
def test_retry_is_drawn_anew_for_each_connection(each_site: Site) -> None:
    """So that a fleet's reconnects spread out."""
    ended_job(each_site)
    retries = [follow_to_end(each_site).frames[0].retry or 0 for _ in range(20)]

    assert len(set(retries)) > 10
    assert all(1_000 <= retry <= 3_000 for retry in retries)


@pytest.mark.contract("The first bytes")
def test_resumed_says_whether_the_request_carried_a_position(each_site: Site) -> None:
    """One can see whether something on the way ate the header."""
    ended_job(each_site, 1)
    first = ids_in_redis(each_site)[0]

    assert not follow_to_end(each_site).position["resumed"]
    assert follow_to_end(each_site, position=first).position["resumed"]
    assert follow_to_end(each_site, query=f"last_event_id={first}").position["resumed"]


# -- replay=snapshot


@pytest.mark.contract("?replay=snapshot")
def test_replay_snapshot_gives_the_state_and_then_what_comes_after(each_site: Site) -> None:
    """For pages that want the bar and not the history: no `id:` with the position, the state's with the snapshot."""
    job = running_job(each_site)
    job.append("progress", done=3, total=9)
    last = ids_in_redis(each_site)[-1]
    with follow(each_site, query="replay=snapshot") as stream:
        stream.until_type("snapshot")
        job.append()
        job.succeed()
        stream.to_end()
    snapshot = stream.frames[1]
    body = data_of(snapshot)

    assert ["position", "snapshot", "line", "succeeded"] == stream.types
    assert ["", last] == [frame.id for frame in stream.frames[:2]]
    assert b"id:" not in stream.body.partition(b"\n\n")[0]
    assert (False, None, last) == (body["gap"], body["reason"], body["through"])
    assert (3, 9, last) == (body["state"]["done"], body["state"]["total"], body["state"]["last_event_id"])
    with each_site.client() as client:
        assert set(client.get("/jobs/job-1").json()) == set(body["state"])


@pytest.mark.contract("?replay=snapshot")
def test_replay_snapshot_with_a_header_is_an_ordinary_resume(each_site: Site) -> None:
    """The browser comes back with the same URL."""
    ended_job(each_site, 3)
    kept = ids_in_redis(each_site)
    stream = follow_to_end(each_site, query="replay=snapshot", position=kept[2])

    assert kept[3:] == stream.ids
    assert "snapshot" not in stream.types


@pytest.mark.contract("?replay=snapshot")
def test_a_snapshot_of_what_is_over_ends(each_site: Site) -> None:
    """And its id stops the browser at the next connect."""
    ended_job(each_site, 3)
    stream = follow_to_end(each_site, query="replay=snapshot")

    assert ["position", "snapshot"] == stream.types
    assert stream.ended
    assert 204 == follow_to_end(each_site, query="replay=snapshot", position=stream.frames[-1].id).status


# -- never a silent hole


def the_gap(stream: Stream) -> tuple[str, str]:
    """The reason and the id of the one snapshot, which stands before every event."""
    assert ["position", "snapshot"] == stream.types[:2]
    assert 1 == stream.types.count("snapshot")
    body = data_of(stream.frames[1])
    assert body["gap"]
    assert body["through"] == body["state"]["last_event_id"]
    return body["reason"], stream.frames[1].id


@pytest.mark.contract("Never a silent hole", "HISTORY_EVENTS")
def test_a_trimmed_position_is_told_and_what_is_kept_follows(serve: Serve) -> None:
    """The snapshot's id is right before the first event that follows; asked for itself it is found."""
    site = serve(history_events=100)
    job = running_job(site)
    early = ids_in_redis(site)[1]
    for _ in range(10):
        job.append(count=50)
    job.succeed()
    kept = ids_in_redis(site)
    first = EventId.parse(kept[0])
    before = str(EventId(first.epoch, first.n - 1))
    for asked in (None, "0-0", early):
        stream = follow_to_end(site, position=asked)

        assert ("trimmed", before) == the_gap(stream)
        assert kept == stream.ids
    found = follow_to_end(site, position=before)

    assert kept == found.ids
    assert "snapshot" not in found.types


@pytest.mark.contract("Never a silent hole")
def test_a_position_that_was_never_there_is_told(each_site: Site) -> None:
    """One of the future is unknown; one that this server does not know any more, lost. Every greater event follows."""
    ended_job(each_site, 3)
    kept = ids_in_redis(each_site)
    last = EventId.parse(kept[-1])
    cases = {
        str(EventId(last.epoch + 10**6, 1)): ("unknown", kept[-1], []),
        f"{2**64 - 1}-{2**64 - 1}": ("unknown", kept[-1], []),
        str(EventId(last.epoch, last.n + 50)): ("lost", kept[-1], []),
        str(EventId(last.epoch - 5, 2)): ("lost", str(EventId(last.epoch, 0)), kept),
        "1-1": ("lost", str(EventId(last.epoch, 0)), kept),
        "0-7": ("lost", str(EventId(last.epoch, 0)), kept),
    }
    for asked, (reason, id, following) in cases.items():
        stream = follow_to_end(each_site, position=asked)

        assert (reason, id) == the_gap(stream), asked
        assert following == stream.ids
        assert asked == stream.frames[0].id


@pytest.mark.contract("Never a silent hole")
@pytest.mark.parametrize("how", ["header", "url"])
def test_a_malformed_position_is_told_and_everything_follows(each_site: Site, how: str) -> None:
    """Never an error, which EventSource would give up at; and no `id:` with the position, which it would send again."""
    ended_job(each_site, 2)
    kept = ids_in_redis(each_site)
    for asked in MALFORMED:
        if how == "header" and not asked.isascii():
            continue
        stream = (
            follow_to_end(each_site, position=asked)
            if how == "header"
            else follow_to_end(each_site, query=str(httpx.QueryParams({"last_event_id": asked})))
        )

        assert 200 == stream.status, asked
        assert "malformed" == the_gap(stream)[0]
        assert kept == stream.ids
        assert "" == stream.frames[0].id
        assert stream.position["resumed"]
        assert stream.position["position"] == asked[:128]


@pytest.mark.contract("Never a silent hole")
def test_a_hole_in_what_redis_holds_is_told_where_it_is(each_site: Site) -> None:
    """Whatever made it: the events before it, one snapshot, the events after it."""
    job = running_job(each_site, 10)
    kept = ids_in_redis(each_site)
    events_key = each_site.store.commands.keys.of("job-1")[0]
    each_site.redis.xdel(events_key, kept[5], kept[6])
    job.succeed()
    stream = follow_to_end(each_site)
    body = data_of(next(frame for frame in stream.frames if frame.event == "snapshot"))

    assert [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13] == stream.numbers
    assert 6 == stream.types.index("snapshot")
    assert (True, "lost") == (body["gap"], body["reason"])


@pytest.mark.contract("REPLAY_SECONDS")
def test_an_ended_job_whose_events_are_gone_is_told_by_its_state(serve: Serve) -> None:
    """REPLAY_SECONDS are over, STATE_SECONDS are not: a snapshot with the state's id, and the end."""
    site = serve(replay_seconds=1)
    ended_job(site, 3)
    kept = ids_in_redis(site)
    time.sleep(1.3)
    stream = follow_to_end(site)

    assert [] == ids_in_redis(site)
    assert ("trimmed", kept[-1]) == the_gap(stream)
    assert ["position", "snapshot"] == stream.types
    assert stream.ended
    assert 204 == follow_to_end(site, position=kept[-1]).status


# -- the end


def test_a_client_of_http_1_0_gets_no_chunks_of_what_is_over(site: Site) -> None:
    """RFC 9112 §6.1: it knows none, and would take their sizes for lines of the stream."""
    ended_job(site, 3)
    host, _, port = site.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as connection:
        connection.sendall(request("/jobs/job-1/events", host, site.headers(), version="1.0"))
        head, _, body = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n\r\n")

    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"retry: ") and b"\r" not in body
    ids = [line[4:].decode() for line in body.splitlines() if line.startswith(b"id: ")]
    assert ["0-0", *ids_in_redis(site)] == ids


@pytest.mark.contract("The end")
def test_it_ends_cleanly_after_the_terminal_event(each_site: Site) -> None:
    """Live as well as from history, and with it the connection."""
    job = running_job(each_site)
    with follow(each_site) as live:
        live.until_number(2)
        job.fail()
        live.to_end()
        past = follow_to_end(each_site)

        assert live.ended and past.ended
        assert "failed" == live.types[-1] == past.types[-1]
        assert live.is_closed_by_server()


@pytest.mark.contract("The end")
def test_asked_again_after_the_end_the_answer_is_204(each_site: Site) -> None:
    """Which tells EventSource to stop. Only for exactly that id, by header and by URL."""
    ended_job(each_site, 1)
    kept = ids_in_redis(each_site)
    for stream in (
        follow_to_end(each_site, position=kept[-1]),
        follow_to_end(each_site, query=f"last_event_id={kept[-1]}"),
        follow_to_end(each_site, position=kept[-1], accept=None),
    ):
        assert (204, b"") == (stream.status, stream.body)
        assert "no-store" == stream.headers["cache-control"]
    assert 200 == follow_to_end(each_site, position=kept[-2]).status


@pytest.mark.contract("The end")
def test_a_client_that_asks_for_ever_costs_no_command(each_site: Site) -> None:
    """Some wrappers go on after a 204: within a minute Redis does not hear of it."""
    ended_job(each_site)
    last = ids_in_redis(each_site)[-1]
    each_site.wait_until_ready()
    assert 204 == follow_to_end(each_site, position=last).status
    heard: list[str] = []
    with each_site.redis.monitor() as monitor:
        for _ in range(50):
            assert 204 == follow_to_end(each_site, position=last).status
        each_site.redis.ping()
        for command in monitor.listen():
            heard.append(command["command"])
            if command["command"] == "PING":
                break

    # A round of the probe may fall into it, which is of no request.
    assert len(heard) < 10
    assert not [command for command in heard if "job-1" in command]


def test_another_position_or_owner_is_not_answered_from_memory(each_site: Site) -> None:
    """What a repeat costs nothing for is this caller, this job, this id."""
    ended_job(each_site)
    kept = ids_in_redis(each_site)
    assert 204 == follow_to_end(each_site, position=kept[-1]).status

    assert 404 == follow_to_end(each_site, position=kept[-1], subject="bob").status
    assert 404 == follow_to_end(each_site, "job-2", position=kept[-1]).status
    assert 200 == follow_to_end(each_site, position=kept[0]).status


# -- idle, and a life


@pytest.mark.contract("Idle", "HEARTBEAT_SECONDS")
def test_an_idle_stream_has_a_comment_and_no_blank_line(serve: Serve) -> None:
    """Some clients fire an empty message at every blank line."""
    site = serve(heartbeat_seconds=1)
    running_job(site)
    with follow(site) as stream:
        stream.until_number(2)
        before = len(stream.body)
        stream.for_seconds(3.5)

    assert stream.body[before:] in {b":\n" * 2, b":\n" * 3, b":\n" * 4}


@pytest.mark.contract("A life", "STREAM_SECONDS")
def test_a_browser_s_stream_ends_cleanly_after_its_life(serve: Serve) -> None:
    """STREAM_SECONDS x 80-100 %; the client resumes. Any other lives as long as its job."""
    site = serve(stream_seconds=2)
    job = running_job(site)
    began = time.monotonic()
    with follow(site) as browser, follow(site, accept="*/*") as curl, follow(site, accept=None) as bare:
        browser.to_end()
        lived = time.monotonic() - began
        job.append()
        again = follow(site, position=browser.ids[-1])
        with again:
            again.until_number(3)
        time.sleep(1)
        job.succeed()

        assert browser.ended
        assert [1, 2] == browser.numbers and ["position", "queued", "started"] == browser.types
        # A slot is a second wide.
        assert 0.6 <= lived <= 3.2
        assert [1, 2, 3, 4] == curl.to_end().numbers == bare.to_end().numbers
        assert [3] == again.numbers


# -- the answer itself


def test_headers_keep_proxies_from_buffering(each_site: Site) -> None:
    """And `HEAD` gives the same headers alone, and opens no stream."""
    running_job(each_site)
    with follow(each_site) as stream, follow(each_site, method="HEAD") as head:
        stream.until_number(2)
        head.to_end()

    for answer in (stream, head):
        assert 200 == answer.status
        assert "text/event-stream" == answer.headers["content-type"].partition(";")[0]
        assert "no-store, no-transform" == answer.headers["cache-control"]
        assert "no" == answer.headers["x-accel-buffering"]
        assert "content-encoding" not in answer.headers
    assert b"" == head.body


@pytest.mark.contract("A life")
def test_any_accept_gets_the_stream(each_site: Site) -> None:
    """Only what a client does not say is taken for curl."""
    ended_job(each_site)
    for accept in (None, "*/*", "text/event-stream", "text/html, text/event-stream;q=0.5", "application/xml"):
        assert 4 == len(follow_to_end(each_site, accept=accept).frames)


def test_never_a_redirect(each_site: Site) -> None:
    """EventSource follows one and asks the first address again each time."""
    ended_job(each_site)
    for path in ("/jobs/job-1/events/", "/jobs//job-1/events", "/jobs/job-1//events"):
        headers = {**each_site.headers(), "Accept": "text/event-stream"}
        with Stream(each_site.url, path, headers) as stream:
            assert 404 == stream.to_end().status


def test_a_client_that_leaves_cancels_nothing(each_site: Site) -> None:
    """Neither politely nor by vanishing."""
    job = running_job(each_site)
    with follow(each_site) as polite:
        polite.until_number(2)
    rude = follow(each_site)
    rude.until_number(2)
    rude.reset()
    time.sleep(0.1)
    job.append()
    job.succeed()
    with each_site.client() as client:
        state = client.get("/jobs/job-1").json()

    assert ("succeeded", False) == (state["state"], bool(state["cancel_requested"]))
