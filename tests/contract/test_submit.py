"""`POST /jobs` with JSON: what is taken, what is refused and how, and the same thing twice."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from progress_stream import jobs
from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.support.server import Site, serving
from tests.support.waiting import until

SCHEMA = {
    "type": "object",
    "properties": {
        "rows": {"type": "integer"},
        "file": {"type": "string", "format": "binary"},
        "note": {"type": "string"},
    },
    "required": ["rows"],
    "additionalProperties": False,
}


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """Alice's, while a worker announces `count`."""
    site.announce("count", SCHEMA)
    with site.client() as client:
        yield client


@pytest.fixture
def queued(settings: Settings, broker_url: str) -> Iterator[Any]:
    """The messages that the broker has got."""
    with redis.Redis.from_url(broker_url) as broker:
        yield lambda: [json.loads(text) for text in broker.hvals(f"{settings.broker_namespace}:default.msgs")]


def post(client: httpx.Client, body: Any, **headers: str) -> httpx.Response:
    return client.post("/jobs", json=body, headers=headers)


@pytest.mark.contract("POST /jobs", "POST /jobs: taken")
def test_a_job_is_made_and_its_message_sent(client: httpx.Client, queued: Any) -> None:
    """201, where it is, and its whole state at once."""
    answer = post(client, {"actor": "count", "args": {"rows": 3}, "title": "March"})

    state = answer.json()
    assert 201 == answer.status_code
    assert f"/jobs/{state['id']}" == answer.headers["Location"]
    assert set(jobs.FIELDS) == set(state)
    assert ("queued", "alice", "March", None) == (
        state["state"],
        state["owner"],
        state["title"],
        state["waiting_for"],
    )
    [message] = queued()
    assert (state["id"], "count", {"rows": 3}) == (
        message["message_id"],
        message["actor_name"],
        message["kwargs"],
    )
    assert ("alice", "March") == (message["options"]["owner"], message["options"]["title"])


@pytest.mark.contract("POST /jobs: taken")
def test_the_job_can_be_read_at_once(client: httpx.Client) -> None:
    """No moment between the answer and the job."""
    made = post(client, {"actor": "count", "args": {"rows": 3}})

    assert made.json() == client.get(made.headers["Location"]).json()


def test_who_submits_owns(site: Site, client: httpx.Client) -> None:
    """A job is its submitter's, and for others it is not there."""
    made = post(client, {"actor": "count", "args": {"rows": 3}})

    with site.client("bob") as bob:
        assert 404 == bob.get(made.headers["Location"]).status_code


@pytest.mark.contract("POST /jobs: bad input, an unknown argument, text where a file belongs")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "actor"),
        ({"actor": 7}, "actor"),
        ({"actor": "a b"}, "actor"),
        ({"actor": "count", "args": [1]}, "args"),
        ({"actor": "count", "args": {}}, "rows"),
        ({"actor": "count", "args": {"rows": "many"}}, "rows"),
        ({"actor": "count", "args": {"rows": 1, "speed": 2}}, "speed"),
        ({"actor": "count", "args": {"rows": 1, "file": "/etc/passwd"}}, "file"),
        ({"actor": "count", "args": {"rows": 1, "file": {"key": "other-job/0"}}}, "file"),
        ({"actor": "count", "args": {"rows": 1}, "title": ["x"]}, "title"),
        ({"actor": "count", "args": {"rows": 1}, "title": "a\nb"}, "title"),
        ({"actor": "count", "args": {"rows": 1}, "owner": "bob"}, "owner"),
    ],
)
def test_bad_input_is_422_and_names_the_field(
    client: httpx.Client, queued: Any, body: Any, field: str
) -> None:
    """Which one it is, for a person and for a program; and nothing is sent."""
    answer = post(client, body)

    problem = answer.json()
    assert (422, field) == (answer.status_code, problem["field"])
    assert field in problem["detail"]
    assert [] == queued()


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '"x"', '{"actor": NaN}', '{"actor": 1e999}', "[" * 30_000, '{"actor": "\udcff"}']
)
def test_what_is_no_json_object_is_422(client: httpx.Client, text: str) -> None:
    """Nesting without end and half characters included."""
    content = text.encode(errors="surrogateescape")[:19_000]
    answer = client.post("/jobs", content=content, headers={"Content-Type": "application/json"})

    assert (422, "body") == (answer.status_code, answer.json()["field"])


def test_a_half_character_is_refused_and_not_sent(client: httpx.Client, queued: Any) -> None:
    """JSON can say a lone surrogate; UTF-8 cannot."""
    text = '{"actor": "count", "args": {"rows": 1}, "title": "\\ud800"}'
    answer = client.post("/jobs", content=text, headers={"Content-Type": "application/json"})

    assert (422, "title") == (answer.status_code, answer.json()["field"])
    assert [] == queued()


@pytest.mark.contract("POST /jobs: an actor that nobody announces")
def test_an_actor_that_nobody_announces_is_422_and_names_those_that_are(client: httpx.Client) -> None:
    """A typo shows itself."""
    answer = post(client, {"actor": "cuont"})

    assert 422 == answer.status_code
    assert ["count"] == answer.json()["announced"]
    assert "count" in answer.json()["detail"].removeprefix("no worker announces actor 'cuont'")


@pytest.mark.contract("POST /jobs: neither media type")
def test_another_media_type_is_415(client: httpx.Client) -> None:
    """What a foreign page can send without a preflight is not read."""
    answer = client.post("/jobs", content='{"actor": "count"}', headers={"Content-Type": "text/plain"})

    assert (415, "application/problem+json") == (answer.status_code, answer.headers["Content-Type"])


@pytest.mark.contract("POST /jobs: a file over FILE_BYTES, the rest over BODY_BYTES", "BODY_BYTES")
def test_a_body_over_the_limit_is_413(client: httpx.Client) -> None:
    """By its announced length, and by what comes where none is announced."""
    body = json.dumps({"actor": "count", "args": {"rows": 1, "note": "x" * 30_000}}).encode()
    headers = {"Content-Type": "application/json"}

    announced = client.post("/jobs", content=body, headers=headers)
    streamed = client.post("/jobs", content=iter([body[:10_000], body[10_000:]]), headers=headers)

    assert (413, 413) == (announced.status_code, streamed.status_code)
    assert "BODY_BYTES" in announced.json()["detail"]


class TestTheSameKeyTwice:
    """`Idempotency-Key`: the same key, caller and content is the same job."""

    BODY = {"actor": "count", "args": {"rows": 3}}  # noqa: RUF012

    @pytest.mark.contract("POST /jobs")
    def test_the_same_content_gives_the_same_job(self, client: httpx.Client, queued: Any) -> None:
        """200, and one message."""
        first = post(client, self.BODY, **{"Idempotency-Key": "k-1"})
        second = post(client, self.BODY, **{"Idempotency-Key": "k-1"})

        assert (201, 200) == (first.status_code, second.status_code)
        assert first.json()["id"] == second.json()["id"]
        assert 1 == len(queued())

    @pytest.mark.contract("POST /jobs")
    def test_other_content_is_409(self, client: httpx.Client, queued: Any) -> None:
        """A key is for one thing."""
        post(client, self.BODY, **{"Idempotency-Key": "k-1"})
        answer = post(client, {"actor": "count", "args": {"rows": 4}}, **{"Idempotency-Key": "k-1"})

        assert (409, "application/problem+json") == (answer.status_code, answer.headers["Content-Type"])
        assert 1 == len(queued())

    def test_another_caller_has_keys_of_their_own(self, site: Site, client: httpx.Client) -> None:
        """Nobody can find out, or take, what another's key has made."""
        with site.client("bob") as bob:
            mine = post(client, self.BODY, **{"Idempotency-Key": "k-1"})
            theirs = post(bob, self.BODY, **{"Idempotency-Key": "k-1"})

        assert (201, 201) == (mine.status_code, theirs.status_code)
        assert mine.json()["id"] != theirs.json()["id"]

    def test_many_at_once_are_one_job(self, site: Site, client: httpx.Client, queued: Any) -> None:
        """A form that is sent by an impatient person."""

        def send(_: int) -> httpx.Response:
            with site.client() as own:
                return post(own, self.BODY, **{"Idempotency-Key": "k-1"})

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(8)))

        assert [200] * 7 + [201] == sorted(answer.status_code for answer in answers)
        assert 1 == len({answer.json()["id"] for answer in answers})
        assert 1 == len(queued())

    @pytest.mark.contract("POST /jobs")
    def test_a_first_try_that_did_not_reach_the_broker_is_sent_again(
        self, site: Site, client: httpx.Client, queued: Any
    ) -> None:
        """Killed between the job and its message: the same key finishes the work."""
        first = post(client, self.BODY, **{"Idempotency-Key": "k-1"}).json()["id"]
        key = site.store.commands.keys.state(first)
        site.redis.hset(key, "confirmed", "0")
        before = len(queued())

        answer = post(client, self.BODY, **{"Idempotency-Key": "k-1"})

        assert (200, first) == (answer.status_code, answer.json()["id"])
        assert before + 1 >= len(queued()) >= before
        assert b"1" == site.redis.hget(key, "confirmed")

    def test_a_job_that_is_removed_before_it_is_read_is_asked_for_again(
        self, settings: Settings, redis_client: redis.Redis
    ) -> None:
        """Taken back by another process whose broker refused, it is made anew; deleted, it is 409. Never 404."""
        app = create_app(settings)
        submitter = app.state.parts.submitter
        submit, removals = submitter.submit, []

        def submit_and_remove(submission: Any) -> Any:
            submitted = submit(submission)
            if removals:
                call = submitter._store.commands.remove(
                    submitted.job, statuses=("queued",), tombstone=removals.pop()
                )
                submitter._store.send(call)
            return submitted

        submitter.submit = submit_and_remove
        with serving(app, settings) as url:
            site = Site(url, settings, redis_client)
            site.announce("count", SCHEMA)
            with site.client() as client:
                first = post(client, self.BODY, **{"Idempotency-Key": "k-1"})
                removals.append(False)
                anew = post(client, self.BODY, **{"Idempotency-Key": "k-1"})
                removals.append(True)
                deleted = post(client, self.BODY, **{"Idempotency-Key": "k-1"})

        assert [201, 201, 409] == [answer.status_code for answer in (first, anew, deleted)]
        assert first.json()["id"] == anew.json()["id"]

    @pytest.mark.parametrize("refuses", [False, True])
    def test_two_processes_at_once_send_one_message(
        self, settings: Settings, redis_client: redis.Redis, broker_url: str, queued: Any, refuses: bool
    ) -> None:
        """The second waits for what becomes of the first: the same job, or where its broker refuses, one of its own. Its file is
        kept only then."""
        broker = _Held(url=broker_url, namespace=settings.broker_namespace, middleware=[])  # type: ignore[no-untyped-call]
        broker.refuses = refuses

        def send(site: Site) -> httpx.Response:
            with site.client() as own:
                return own.post(
                    "/jobs", data={"actor": "count", "rows": "3"}, files={"file": ("a.csv", b"a,b")},
                    headers={"Idempotency-Key": "k-1"},
                )  # fmt: skip

        with (
            serving(create_app(settings, broker=broker), settings) as one,
            serving(create_app(settings), settings) as other,
            redis_client.pubsub(ignore_subscribe_messages=True) as changes,
            ThreadPoolExecutor(2) as pool,
        ):
            first, second = (Site(url, settings, redis_client) for url in (one, other))
            first.announce("count", SCHEMA)
            answers = [pool.submit(send, first)]
            assert broker.asked.wait(20)
            changes.subscribe(first.store.commands.keys.owner_channel("alice"))
            until(lambda: redis_client.pubsub_numsub(*changes.channels)[0][1])
            answers.append(pool.submit(send, second))
            # A submission tells its owner's watchers of the job each time that it looks: twice, so the second one waits.
            for _ in range(2):
                until(lambda: changes.get_message(timeout=1))
            sent_meanwhile = queued()
            broker.go_on.set()
            codes = [answer.result(20).status_code for answer in answers]
            files = [path for path in (settings.data / "files").rglob("*") if path.is_file()]

        assert [] == sent_meanwhile
        assert ([503, 201] if refuses else [201, 200]) == codes
        [message] = queued()
        assert [message["kwargs"]["file"]["key"]] == [
            str(path.relative_to(settings.data / "files")) for path in files
        ]

    @pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
    def test_a_key_that_cannot_be_one_is_422(self, client: httpx.Client, key: str) -> None:
        """Rather than half of it."""
        answer = post(client, self.BODY, **{"Idempotency-Key": key})

        assert (422, "Idempotency-Key") == (answer.status_code, answer.json()["field"])


class _Refusing(RedisBroker):
    """A broker's client that is cut off when it is to send."""

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        raise ConnectionError("redis://:secret@broker:6379 is away")


class _Held(RedisBroker):
    """A broker's client that takes its time, and then sends or is cut off."""

    refuses = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        self.asked.set()
        assert self.go_on.wait(20)
        if self.refuses:
            raise ConnectionError("away")
        return super().enqueue(message, delay=delay)


@pytest.mark.contract("POST /jobs: the queue cannot take it")
def test_a_broker_that_refuses_is_503_and_leaves_no_ghost(
    settings: Settings, redis_client: redis.Redis, broker_url: str
) -> None:
    """No job, no file, no word of the broker; the same key then begins anew."""
    broker = _Refusing(url=broker_url, middleware=[])  # type: ignore[no-untyped-call]
    with serving(create_app(settings, broker=broker), settings) as url:
        site = Site(url, settings, redis_client)
        site.announce("count", SCHEMA)
        with site.client() as client:
            answer = client.post(
                "/jobs",
                data={"actor": "count", "rows": "1"},
                files={"file": ("a.csv", b"a,b")},
                headers={"Idempotency-Key": "k-1"},
            )

    assert 503 == answer.status_code
    assert answer.headers["Retry-After"].isdecimal()
    assert "secret" not in answer.text
    assert [] == redis_client.keys(f"{settings.namespace}:*:job:*:state")
    assert [] == [path for path in (settings.data / "files").rglob("*") if path.is_file()]
