"""`POST /jobs/{id}/retry`: the same work once more, as a new job that owes the old one nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import httpx
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from progress_stream import ProgressMiddleware
from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.support.server import Site, serving

SCHEMA = {
    "type": "object",
    "properties": {"table": {"type": "string", "format": "binary"}, "note": {"type": "string"}},
    "required": [],
    "additionalProperties": False,
}


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """Alice's, while a worker announces an actor that takes a file."""
    site.announce("merge", SCHEMA)
    with site.client() as client:
        yield client


@pytest.fixture
def queued(settings: Settings, broker_url: str) -> Iterator[Any]:
    """The messages that the broker has got, by job."""
    with redis.Redis.from_url(broker_url) as broker:

        def read() -> dict[str, dict[str, Any]]:
            found = map(json.loads, broker.hvals(f"{settings.broker_namespace}:default.msgs"))
            return {message["message_id"]: message for message in found}

        yield read


def end(client: httpx.Client, job: str) -> None:
    assert 202 == client.post(f"/jobs/{job}/cancel").status_code


def retry(client: httpx.Client, job: str, **headers: str) -> httpx.Response:
    return client.post(f"/jobs/{job}/retry", headers=headers)


def with_file(client: httpx.Client) -> str:
    """An ended job that was given a file; its id."""
    made = client.post(
        "/jobs",
        data={"actor": "merge", "title": "March", "note": "n"},
        files={"table": ("a.csv", b"a,b", "text/csv")},
    )
    assert 201 == made.status_code, made.text
    end(client, made.json()["id"])
    return str(made.json()["id"])


@pytest.mark.contract("POST /jobs/{id}/retry")
def test_a_new_job_of_the_same_actor_and_arguments(client: httpx.Client, queued: Any) -> None:
    """201, where it is, its state with `retry_of`; and its message says what the first one said."""
    old = client.post("/jobs", json={"actor": "merge", "args": {"note": "ü"}, "title": "March"}).json()["id"]
    end(client, old)
    answer = retry(client, old)

    state = answer.json()
    assert (201, f"/jobs/{state['id']}") == (answer.status_code, answer.headers["Location"])
    assert ("queued", "merge", "March", "alice", old) == (
        state["state"], state["actor"], state["title"], state["owner"], state["retry_of"],
    )  # fmt: skip
    assert old != state["id"]
    assert {"note": "ü"} == queued()[state["id"]]["kwargs"]
    assert state == client.get(answer.headers["Location"]).json()


def test_the_retry_can_be_retried(client: httpx.Client, queued: Any) -> None:
    """Each is of the one before it."""
    first = client.post("/jobs", json={"actor": "merge", "args": {"note": "n"}}).json()["id"]
    end(client, first)
    second = retry(client, first).json()["id"]
    end(client, second)
    third = retry(client, second).json()

    assert second == third["retry_of"]
    assert {"note": "n"} == queued()[third["id"]]["kwargs"]


@pytest.mark.contract("POST /jobs/{id}/retry")
def test_its_file_is_its_own(site: Site, client: httpx.Client, queued: Any) -> None:
    """The old job's may go, with the old job, before the new one has begun."""
    old = with_file(client)
    new = retry(client, old).json()["id"]
    assert 204 == client.delete(f"/jobs/{old}").status_code
    ref = queued()[new]["kwargs"]["table"]

    assert ("a.csv", "text/csv", 3) == (ref["name"], ref["media_type"], ref["size"])
    with site.files.open(ref) as file:
        assert b"a,b" == file.read()


def test_the_same_key_is_the_same_job(site: Site, client: httpx.Client, queued: Any) -> None:
    """200, one message and one copy of the file; also when the old job has been deleted since."""
    old = with_file(client)
    first, second = (retry(client, old, **{"Idempotency-Key": "k"}) for _ in range(2))
    client.delete(f"/jobs/{old}")
    third = retry(client, old, **{"Idempotency-Key": "k"})

    assert [201, 200, 200] == [answer.status_code for answer in (first, second, third)]
    assert 1 == len({answer.json()["id"] for answer in (first, second, third)})
    assert {old, first.json()["id"]} == queued().keys()
    assert 1 == len([path for path in Path(site.settings.data / "files").rglob("*") if path.is_file()])


def test_a_key_of_something_else_is_409(client: httpx.Client, queued: Any) -> None:
    """Another job's retry, or a job of its own. A key that cannot be one is 422."""
    made = [
        client.post("/jobs", json={"actor": "merge"}, headers={"Idempotency-Key": key}).json()["id"]
        for key in ("a", "b")
    ]
    for job in made:
        end(client, job)
    answers = [
        retry(client, job, **{"Idempotency-Key": key})
        for job, key in ((made[0], "a"), (made[0], "c"), (made[1], "c"), (made[1], "x" * 256))
    ]

    assert [409, 201, 409, 422] == [answer.status_code for answer in answers]
    assert answers[0].json()["type"].endswith(":idempotency-conflict")
    assert 3 == len(queued())


def test_the_key_of_a_retry_that_was_deleted_makes_no_other(client: httpx.Client) -> None:
    """409, as of any job."""
    old = client.post("/jobs", json={"actor": "merge"}).json()["id"]
    end(client, old)
    new = retry(client, old, **{"Idempotency-Key": "k"}).json()["id"]
    end(client, new)
    client.delete(f"/jobs/{new}")

    assert 409 == retry(client, old, **{"Idempotency-Key": "k"}).status_code


@pytest.mark.contract("Retrying: a file that it was given is gone")
def test_a_file_that_is_gone_is_410(site: Site, client: httpx.Client, queued: Any) -> None:
    """Nothing is made, and nothing is sent."""
    old = with_file(client)
    site.files.delete_job(old)
    before = queued()
    answer = retry(client, old)

    assert (410, True) == (answer.status_code, answer.json()["type"].endswith(":file-gone"))
    assert before == queued()
    assert [old] == [state["id"] for state in client.get("/jobs").json()["jobs"]]


@pytest.mark.contract("Retrying: the old job has not ended")
def test_a_job_that_has_not_ended_is_409(site: Site, client: httpx.Client) -> None:
    """Two of the same at once were nobody's wish."""
    site.job().start()
    answer = retry(client, "job-1")

    assert (409, True) == (answer.status_code, answer.json()["type"].endswith(":not-ended"))


@pytest.mark.contract(
    "Retrying: its arguments are not kept: larger than EVENT_BYTES, no JSON, or from no queue (report())"
)
def test_a_job_whose_arguments_are_not_kept_is_409(site: Site, client: httpx.Client) -> None:
    """One that came from no queue; the answer says why."""
    job = site.job()
    job.start()
    job.succeed()
    answer = retry(client, "job-1")

    assert (409, True) == (answer.status_code, answer.json()["type"].endswith(":not-repeatable"))
    assert "EVENT_BYTES" in answer.json()["detail"]


@pytest.mark.contract(
    "Retrying: its arguments are not kept: larger than EVENT_BYTES, no JSON, or from no queue (report())"
)
def test_arguments_over_the_bound_are_not_kept(serve: Any) -> None:
    """EVENT_BYTES; the job itself runs all the same."""
    site = serve(event_bytes=2_000)
    site.announce("merge", SCHEMA)
    with site.client() as client:
        made = client.post("/jobs", json={"actor": "merge", "args": {"note": "x" * 3_000}})
        assert 201 == made.status_code
        end(client, made.json()["id"])

        assert 409 == retry(client, made.json()["id"]).status_code


@pytest.mark.contract("Retrying: no worker announces its actor as submittable")
def test_an_actor_that_is_no_longer_announced_is_422(site: Site, client: httpx.Client) -> None:
    """As at POST /jobs: HTTP starts only what a worker offers."""
    old = client.post("/jobs", json={"actor": "merge"}).json()["id"]
    end(client, old)
    site.redis.delete(f"{site.store.commands.keys.actors()}:merge")
    answer = retry(client, old)

    assert (422, True) == (answer.status_code, answer.json()["type"].endswith(":unknown-actor"))


@pytest.mark.parametrize("name", ["merge", "hidden"])
def test_a_job_that_was_sent_by_plain_code(
    site: Site, client: httpx.Client, queued: Any, broker_url: str, name: str
) -> None:
    """With its positional arguments and its file; but an actor that HTTP may not start is not started this way either."""
    broker = RedisBroker(url=broker_url, namespace=site.settings.broker_namespace)
    broker.add_middleware(ProgressMiddleware(site.settings))

    @dramatiq.actor(broker=broker, actor_name=name, progress=True)
    def merge(table: dict[str, Any], note: str) -> None: ...

    ref = site.files.save("some-job", "a.csv", "text/csv", [b"a,b"])
    sent = merge.send_with_options(args=(dict(ref), "n"), owner="alice")
    end(client, sent.message_id)
    answer = retry(client, sent.message_id)

    if name == "hidden":
        assert 422 == answer.status_code
        return
    table, note = queued()[answer.json()["id"]]["args"]
    assert (201, "n", "a.csv") == (answer.status_code, note, table["name"])
    assert ref["key"] != table["key"]
    with site.files.open(table) as file:
        assert b"a,b" == file.read()


def test_who_may(site: Site, client: httpx.Client) -> None:
    """The owner with `jobs:write`; an administrator's retry stays the owner's job."""
    old = client.post("/jobs", json={"actor": "merge"}).json()["id"]
    end(client, old)
    clients = [
        site.client("bob"), site.client(None), site.client(scopes="jobs:read"),
        site.client("root", scopes="jobs:write jobs:admin"),
    ]  # fmt: skip
    try:
        answers = [retry(one, old) for one in clients]
    finally:
        for one in clients:
            one.close()

    assert [404, 401, 403, 201] == [answer.status_code for answer in answers]
    assert "alice" == answers[-1].json()["owner"]


@pytest.mark.contract("Retrying: the queue cannot take it")
def test_a_broker_that_refuses_is_503_and_leaves_nothing(
    settings: Settings, redis_client: redis.Redis, broker_url: str
) -> None:
    """No job and no copy of the file."""

    class Moody(RedisBroker):
        """Refuses when told to."""

        refuses = False

        def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
            if self.refuses:
                raise ConnectionError("away")
            return super().enqueue(message, delay=delay)

    broker = Moody(url=broker_url, namespace=settings.broker_namespace, middleware=[])  # type: ignore[no-untyped-call]
    with serving(create_app(settings, broker=broker), settings) as url:
        site = Site(url, settings, redis_client)
        site.announce("merge", SCHEMA)
        with site.client() as client:
            old = with_file(client)
            broker.refuses = True
            answer = retry(client, old)
            listed = client.get("/jobs").json()["jobs"]

    assert 503 == answer.status_code
    assert [old] == [state["id"] for state in listed]
    assert 1 == len([path for path in Path(settings.data / "files").rglob("*") if path.is_file()])
