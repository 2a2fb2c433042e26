"""The same job by eight foreign clients at once: 300 events, hostile strings, cuts at any byte, heartbeats every second."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import load
from tests.clients.runs import CLIENTS, ENDED_BY_502, Follower, Told, start
from tests.conftest import BROKER_DB, STORE_DB
from tests.foreign.strings import HOSTILE
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Attempt, Site, serving

#: Nine clients, each over a dozen cuts.
pytestmark = pytest.mark.slow

EVENTS = 300
TYPES = ("queued", "started", "line", "own.type-2", "log", "succeeded")
#: Bytes after which an answer is cut: anywhere, a dozen times in the job's 130 KB.
CUT_AFTER = (1, 24_000)
#: Longer than a heartbeat, so that some pass while nothing else does.
SILENCE_SECONDS = 1.3
PATIENCE_SECONDS = 90.0


@dataclass
class Outcome:
    """How one client fared."""

    code: int | None
    told: list[Told]
    complaints: str
    connections: int


@dataclass
class Matrix:
    """What the stream held, and what each client made of it."""

    texts: list[str]
    stored: list[Told]
    heartbeats: int
    outcomes: Mapping[str, Outcome]


@pytest.fixture(scope="module")
def matrix(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """One job, followed by all of them while it runs."""
    folder = tmp_path_factory.mktemp("clients")
    settings = load(
        redis_url=redis_server.url(STORE_DB), broker_url=redis_server.url(BROKER_DB),
        namespace=f"t{uuid4().hex[:12]}", data=folder, jwt_secret=SecretStr(SECRET), heartbeat_seconds=1,
        ready_seconds=0, drain_seconds=0,
    )  # fmt: skip
    with ExitStack() as open_now, redis_server.client(STORE_DB) as client:
        site = Site(open_now.enter_context(serving(create_app(settings), settings)), settings, client)
        job = site.job()
        followers = [_follow(site, job, name, seed, folder, open_now) for seed, name in enumerate(CLIENTS)]
        watching = open_now.enter_context(ThreadPoolExecutor()).submit(_heartbeats, site, job)
        texts = _run(job, followers)
        until = time.monotonic() + PATIENCE_SECONDS
        outcomes = {each.name: _outcome(each, until) for each in followers}
        yield Matrix(texts, _stored(site, job), watching.result(), outcomes)


def _follow(site: Site, job: Attempt, name: str, seed: int, folder: Path, open_now: ExitStack) -> Follower:
    proxy = open_now.enter_context(Proxy(site.url, seed=seed))
    proxy.cut_after = CUT_AFTER
    with site.client() as client:
        ticket = client.post("/tickets", json={"jobs": [job.job]}).json()["token"]
    path = f"/jobs/{job.job}/events"
    return start(name, proxy, path, token=site.token(), ticket=ticket, types=TYPES, folder=folder)


def _heartbeats(site: Site, job: Attempt) -> int:
    """How many a watcher gets that nobody cuts."""
    with site.client() as client, client.stream("GET", f"/jobs/{job.job}/events") as stream:
        return sum(line.startswith(":") for line in stream.iter_lines())


def _run(job: Attempt, followers: list[Follower]) -> list[str]:
    """Write the job's life while they watch; half-way all are cut, and those that can bear it meet 502 for a second."""
    texts = _texts(EVENTS - 3)
    job.start()
    for number, text in enumerate(texts):
        if number % 50 == 25:
            time.sleep(SILENCE_SECONDS)
        if number == EVENTS // 2:
            _trouble(followers)
        job.append(("line", "own.type-2", "log")[number % 3], message=text)
    job.succeed({"said": texts[-1]})
    return texts


def _texts(count: int) -> list[str]:
    """Every hostile string, alone and between others."""
    drawn = random.Random(7)
    hostile = list(HOSTILE.values())
    return [*hostile, *("".join(drawn.choices(hostile, k=12)) for _ in range(count - len(hostile)))]


def _trouble(followers: list[Follower]) -> None:
    bearing = [each.proxy for each in followers if each.name not in ENDED_BY_502]
    for proxy in bearing:
        proxy.away = True
    for each in followers:
        each.proxy.cut()
    time.sleep(1)
    for proxy in bearing:
        proxy.away = False


def _outcome(follower: Follower, until: float) -> Outcome:
    code = follower.wait(until)
    return Outcome(code, follower.told(), follower.complaints(), len(follower.proxy.streams()))


def _stored(site: Site, job: Attempt) -> list[Told]:
    entries = site.redis.xrange(site.store.commands.keys.events(job.job))
    return [Told(id.decode(), *(value.decode() for value in fields.values())) for id, fields in entries]


def test_the_job_was_as_hostile_as_it_should_be(matrix: Matrix) -> None:
    """Else the rest shows nothing."""
    written = [json.loads(told.data).get("message") for told in matrix.stored]

    assert EVENTS == len(matrix.stored)
    assert matrix.texts == [text for text in written if text is not None]
    assert set(HOSTILE.values()) <= set(matrix.texts)
    assert matrix.heartbeats >= 5


@pytest.mark.parametrize("name", CLIENTS)
def test_its_user_gets_every_event_once_and_in_order_and_no_empty_one(matrix: Matrix, name: str) -> None:
    """The very same ids, types and data as were stored, over a dozen cuts."""
    outcome = matrix.outcomes[name]

    assert (0, "") == (outcome.code, outcome.complaints)
    assert [] == [told for told in outcome.told if not told.data]
    assert matrix.stored == outcome.told
    assert outcome.connections >= 5
