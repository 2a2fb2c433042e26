"""`POST /jobs/{id}/cancel`: who may, what each state makes of it, and that a job ends once."""

import random
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from progress_stream import events
from progress_stream.errors import AlreadyEnded
from progress_stream.events import BEGINNING
from tests.support.server import Attempt, Site
from tests.support.streams import data_of, follow


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


def cancel(client: httpx.Client, job: str = "job-1") -> httpx.Response:
    return client.post(f"/jobs/{job}/cancel")


def types(site: Site, job: str = "job-1") -> list[str]:
    look = site.store.send(site.store.commands.look(job, BEGINNING, 1_000))
    return [type.decode() for _, type, _ in look.entries]


def stall(site: Site, job: Attempt) -> None:
    """What the sweep says of a worker that gives no sign."""
    event = events.make(job.job, "stalled", at=events.now_text(), silent_seconds=15)
    site.store.send(site.store.commands.intervene(job.job, event, statuses=("running",), field="stalled_at"))


def pass_time_since_cancel(site: Site, milliseconds: int, job: str = "job-1") -> None:
    key = site.store.commands.keys.state(job)
    asked_at = int(site.redis.hget(key, "cancel_at") or 0)
    site.redis.hset(key, "cancel_at", str(asked_at - milliseconds))


@pytest.mark.contract("POST /jobs/{id}/cancel")
def test_a_queued_job_ends_at_once(site: Site, client: httpx.Client) -> None:
    """202 with the state after it; a worker that comes for it later is told that it has ended."""
    job = site.job()
    answer = cancel(client)

    assert (202, "cancelled") == (answer.status_code, answer.json()["state"])
    assert answer.json()["finished_at"]
    assert ["queued", "cancelled"] == types(site)
    with pytest.raises(AlreadyEnded):
        job.start()


@pytest.mark.contract("POST /jobs/{id}/cancel")
def test_a_running_job_is_told(site: Site, client: httpx.Client) -> None:
    """202, `cancel_requested`, one `cancelling`; the worker's next call says so."""
    job = site.job()
    job.start()
    answer = cancel(client)

    assert (202, "running", True) == (
        answer.status_code, answer.json()["state"], answer.json()["cancel_requested"],
    )  # fmt: skip
    assert job.append().cancel_requested
    assert ["queued", "started", "cancelling", "line"] == types(site)


def test_asking_again_soon_adds_nothing(site: Site, client: httpx.Client) -> None:
    """The worker was told, and has not had the time to listen."""
    site.job().start()
    first, second = cancel(client), cancel(client)

    assert (202, 202, "running") == (first.status_code, second.status_code, second.json()["state"])
    assert ["queued", "started", "cancelling"] == types(site)


@pytest.mark.contract("POST /jobs/{id}/cancel")
def test_asking_again_after_30_seconds_ends_it(site: Site, client: httpx.Client) -> None:
    """An actor that does not listen is refused from then on."""
    job = site.job()
    job.start()
    cancel(client)
    pass_time_since_cancel(site, 29_000)
    assert "running" == cancel(client).json()["state"]
    pass_time_since_cancel(site, 1_500)
    answer = cancel(client)

    assert (202, "cancelled") == (answer.status_code, answer.json()["state"])
    with pytest.raises(AlreadyEnded):
        job.append()
    assert ["queued", "started", "cancelling", "cancelled"] == types(site)


@pytest.mark.contract("POST /jobs/{id}/cancel")
def test_a_stalled_job_ends_at_once_and_its_zombie_is_refused(site: Site, client: httpx.Client) -> None:
    """Nobody is there who could be told."""
    job = site.job()
    job.start()
    stall(site, job)
    answer = cancel(client)

    assert (202, "cancelled", False) == (
        answer.status_code, answer.json()["state"], answer.json()["stalled"],
    )  # fmt: skip
    with pytest.raises(AlreadyEnded):
        job.append()


def test_a_job_between_two_attempts_ends_at_once(site: Site, client: httpx.Client) -> None:
    """The next attempt is refused when its message comes."""
    job = site.job()
    job.start()
    error = {"type": "ValueError", "message": "no"}
    next_at = events.text_of(int(time.time() * 1000) + 3_600_000)
    job.append("retrying", error=error, next_at=next_at)
    answer = cancel(client)

    assert (202, "cancelled", None) == (
        answer.status_code, answer.json()["state"], answer.json()["next_at"],
    )  # fmt: skip
    with pytest.raises(AlreadyEnded):
        job.start("second")


@pytest.mark.contract("POST /jobs/{id}/cancel")
@pytest.mark.parametrize("end", ["succeed", "fail", "cancel"])
def test_an_ended_job_is_409(site: Site, client: httpx.Client, end: str) -> None:
    """However it ended; nothing is added."""
    job = site.job()
    if end == "cancel":
        cancel(client)
    else:
        job.start()
        getattr(job, end)()
    before = types(site)
    answer = cancel(client)

    assert 409 == answer.status_code
    assert answer.json()["type"].endswith(":already-ended")
    assert before == types(site)


def test_who_may(site: Site, client: httpx.Client) -> None:
    """The owner with `jobs:write`, or an administrator; for others the job is not there."""
    site.job().start()
    with site.client("bob") as bob, site.client(None) as nobody:
        reader = site.client(scopes="jobs:read")
        admin = site.client("root", scopes="jobs:write jobs:admin")

        assert [404, 401, 403, 202] == [
            cancel(one).status_code for one in (bob, nobody, reader, admin)
        ]  # fmt: skip
        reader.close()
        admin.close()
    assert 404 == cancel(client, "job-2").status_code
    assert 405 == client.get("/jobs/job-1/cancel").status_code


def test_a_ticket_cancels_nothing(site: Site, client: httpx.Client) -> None:
    """It only reads, wherever it comes."""
    site.job().start()
    ticket = client.post("/tickets", json={}).json()["token"]
    with site.client(None) as nobody:
        answers = [
            nobody.post("/jobs/job-1/cancel", headers={"Authorization": f"Bearer {ticket}"}),
            nobody.post(f"/jobs/job-1/cancel?token={ticket}"),
        ]

    assert {401, 403} >= {answer.status_code for answer in answers}
    assert ["queued", "started"] == types(site)


def test_watchers_see_it_happen(each_site: Site) -> None:
    """`cancelling`, then the end, and the stream ends with it."""
    job = each_site.job()
    job.start()
    with follow(each_site) as stream, each_site.client() as client:
        stream.until_type("started")
        cancel(client)
        stream.until_type("cancelling")
        pass_time_since_cancel(each_site, 31_000)
        cancel(client)
        stream.to_end()

        assert ["queued", "started", "cancelling", "cancelled"] == [frame.event for frame in stream.events]
        assert 1 == data_of(stream.events[-1])["attempt"]
        assert stream.ended


def test_a_delayed_job_stays_cancelled_until_its_message_has_come(site: Site, client: httpx.Client) -> None:
    """Its state outlives the day on which the message is to be worked on, or that would bring the job back."""
    week = 7 * 86_400
    site.job(run_at=int((time.time() + week) * 1000))
    cancel(client)

    left = site.redis.ttl(site.store.commands.keys.state("job-1"))
    assert week + site.settings.state_seconds - 60 < left <= week + site.settings.state_seconds + 60


@pytest.mark.contract("POST /jobs/{id}/cancel")
@pytest.mark.parametrize("stalled", [False, True])
def test_a_cancel_that_races_the_end_gives_one_end(site: Site, client: httpx.Client, stalled: bool) -> None:
    """Whoever is first: the other is told so, and nothing follows the end."""
    draw = random.Random(20_260 + stalled)
    for number in range(60):
        job = site.job(f"race-{number}")
        job.start()
        if stalled:
            stall(site, job)
        ends: list[Exception | None] = []

        def finish(job: Attempt, pause: float, ends: list[Exception | None]) -> None:
            time.sleep(pause)
            try:
                job.succeed()
                ends.append(None)
            except AlreadyEnded as error:
                ends.append(error)

        worker = threading.Thread(target=finish, args=(job, draw.uniform(0, 0.006), ends))
        worker.start()
        time.sleep(draw.uniform(0, 0.003))
        answer = cancel(client, job.job)
        worker.join()
        found = types(site, job.job)
        state = client.get(f"/jobs/{job.job}").json()

        assert 1 == sum(type in events.TERMINAL for type in found), found
        assert found[-1] in events.TERMINAL
        assert found[-1] == state["state"]
        assert (ends == [None]) == (state["state"] == "succeeded")
        assert (202 if "cancelled" in found or "cancelling" in found else 409) == answer.status_code


def test_a_cancel_that_races_the_start_never_is_lost(site: Site, client: httpx.Client) -> None:
    """Either the job never begins, or its worker is told."""
    draw = random.Random(4)
    for number in range(60):
        job = site.job(f"race-{number}")
        began: list[bool] = []

        def begin(job: Attempt, pause: float, began: list[bool]) -> None:
            time.sleep(pause)
            try:
                job.start()
                began.append(True)
            except AlreadyEnded:
                began.append(False)

        worker = threading.Thread(target=begin, args=(job, draw.uniform(0, 0.004), began))
        worker.start()
        time.sleep(draw.uniform(0, 0.002))
        answer = cancel(client, job.job)
        worker.join()

        assert 202 == answer.status_code
        if began == [True]:
            assert job.append().cancel_requested
        else:
            assert ["queued", "cancelled"] == types(site, job.job)


def test_an_attempt_that_never_heard_of_it_leaves_that_to_the_next(site: Site, client: httpx.Client) -> None:
    """The worker died between the request and its next report: its redelivery is told at the start."""
    job = site.job()
    job.start("first")
    cancel(client)

    assert job.start("second").cancel_requested
