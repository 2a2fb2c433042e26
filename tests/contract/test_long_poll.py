"""The long-poll: one JSON answer as soon as there is something to say; for clients behind what lets no stream through."""

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.support.server import WAYS, Attempt, Site, Way, running
from tests.support.streams import follow

Serve = Callable[..., Site]
JSON = {"Accept": "application/json"}
KEYS = ["events", "more", "gap", "reason", "through", "last_event_id", "state"]


def poll(site: Site, position: str = "", job: str = "job-1", **query: Any) -> httpx.Response:
    with site.client() as client:
        params = {"last_event_id": position, **query} if position else query
        return client.get(f"/jobs/{job}/events", params=params, headers=JSON)


def running_job(site: Site, count: int = 0) -> Attempt:
    job = site.job()
    job.start()
    if count:
        job.append(count=count)
    return job


def numbers(answer: httpx.Response) -> list[int]:
    return [int(event["id"].partition("-")[2]) for event in answer.json()["events"]]


def commands_of(site: Site) -> int:
    """How many times Redis was asked for a job."""
    calls = site.redis.info("commandstats")
    return sum(int(calls.get(name, {}).get("calls", 0)) for name in ("cmdstat_evalsha", "cmdstat_xrange"))


@pytest.mark.contract("Long-poll")
def test_what_there_is_comes_at_once(each_site: Site) -> None:
    """Each event with its id, and the state that they lead to."""
    running_job(each_site, 3)
    began = time.monotonic()
    answer = poll(each_site)
    body = answer.json()

    assert time.monotonic() - began < 2
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert "no-store, no-transform" == answer.headers["cache-control"]
    assert KEYS == list(body)
    assert [1, 2, 3, 4, 5] == numbers(answer)
    assert ["id", "job", "type"] == list(body["events"][0])[:3]
    assert (False, False, None) == (body["more"], body["gap"], body["reason"])
    assert (
        body["events"][-1]["id"] == body["through"] == body["last_event_id"] == body["state"]["last_event_id"]
    )
    assert "running" == body["state"]["state"]


@pytest.mark.contract("GET /jobs/{id}/events")
@pytest.mark.parametrize("asked", [{"headers": JSON}, {"params": {"wait": "5"}}])
def test_either_way_of_asking_will_do(each_site: Site, asked: dict[str, Any]) -> None:
    """By `Accept`, or by saying how long to wait."""
    running_job(each_site)
    with each_site.client() as client:
        assert 2 == len(client.get("/jobs/job-1/events", **asked).json()["events"])


@pytest.mark.contract("Long-poll")
def test_it_waits_for_the_first_event(each_site: Site) -> None:
    """And answers as soon as it is there."""
    job = running_job(each_site)
    last = poll(each_site).json()["last_event_id"]
    took: list[float] = []
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(poll(each_site, last, wait=20))
        took.append(time.monotonic())

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(1)
    job.append()
    appended = time.monotonic()
    asking.join()

    assert [3] == numbers(answers[0])
    assert took[0] - appended < 1


@pytest.mark.contract("Long-poll")
def test_after_the_wait_it_answers_with_nothing(each_site: Site) -> None:
    """The place is where it was; nothing is wrong."""
    running_job(each_site)
    last = poll(each_site).json()["last_event_id"]
    began = time.monotonic()
    answer = poll(each_site, last, wait=1.5)
    body = answer.json()

    assert 1.2 < time.monotonic() - began < 4
    assert (200, [], False, False, last) == (
        answer.status_code, body["events"], body["more"], body["gap"], body["last_event_id"],
    )  # fmt: skip
    assert [] == poll(each_site, last, wait=0).json()["events"]


@pytest.mark.contract("Long-poll")
def test_no_event_is_lost_or_repeated_over_many_polls(each_site: Site) -> None:
    """While they are being written."""
    job = running_job(each_site)

    def write() -> None:
        for _ in range(40):
            job.append(count=5)
            time.sleep(0.01)
        job.succeed()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    position = ""
    while (answer := poll(each_site, position)).status_code == 200:
        seen += numbers(answer)
        position = answer.json()["last_event_id"]
    writer.join()

    assert 204 == answer.status_code
    assert list(range(1, 204)) == seen


def test_more_than_a_thousand_come_in_several_answers(each_site: Site) -> None:
    """`more` says that asking again brings some at once; `through` how far the state already is."""
    job = running_job(each_site, 0)
    for _ in range(5):
        job.append(count=500)
    first = poll(each_site)
    second = poll(each_site, first.json()["last_event_id"])
    third = poll(each_site, second.json()["last_event_id"])

    assert [list(range(1, 1_001)), list(range(1_001, 2_001)), list(range(2_001, 2_503))] == [
        numbers(answer) for answer in (first, second, third)
    ]
    assert [True, True, False] == [answer.json()["more"] for answer in (first, second, third)]
    assert first.json()["through"].endswith("-2502")


def test_large_events_come_in_smaller_answers(each_site: Site) -> None:
    """A server's memory is not for one who asks."""
    job = running_job(each_site)
    for _ in range(60):
        job.append("own", count=10, data="x" * 6_000)
    answer = poll(each_site)

    assert answer.json()["more"]
    assert len(answer.content) < 4_000_000
    assert list(range(1, len(numbers(answer)) + 1)) == numbers(answer)


@pytest.mark.contract("Long-poll")
@pytest.mark.parametrize(
    ("position", "reason"), [("nonsense", "malformed"), ("9999999999999-7", "unknown"), ("1-7", "lost")]
)
def test_a_gap_is_told(each_site: Site, position: str, reason: str) -> None:
    """As the stream does; the events that are kept come with it."""
    running_job(each_site, 3)
    body = poll(each_site, position).json()

    assert (True, reason) == (body["gap"], body["reason"])
    assert body["state"]["last_event_id"] == body["through"]


def test_a_snapshot_is_asked_for_as_in_the_stream(each_site: Site) -> None:
    """The state at once and no history; from there on, what comes."""
    running_job(each_site, 3)
    body = poll(each_site, replay="snapshot", wait=20).json()

    assert [] == body["events"]
    assert body["state"]["last_event_id"] == body["last_event_id"]


def test_from_now_on(each_site: Site) -> None:
    """`$`: nothing of what was."""
    running_job(each_site, 3)
    body = poll(each_site, "$", wait=0.5).json()

    assert ([], True) == (body["events"], body["last_event_id"].endswith("-5"))


def test_a_head_names_no_length_that_a_get_would_not_have(each_site: Site) -> None:
    """It waits for nothing, so what would be answered is not known."""
    running_job(each_site, 3)
    with each_site.client() as client:
        answer = client.head("/jobs/job-1/events", headers=JSON)

    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert "content-length" not in answer.headers


@pytest.mark.contract("Long-poll")
def test_the_end_is_204(each_site: Site) -> None:
    """Asked with the terminal event's id; asked before it, it does not wait."""
    running_job(each_site).succeed({"rows": 1})
    body = poll(each_site).json()

    assert "succeeded" == body["events"][-1]["type"] == body["state"]["state"]
    assert 204 == poll(each_site, body["last_event_id"]).status_code


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "", "soon", "1e9"])
def test_a_wait_that_is_none_is_refused(each_site: Site, wait: str) -> None:
    """Naming the field and what is allowed."""
    running_job(each_site)
    answer = poll(each_site, wait=wait)

    assert (422, "wait") == (answer.status_code, answer.json()["field"])
    assert "0 to 60" in answer.json()["detail"]


def test_waiting_asks_redis_nothing(each_site: Site) -> None:
    """The wake-up comes by the hub; a thousand that wait cost what one does."""
    running_job(each_site)
    last = poll(each_site).json()["last_event_id"]
    asking = [threading.Thread(target=poll, args=(each_site, last), kwargs={"wait": 4}) for _ in range(5)]
    for thread in asking:
        thread.start()
    time.sleep(1)
    before = commands_of(each_site)
    time.sleep(2)
    while_waiting = commands_of(each_site) - before
    for thread in asking:
        thread.join()

    assert while_waiting <= 2


def test_it_counts_as_a_stream_while_it_waits(serve: Serve) -> None:
    """And no longer: one that was answered, or whose client left, makes room."""
    site = serve(max_streams_per_owner=1)
    running_job(site)
    last = poll(site).json()["last_event_id"]
    with follow(site, query=f"wait=30&last_event_id={last}", accept="application/json") as held:
        held.for_seconds(1)
        refused = poll(site, last)
        assert (429, True) == (refused.status_code, int(refused.headers["retry-after"]) >= 1)
    deadline = time.monotonic() + 5
    while poll(site, last, wait=0.1).status_code == 429:
        assert time.monotonic() < deadline, "a client that left still counts"
        time.sleep(0.05)


def test_permission_is_asked_at_each_poll(each_site: Site) -> None:
    """A position is no permission."""
    each_site.job("theirs", owner="bob").start()

    assert 404 == poll(each_site, "1-1", job="theirs").status_code


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_goes_answers_at_once(settings: Settings, redis_client: Any, way: Way) -> None:
    """With what there is; whoever asks after that is told to come back."""
    with running(create_app(settings), settings, way) as (url, server):
        site = Site(url, settings, redis_client)
        running_job(site)
        last = poll(site).json()["last_event_id"]
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(poll(site, last, wait=20)))
        asking.start()
        time.sleep(1)
        began = time.monotonic()
        server.stop()
        asking.join()

    assert time.monotonic() - began < 5
    assert (200, []) == (answers[0].status_code, answers[0].json()["events"])


def test_its_head_does_not_wait(each_site: Site) -> None:
    """The headers alone."""
    running_job(each_site)
    with each_site.client() as client:
        began = time.monotonic()
        answer = client.head("/jobs/job-1/events", params={"wait": 20, "last_event_id": "$"})

    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert time.monotonic() - began < 5
