"""`GET /healthz` and `GET /readyz`."""

from pathlib import Path

import httpx
import pytest
import redis
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import Settings, load
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Site, running, serving
from tests.support.waiting import until


@pytest.mark.contract("GET /healthz", "GET /readyz")
def test_a_process_that_serves_is_alive_and_soon_ready(site: Site) -> None:
    """Ready only once an event published here has come back by the live path."""
    with site.client(None) as client:
        assert 200 == client.get("/healthz").status_code
        until(lambda: client.get("/readyz").status_code == 200)


@pytest.mark.contract("GET /healthz", "GET /readyz")
def test_without_redis_it_is_alive_and_not_ready(tmp_path: Path) -> None:
    """A restart would not help; another process might."""
    with RedisServer(tmp_path / "redis") as server:
        settings = load(
            redis_url=server.url(0),
            data=tmp_path,
            jwt_secret=SecretStr(SECRET),
            ready_seconds=0,
            drain_seconds=0,
        )
        with serving(create_app(settings), settings) as url:
            until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
            server.stop()
            alive, ready = httpx.get(f"{url}/healthz"), httpx.get(f"{url}/readyz", timeout=20)
            server.start()
            until(lambda: httpx.get(f"{url}/readyz", timeout=20).status_code == 200)

    assert (200, 503) == (alive.status_code, ready.status_code)
    assert "application/problem+json" == ready.headers["Content-Type"]
    assert "Redis does not answer" == ready.json()["detail"]


@pytest.mark.contract("GET /readyz", "READY_SECONDS")
def test_a_server_that_will_go_says_so_before_it_goes(settings: Settings) -> None:
    """READY_SECONDS in which all else still works: load balancers look away in that time."""
    slow = settings.model_copy(update={"ready_seconds": 2})
    with running(create_app(slow), slow) as (url, server):
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        server.stop()
        until(lambda: httpx.get(f"{url}/readyz").status_code == 503)

        assert "draining" in httpx.get(f"{url}/readyz").json()["detail"]
        assert 200 == httpx.get(f"{url}/config.json").status_code


def test_without_redis_an_answer_is_503_that_says_when_to_come_back(tmp_path: Path) -> None:
    """And no word of Redis' own."""
    with RedisServer(tmp_path / "redis") as server:
        settings = load(
            redis_url=server.url(0),
            data=tmp_path,
            jwt_secret=SecretStr(SECRET),
            ready_seconds=0,
            drain_seconds=0,
        )
        with serving(create_app(settings), settings) as url, server.client(0) as client:
            site = Site(url, settings, client)
            site.job()
            server.stop()
            with site.client() as alice:
                answers = [
                    alice.get("/jobs/job-1"), alice.get("/jobs/job-1/result"), alice.get("/actors"),
                    alice.post("/tickets", json={}), alice.post("/jobs", json={"actor": "personalize"}),
                ]  # fmt: skip

    for answer in answers:
        assert (503, "application/problem+json") == (answer.status_code, answer.headers["Content-Type"])
        assert answer.headers["Retry-After"].isdecimal()
        assert str(server.port) not in answer.text


def test_a_job_whose_workers_are_all_gone_is_still_watched_over(
    settings: Settings, redis_client: redis.Redis
) -> None:
    """The web server takes its turn in the sweep: a silent job is `stalled`, and told so."""
    strict = settings.model_copy(update={"stalled_seconds": 1})
    with serving(create_app(strict), strict) as url:
        site = Site(url, strict, redis_client)
        site.job().start()
        with site.client() as alice:
            alice.get("/jobs/job-1")
            until(lambda: alice.get("/jobs/job-1").json()["stalled"], 30)
