"""One owner's jobs from another owner: by every route there is, and under ten thousand aborted requests."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from progress_stream.api.app import create_app, routes
from progress_stream.settings import Settings
from tests.contract.test_list import make, move
from tests.contract.test_list_stream import look, tell
from tests.support.server import PATIENCE_SECONDS, WAYS, Attempt, Site, Way, serving
from tests.support.streams import EVENT_STREAM, Response, request
from tests.support.waiting import until

# -- every route

#: What differs between two answers to the same request.
DRAWN = {"x-request-id", "date", "retry-after"}
ACCEPTS = ("*/*", "application/json", EVENT_STREAM, "application/x-ndjson")
#: Parameters of the documented operations that can name a job, and those that cannot. A new one must take its place.
NAMES_A_JOB = {("path", "id"), ("query", "jobs"), ("query", "parent")}
NAMES_NONE = {
    ("header", "Idempotency-Key"), ("header", "If-None-Match"), ("header", "Last-Event-ID"), ("path", "path"), ("query", "actor"),
    ("query", "code"), ("query", "cursor"), ("query", "error"), ("query", "iss"), ("query", "lastEventId"),
    ("query", "last_event_id"), ("query", "limit"),
    ("query", "next"), ("query", "owner"), ("query", "ping"), ("query", "replay"), ("query", "state"),
    ("query", "token"), ("query", "wait"),
}  # fmt: skip
OF_A_JOB = [
    (method, route.path)
    for route in routes()
    if "{id}" in route.path
    for method in sorted(route.methods or {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
]


def bare(answer: httpx.Response, id: str) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but what is drawn for each, with one name for the job."""
    headers = {name: value.replace(id, "ID") for name, value in answer.headers.items() if name not in DRAWN}
    return answer.status_code, headers, answer.content.replace(id.encode(), b"ID")


def jobs_of_alice(site: Site) -> dict[str, Attempt]:
    """One in each state that an answer could differ in; the last has a file."""
    found = {id: make(site, id) for id in ("queued-", "running", "failed-", "succeed")}
    for id, job in found.items():
        if id != "queued-":
            job.start()
            job.append("log", message="a secret of alice's", level="info")
    found["failed-"].fail()
    found["succeed"].succeed({"secret": 1}, found["succeed"].save("secret.csv", "text/csv", b"secret"))
    return found


def test_every_parameter_that_can_name_a_job_is_asked_for_below(site: Site) -> None:
    """From the application's own description: a new one cannot be forgotten."""
    document: dict[str, Any] = httpx.get(f"{site.url}/openapi.json").json()
    operations = [one for path in document["paths"].values() for one in path.values()]
    used = {
        parameter["$ref"].rpartition("/")[2] for one in operations for parameter in one.get("parameters", [])
    }
    shared = document["components"]["parameters"]
    found = {(shared[name]["in"], shared[name]["name"]) for name in used}

    assert NAMES_A_JOB <= found
    assert set() == found - NAMES_A_JOB - NAMES_NONE
    assert {("GET", "/jobs/{id}"), ("DELETE", "/jobs/{id}"), ("GET", "/jobs/{id}/events")} <= set(OF_A_JOB)


@pytest.mark.contract("Who may: another owner's job, on any route and at every reconnect")
def test_another_owners_job_is_as_one_that_never_was_on_every_route(site: Site) -> None:
    """Status, headers and bytes, in every state, for every method and form; by token and by a ticket; and nothing is done to it."""
    jobs = jobs_of_alice(site)
    with site.client() as alice, site.client("bob") as bob:
        ticket = bob.post("/tickets", json={}).json()["token"]
        first = {
            job: site.redis.xrange(site.store.commands.keys.events(job), count=1)[0][0].decode()
            for job in jobs
        }
        forms: list[dict[str, str]] = [{"Accept": accept} for accept in ACCEPTS]
        forms += [{"Accept": EVENT_STREAM, "Authorization": f"Bearer {ticket}"}]
        # A position of each of them in turn: the last one's is the end of a job that is over.
        forms += [
            {"Accept": EVENT_STREAM, "Last-Event-ID": position} for position in list(first.values())[-2:]
        ]
        before = {job: bare(alice.get(f"/jobs/{job}"), job) for job in jobs}
        for (method, path), headers in product(OF_A_JOB, forms):
            answers = [
                bare(bob.request(method, path.format(id=id), headers=headers), id)
                for id in (*jobs, "nothing")
            ]

            assert [answers[-1]] * len(jobs) == answers[:-1], (method, path, headers)
            assert answers[-1][0] in {401, 403, 404, 405}, (method, path, headers)
        after = {job: bare(alice.get(f"/jobs/{job}"), job) for job in jobs}

    assert before == after


def test_another_owners_job_is_as_one_that_never_was_where_a_parameter_names_it(site: Site) -> None:
    """In a list's `parent`, in a ticket's body, in a page's stream, and behind somebody else's key."""
    jobs_of_alice(site)
    asks: list[Callable[[httpx.Client, str], httpx.Response]] = [
        lambda client, id: client.get("/jobs", params={"parent": id}),
        lambda client, id: client.post("/tickets", json={"jobs": [id]}),
        lambda client, id: client.post(f"/jobs/{id}/retry", headers={"Idempotency-Key": id}),
        lambda client, id: client.get("/jobs", params={"owner": "alice"}),
    ]
    with site.client("bob") as bob:
        for ask in asks:
            answers = [bare(ask(bob, id), id) for id in ("succeed", "nothing")]

            assert answers[0] == answers[1]
            assert answers[0][0] in {403, 404}
        assert [] == bob.get("/jobs").json()["jobs"]
    told = []
    for id in ("succeed", "nothing"):
        with look(site, f"jobs={id}", subject="bob") as stream:
            stream.until_type("gone")
            told.append([(frame.event, frame.data.replace(id, "ID")) for frame in stream.frames[1:]])

    assert told[0] == told[1]


def test_a_ticket_opens_its_own_jobs_alone(site: Site) -> None:
    """For one job of her own it opens none of her others, and none of another's; with a position neither."""
    jobs_of_alice(site)
    make(site, "bobs", owner="bob")
    with site.client() as alice, httpx.Client(base_url=site.url) as nobody:
        ticket = alice.post("/tickets", json={"jobs": ["succeed"]}).json()["token"]
        for id, status in (("succeed", 200), ("running", 404), ("bobs", 404), ("never", 404)):
            for path in ("events?wait=0&token=", "result?token="):
                if status == 404 or path.startswith("result"):
                    assert status == nobody.get(f"/jobs/{id}/{path}{ticket}").status_code, (id, path)


# -- aborts

OWNERS = [f"{number:02}" for number in range(16)]
#: Stands in everything that is an owner's: ids, words of events, results, files.
MARK = re.compile(rb"<<([0-9]{2})>>|\bjob-([0-9]{2})\b|\bowner-([0-9]{2})\b")
#: What is asked for; those that end leave the connection for another.
ENDING = {
    "state": "/jobs/job-{o}-ended",
    "list": "/jobs?limit=5",
    "poll": "/jobs/job-{o}-ended/events?wait=0",
    "result": "/jobs/job-{o}-ended/result",
    "file": "/jobs/job-{o}-file/result",
}
STREAMS = {
    "replay": ("/jobs/job-{o}-ended/events", EVENT_STREAM),
    "live": ("/jobs/job-{o}-live/events", EVENT_STREAM),
    "lines": ("/jobs/job-{o}-live/events", "application/x-ndjson"),
    "many": ("/jobs/events", EVENT_STREAM),
    "waiting": ("/jobs/job-{o}-live/events?wait=5&last_event_id=$", "*/*"),
}


def strangers(data: bytes, owner: str) -> set[str]:
    """Whose marks these bytes hold beside their owner's."""
    found = {next(filter(None, groups)).decode() for groups in MARK.findall(data)}
    return found - {owner}


def test_a_strangers_mark_is_found() -> None:
    """Else the test below would prove nothing."""
    assert {"07"} == strangers(b'data: {"message":"<<03>> <<07>>"}', "03")
    assert {"07"} == strangers(b'{"id":"job-07-ended","owner":"owner-03"}', "03")
    assert set() == strangers(b"<<03>> <<0", "03")


def prepare(site: Site) -> list[Attempt]:
    """Of each owner three jobs that are full of its mark; those that go on."""
    live = []
    for owner in OWNERS:
        for kind in ("ended", "file", "live"):
            job = make(site, f"job-{owner}-{kind}", owner=f"owner-{owner}")
            job.start()
            move(site, job, "running")
            job.append("log", 100 if kind == "ended" else 3, message=f"<<{owner}>> " * 20, level="info")
            if kind == "live":
                live.append(job)
                continue
            content = f"<<{owner}>>\n".encode() * 8_000
            job.succeed(
                {"mark": [f"<<{owner}>>"] * 500},
                job.save("x.csv", "text/csv", content) if kind == "file" else None,
            )
            move(site, job, "succeeded")
    return live


@contextmanager
def going_on(site: Site, live: list[Attempt]) -> Iterator[None]:
    """Their events come all the time."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.05):
            for job in live:
                mark = f"<<{job.job[4:6]}>> "
                job.append("log", message=mark * 20, level="info")
                tell(site, job)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)


class Visitors:
    """Many clients at once, who ask on kept connections for one owner after another, as a proxy's pool does, and leave
    at random."""

    def __init__(self, site: Site, seed: int, aborts: int) -> None:
        where = urlsplit(site.url)
        self._host, self._port = where.hostname or "", where.port or 0
        self._tokens = {owner: site.token(f"owner-{owner}", "jobs:read") for owner in OWNERS}
        self._random = Random(seed)
        self._left = aborts
        #: Answers of each kind that held their owner's mark, and how many connections were left in the middle.
        self.marked: Counter[str] = Counter()
        self.aborts = 0

    async def all(self, at_once: int = 10) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._one_after_another())
            for kind in (*ENDING, *STREAMS):
                group.create_task(self._stay(kind))

    async def _one_after_another(self) -> None:
        while self._left > 0:
            self._left -= 1
            await self._visit()

    def _ask(self, kind: str, owner: str) -> bytes:
        path, accept = (ENDING[kind], "*/*") if kind in ENDING else STREAMS[kind]
        headers = {"Authorization": f"Bearer {self._tokens[owner]}", "Accept": accept}
        return request(path.format(o=owner), f"{self._host}:{self._port}", headers)

    def _asks(self) -> list[tuple[str, str, bytes]]:
        """Requests of one connection, a stream the last: kind, owner, bytes."""
        kinds = [
            *self._random.choices(list(ENDING), k=self._random.randint(0, 2)),
            self._random.choice(list(STREAMS)),
        ]
        return [(kind, owner := self._random.choice(OWNERS), self._ask(kind, owner)) for kind in kinds]

    async def _stay(self, kind: str) -> None:
        """Until the owner's mark is there: in the same crowd, each kind does arrive."""
        owner, response = self._random.choice(OWNERS), Response()
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(self._ask(kind, owner))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.marked[kind] and (piece := await reader.read(16_384)):
                response.feed(piece)
                self._check(kind, owner, response)
        writer.transport.abort()

    async def _visit(self) -> None:
        """Until a byte or a moment that was drawn. What arrived until then is looked at whole."""
        asks = self._asks()
        reader, writer = await asyncio.open_connection(self._host, self._port)
        pipelined = self._random.random() < 0.3
        bytes_left = int(self._random.expovariate(1 / 90_000))
        seen: list[tuple[str, str, Response]] = []
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._random.expovariate(1 / 0.3)):
                if pipelined:
                    writer.write(b"".join(data for _, _, data in asks))
                rest = b""
                for kind, owner, data in asks:
                    if not pipelined:
                        writer.write(data)
                    response = Response()
                    seen.append((kind, owner, response))
                    response.feed(rest)
                    while not response.complete and bytes_left > 0:
                        piece = await reader.read(min(bytes_left, 16_384))
                        if not piece:
                            break
                        bytes_left -= len(piece)
                        response.feed(piece)
                    rest = response.rest
                    if not response.complete:
                        break
        # At once and with bytes unread: the other side gets a reset in the middle of whatever it is at.
        writer.transport.abort()
        self.aborts += not (len(seen) == len(asks) and seen[-1][2].complete)
        for kind, owner, response in seen:
            self._check(kind, owner, response)

    def _check(self, kind: str, owner: str, response: Response) -> None:
        body = bytes(response.body)
        assert set() == strangers(body, owner), (kind, owner, body[-500:])
        assert response.status in (0, 200), (kind, body)
        self.marked[kind] += f"<<{owner}>>".encode() in body or f"job-{owner}".encode() in body


def abort(settings: Settings, client: redis.Redis, way: Way, aborts: int, seed: int) -> Visitors:
    many = settings.model_copy(update={"max_streams_per_owner": 1_000})
    app = create_app(many)
    with serving(app, many, way) as url:
        site = Site(url, many, client)
        live = prepare(site)
        visitors = Visitors(site, seed, aborts * 5 // 4)
        with going_on(site, live):
            run: Callable[[Awaitable[None]], None] = asyncio.run  # type: ignore[assignment]
            run(visitors.all())
        until(lambda: app.state.parts.hub.count == 0)
    return visitors


def test_every_byte_is_its_owners_while_a_hundred_leave_in_the_middle(
    settings: Settings, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Streams, lists, states, results and files on kept connections; and none that was left is kept as a stream."""
    visitors = abort(settings, redis_client, "hand-over", 100, seed=1)

    # A busy machine has some of them served before they leave.
    assert visitors.aborts >= 75
    assert [] == [record for record in caplog.records if record.exc_info]
    assert {*ENDING, *STREAMS} == {kind for kind, count in visitors.marked.items() if count}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS)
def test_every_byte_is_its_owners_under_ten_thousand_aborts(
    settings: Settings, redis_client: redis.Redis, way: Way
) -> None:
    """Five thousand by each way in which bytes leave."""
    visitors = abort(settings, redis_client, way, 5_000, seed=2)

    assert visitors.aborts >= 5_000
    assert all(visitors.marked[kind] > 20 for kind in (*ENDING, *STREAMS)), visitors.marked
