"""Mounted under a path of another ASGI application: whose lifespan runs is not ours."""

from collections.abc import Iterator

import pytest
import redis
from starlette.applications import Starlette
from starlette.routing import Mount

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.support.server import Site, Way, serving


@pytest.fixture(params=["hand-over", "send"])
def site(request: pytest.FixtureRequest, settings: Settings, redis_client: redis.Redis) -> Iterator[Site]:
    """Under /tools/progress of a host application."""
    way: Way = request.param
    host = Starlette(routes=[Mount("/tools/progress", create_app(settings))])
    with serving(host, settings, way) as url:
        yield Site(f"{url}/tools/progress", settings, redis_client)


def test_it_becomes_ready_without_a_lifespan(site: Site) -> None:
    """The first request begins what the lifespan would have begun."""
    site.wait_until_ready()


def test_addresses_hold_the_path_that_it_is_mounted_under(site: Site) -> None:
    """`Location`, and the cookie's path."""
    site.announce()
    with site.client() as client:
        made = client.post("/jobs", json={"actor": "personalize"})
        link = client.get(f"/?token={site.token()}")

    assert f"/tools/progress/jobs/{made.json()['id']}" == made.headers["Location"]
    assert (303, "/tools/progress/") == (link.status_code, link.headers["Location"])
    assert "Path=/tools/progress;" in link.headers["Set-Cookie"] + ";"


def test_the_page_its_files_and_tickets_work_there(site: Site) -> None:
    """All that stands in a URL."""
    job = site.job()
    job.start()
    job.succeed({"rows": 1})
    with site.client() as client, site.client(None) as nobody:
        ticket = client.post("/tickets", json={}).json()["token"]

        assert 200 == nobody.get("/").status_code
        assert 200 == nobody.get("/assets/dashboard/index.html").status_code
        assert {"rows": 1} == nobody.get(f"/jobs/job-1/result?token={ticket}").json()
        assert 404 == nobody.get("/jobs/").status_code


def test_a_stream_runs_there_to_its_end(site: Site) -> None:
    """Live, although nothing but a request has ever been told to this application."""
    job = site.job()
    with site.client() as client, client.stream("GET", "/jobs/job-1/events") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line == "event: queued")
        job.start()
        job.succeed({})
        names = [line[7:] for line in lines if line.startswith("event: ")]

    assert ["started", "succeeded"] == names
