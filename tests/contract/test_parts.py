"""A job that a real worker has spread over many messages, from outside: its state, its list, its stream, its end."""

import threading
import time
from collections.abc import Iterator

import pytest

from progress_stream import current_job, events
from tests.contract.test_list_stream import has, look, states
from tests.support.server import Site
from tests.support.streams import data_of, follow_to_end
from tests.support.waiting import until
from tests.worker.conftest import Stack


@pytest.fixture
def stack(site: Site) -> Iterator[Stack]:
    made = Stack(site.settings, str(site.settings.broker_url))
    yield made
    made.stop()


def test_one_bar_over_many_workers(site: Site, stack: Stack) -> None:
    """The state counts its parts, the stream tells of each, the list shows the job alone, and its parts where they are wanted."""

    @stack.actor()
    def rows(count: int) -> int:
        for n in range(count):
            current_job().update(done=n + 1, total=count, unit="rows")
            time.sleep(0.002)
        return count

    @stack.actor()
    def whole() -> None:
        current_job().spread(rows.message(20 + n) for n in range(6))

    with look(site) as page:
        job = whole.send_with_options(owner="alice").message_id
        stack.work(threads=4)
        page.until(has(job, "succeeded"))
    stream = follow_to_end(site, job=job)
    with site.client() as client:
        state = client.get(f"/jobs/{job}").json()
        listed = client.get("/jobs").json()["jobs"]
        first = client.get("/jobs", params={"parent": job, "limit": 4}).json()
        rest = client.get("/jobs", params={"parent": job, "limit": 4, "cursor": first["next"]}).json()
        failed = client.get("/jobs", params={"parent": job, "state": "failed"}).json()
        nobody = client.get("/jobs", params={"parent": "nosuchjob"})
    with site.client("bob") as client:
        foreign = client.get("/jobs", params={"parent": job})

    told = [data_of(frame) for frame in stream.events if frame.event == "part"]
    assert {"total": 6, "queued": 0, "running": 0, "succeeded": 6, "failed": 0, "cancelled": 0} == state[
        "parts"
    ]
    assert (135, 135, "rows", "succeeded") == (state["done"], state["total"], state["unit"], state["state"])
    assert [1, 2, 3, 4, 5, 6] == sorted(one["part"] for one in told if one["state"] == "succeeded")
    assert [job] == [one["id"] for one in listed]
    assert {job} == {one["id"] for one in states(page)}
    assert [f"{job}~{n}" for n in range(1, 7)] == [one["id"] for one in first["jobs"] + rest["jobs"]]
    assert (None, []) == (rest["next"], failed["jobs"])
    assert all(one["parent"] == job for one in first["jobs"])
    assert (404, 404) == (nobody.status_code, foreign.status_code)


def test_a_cancel_and_a_delete_take_the_parts_along(site: Site, stack: Stack) -> None:
    """What is queued of them never begins, what runs stops; then nothing of any of them is left."""
    began, gate = [], threading.Event()

    @stack.actor()
    def rows(n: int) -> None:
        began.append(n)
        while True:
            current_job().update(done=1, total=2)
            gate.wait(0.01)

    @stack.actor()
    def whole() -> None:
        current_job().spread(rows.message(n) for n in range(8))

    job = whole.send_with_options(owner="alice").message_id
    stack.work(threads=2)
    until(lambda: len(began) == 2)
    with site.client() as client:
        asked = client.post(f"/jobs/{job}/cancel")
        until(lambda: client.get(f"/jobs/{job}").json()["state"] == "cancelled")
        state = client.get(f"/jobs/{job}").json()
        parts = client.get("/jobs", params={"parent": job}).json()["jobs"]
        deleted = client.delete(f"/jobs/{job}")
        left = [client.get(f"/jobs/{job}~{n}").status_code for n in range(1, 9)]

    assert (202, 204) == (asked.status_code, deleted.status_code)
    assert (8, 8) == (state["parts"]["cancelled"], state["parts"]["total"])
    assert {"cancelled"} == {one["state"] for one in parts}
    assert 2 == len(began)
    assert [404] * 8 == left
    assert [] == [key for key in site.redis.keys(f"*{job}*") if not site.redis.hexists(key, "tombstone")]


def test_a_part_can_be_followed_by_itself(site: Site, stack: Stack) -> None:
    """It is a job: with a stream of its own, a state, and its owner's rights."""

    @stack.actor()
    def rows() -> str:
        current_job().log("hello")
        return "part"

    @stack.actor()
    def whole() -> None:
        current_job().spread([rows.message()])

    job = whole.send_with_options(owner="alice").message_id
    stack.work()
    stack.ended(job)
    stream = follow_to_end(site, job=f"{job}~1")

    assert ["queued", "started", "log", "succeeded"] == [frame.event for frame in stream.events]
    assert "part" == events.decode(stream.events[-1].data.encode())["result"]
