"""FastAPI, Starlette and Django around us, on uvicorn, on uvicorn with our protocol, and on granian."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import redis
from pydantic import SecretStr

from progress_stream.frames.sse import Frame, Parser
from progress_stream.settings import Settings, load
from tests.conftest import BROKER_DB, STORE_DB
from tests.mounts.hosts import PREFIX
from tests.mounts.processes import HOSTS, SERVERS, Process
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Site

PAIRS = list(itertools.product(SERVERS, HOSTS))


class Mounted(Site):
    """A site under the prefix of a host that runs in a process of its own."""

    def __init__(self, process: Process, server: str, settings: Settings, client: redis.Redis) -> None:
        super().__init__(process.url + PREFIX, settings, client)
        self.process = process
        #: Whether the server lets an application know that it stops.
        self.is_told = server != "granian"


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: f"{pair[1]} on {pair[0]}")
def mounted(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mounted]:
    """One process for all tests of a pair. The last of them ends it."""
    server, host = request.param
    settings = load(
        redis_url=redis_server.url(STORE_DB), broker_url=redis_server.url(BROKER_DB),
        namespace=f"t{uuid4().hex[:12]}", data=tmp_path_factory.mktemp("data"), jwt_secret=SecretStr(SECRET),
    )  # fmt: skip
    with redis_server.client(STORE_DB) as client:
        process = Process(server, host, _environment(settings), Path(settings.data) / "server.log")
        try:
            yield Mounted(process, server, settings, client)
        finally:
            process.stop()


def _environment(settings: Settings) -> dict[str, str]:
    told = {
        "REDIS_URL": settings.redis_url, "BROKER_URL": settings.broker_url, "NAMESPACE": settings.namespace,
        "DATA": settings.data, "JWT_SECRET": SECRET,
    }  # fmt: skip
    return {f"PROGRESS_STREAM_{name}": str(value) for name, value in told.items()}


def frames_of(stream: httpx.Response) -> Iterator[Frame]:
    """As they come."""
    parser = Parser()
    for chunk in stream.iter_raw():
        yield from parser.feed(chunk)


def test_the_host_answers_beside_us_and_we_become_ready(mounted: Mounted) -> None:
    """Live delivery proves itself there without a lifespan of ours."""
    answer = httpx.get(f"{mounted.process.url}/own")
    mounted.wait_until_ready()

    assert (200, "the host's") == (answer.status_code, answer.text.strip('"'))


def test_a_job_is_submitted_and_found_under_the_prefix(mounted: Mounted) -> None:
    """`Location` can be asked as it stands."""
    mounted.announce()
    with mounted.client() as client:
        made = client.post("/jobs", json={"actor": "personalize"})
        location = made.headers["Location"]
        found = client.get(f"{mounted.process.url}{location}")

    assert (201, f"{PREFIX}/jobs/{made.json()['id']}") == (made.status_code, location)
    assert (200, made.json()["id"]) == (found.status_code, found.json()["id"])


def test_the_page_its_files_and_the_sign_in_by_link_stay_under_the_prefix(mounted: Mounted) -> None:
    """The cookie goes to us alone, and is enough to read."""
    with mounted.client(None) as client:
        page = client.get("/")
        index = client.get("/assets/dashboard/index.html")
        link = client.get(f"/?token={mounted.token()}")
        cookie = link.headers["Set-Cookie"]
        jobs = client.get("/jobs")

    assert (200, 200) == (page.status_code, index.status_code)
    assert (303, f"{PREFIX}/") == (link.status_code, link.headers["Location"])
    assert f"Path={PREFIX};" in cookie + ";"
    assert 200 == jobs.status_code


def test_a_stream_is_live_to_its_end_and_resumes(mounted: Mounted) -> None:
    """Nothing on the way holds an event back, and whoever comes back gets the rest, then 204."""
    job = mounted.job("streamed")
    with mounted.client() as client:
        with client.stream("GET", "/jobs/streamed/events") as stream:
            frames = frames_of(stream)
            first = [next(frames), next(frames)]
            job.start()
            first.append(next(frames))
        job.append("line", 3)
        job.succeed({})
        with client.stream("GET", "/jobs/streamed/events", headers={"Last-Event-ID": first[-1].id}) as stream:
            rest = list(frames_of(stream))
        after = client.get("/jobs/streamed/events", headers={"Last-Event-ID": rest[-1].id})

    assert ["position", "queued", "started"] == [frame.event for frame in first]
    assert ["position", "line", "line", "line", "succeeded"] == [frame.event for frame in rest]
    assert 204 == after.status_code


def test_sigterm_ends_its_streams_and_then_the_process(mounted: Mounted) -> None:
    """A watcher is told, its answer ends in order, and it comes back to another server. The last test of a pair.

    granian tells nobody that it stops, and cuts what is still open after its own time: the watcher comes back all the same.
    """
    mounted.job("left")
    with mounted.client() as client, client.stream("GET", "/jobs/left/events") as stream:
        frames = frames_of(stream)
        seen = [next(frames), next(frames)]
        asked_at = time.monotonic()
        mounted.process.terminate()
        if mounted.is_told:
            seen += list(frames)
        else:
            with suppress(httpx.RemoteProtocolError, httpx.ReadError):
                seen += list(frames)
        seconds = time.monotonic() - asked_at

    assert ["position", "queued", *(["draining"] if mounted.is_told else [])] == [
        frame.event for frame in seen
    ]
    assert seconds < 10
    assert mounted.process.wait(15) is not None, mounted.process.said()
