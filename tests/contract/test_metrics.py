"""Numbers for Prometheus and the list of open streams: what they count, what they never tell, and on which port they are."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from progress_stream import metrics
from progress_stream.api.app import create_app
from progress_stream.errors import InvalidInput
from progress_stream.server.run import listen, make_server
from progress_stream.settings import Settings
from tests.support.server import Site, serving
from tests.support.streams import follow, follow_to_end
from tests.worker.conftest import until

Numbers = dict[tuple[str, ...], float]


def numbers_at(url: str) -> Numbers:
    """(name, label values…) → value."""
    answer = httpx.get(f"{url}/metrics")
    assert 200 == answer.status_code
    return {
        (
            sample.name.removeprefix(metrics.PREFIX),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


class Growth:
    """What the numbers of a process, which other tests share, have grown by since."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._before = numbers_at(url)

    def of(self, *name: str) -> float:
        return numbers_at(self._url).get(name, 0) - self._before.get(name, 0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.contract("GET /metrics")
def test_every_metric_is_named_by_prometheus_rules(site: Site) -> None:
    """The prefix, `_total` for counters, base units, and a help for each that is shown."""
    shown = {
        family.name: family
        for family in text_string_to_metric_families(httpx.get(f"{site.url}/metrics").text)
    }
    for one in metrics.ALL:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", one.full_name)
        assert (one.kind == "counter") == one.name.endswith("_total")
        assert (one.kind == "histogram") == one.name.endswith("_seconds")
        family = shown[one.full_name.removesuffix("_total")]
        assert (one.kind, one.help) == (family.type, family.documentation)


@pytest.mark.contract("GET /metrics")
def test_what_is_delivered_is_counted(each_site: Site) -> None:
    """Each event once for each watcher, with its bytes and the time that it took; history on its own too."""
    job = each_site.job()
    job.start()
    growth = Growth(each_site.url)
    with follow(each_site) as one, follow(each_site) as other:
        for stream in (one, other):
            stream.until_number(2)
        assert 2 == growth.of("watchers")
        assert (4, 4) == (growth.of("deliveries_total"), growth.of("replayed_events_total"))
        job.append("line", 10)
        for stream in (one, other):
            stream.until_number(12)

        assert (24, 4) == (growth.of("deliveries_total"), growth.of("replayed_events_total"))
        assert sum(len(frame.data) for frame in one.events) < growth.of("delivered_bytes_total") < 24 * 300
        assert 1 <= growth.of("append_to_delivery_seconds_count") <= 10
        assert 0 <= growth.of("append_to_delivery_seconds_sum") < 10
    until(lambda: growth.of("watchers") == 0)


def test_resumes_are_counted_by_what_they_needed(site: Site) -> None:
    """Nothing, history, or more history than there is; a first visit is none."""
    job = site.job()
    job.start()
    ids = follow(site).until_number(2).ids
    growth = Growth(site.url)
    follow(site, position=ids[1]).until(lambda stream: growth.of("resumes_total", "live") == 1)
    follow(site, position=ids[0]).until_number(2)
    follow(site, position="1-99").until(lambda stream: "snapshot" in stream.types)

    assert [1, 1, 1] == [growth.of("resumes_total", kind) for kind in ("live", "replay", "gap")]


def test_folded_events_are_counted(site: Site) -> None:
    """With what goes out, they make up all that was appended."""
    job = site.job()
    job.start()
    growth = Growth(site.url)
    with follow(site, receive_buffer=4_096) as slow:
        slow.until_number(2)
        for _ in range(40):
            job.append("progress", 100, done=1, total=9, message="x" * 2_000)
        job.succeed()
        slow.to_end()

    folded = growth.of("folded_events_total")
    assert folded > 0
    assert 4_003 == growth.of("deliveries_total") + folded


def test_refusals_are_counted_by_reason(serve: Callable[..., Site]) -> None:
    """Of streams, of bodies and of heads."""
    site = serve(max_streams=1)
    site.job().start()
    growth = Growth(site.url)
    with follow(site) as held:
        held.until_number(2)
        follow_to_end(site)
    big = {"actor": "personalize", "args": {"x": "y" * 30_000}}
    with site.client() as client:
        assert 413 == client.post("/jobs", json=big).status_code
        assert 1 == growth.of("refusals_total", "too_many_streams")
        assert 1 == growth.of("refusals_total", "too_large")


def test_a_head_over_the_limit_is_a_refusal(site: Site) -> None:
    """Though no application hears of it."""
    growth = Growth(site.url)

    assert 431 == httpx.get(f"{site.url}/healthz", headers={"X-Bomb": "x" * 40_000}).status_code
    assert 1 == growth.of("refusals_total", "head_too_large")


def test_answers_are_counted_by_template(site: Site) -> None:
    """Never by the address itself, which holds ids; an unknown address or method makes no series of its own."""
    site.job("job-77")
    growth = Growth(site.url)
    with site.client() as client:
        client.get("/jobs/job-77")
        client.get("/jobs/job-78")
        client.get("/nothing/here")
        client.request("PROPFIND", "/jobs/job-77")

    assert 1 == growth.of("http_requests_total", "GET", "/jobs/{id}", "200")
    assert 1 == growth.of("http_requests_total", "GET", "/jobs/{id}", "404")
    assert 1 == growth.of("http_requests_total", "GET", "-", "404")
    assert 1 == sum(growth.of("http_requests_total", "other", route, "405") for route in ("-", "/jobs/{id}"))


def test_no_label_tells_jobs_or_owners_apart(site: Site) -> None:
    """A series for each would stay for ever, and tell strangers who does what."""
    job = site.job("job-secret-name")
    job.start()
    job.succeed()
    follow_to_end(site, "job-secret-name")
    text = httpx.get(f"{site.url}/metrics").text

    assert "job-secret-name" not in text and "alice" not in text
    assert {"kind", "reason", "method", "route", "status", "queue"} == {
        label for one in metrics.ALL for label in one.labels
    }


def test_a_scraper_gets_the_format_that_it_asks_for(site: Site) -> None:
    """OpenMetrics too."""
    answer = httpx.get(
        f"{site.url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )

    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


# -- a port of their own


@pytest.fixture
def inside(settings: Settings, redis_client: redis.Redis) -> Any:
    port = free_port()
    changed = settings.model_copy(update={"admin_port": port})
    with serving(create_app(changed), changed) as url:
        yield Site(url, changed, redis_client), f"http://127.0.0.1:{port}"


@pytest.mark.contract("GET /metrics", "ADMIN_PORT")
def test_with_admin_port_metrics_are_there_alone(inside: Any) -> None:
    """404 where clients come by, as an address that never was."""
    site, admin = inside

    assert 404 == httpx.get(f"{site.url}/metrics").status_code
    assert "text/plain" in httpx.get(f"{admin}/metrics").headers["content-type"]
    assert numbers_at(admin)[("watchers",)] >= 0
    assert 200 == httpx.get(f"{admin}/healthz").status_code
    answer = httpx.get(f"{admin}/jobs/job-1", headers=site.headers())
    assert (404, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


@pytest.mark.contract("GET /admin/streams")
def test_streams_are_listed_on_the_admin_port(inside: Any) -> None:
    """The furthest behind first, with what tells a slow client from a dead one."""
    site, admin = inside
    job = site.job()
    job.start()
    with follow(site, receive_buffer=4_096) as slow, follow(site) as quick:
        slow.until_number(2)
        quick.until_number(2)
        for _ in range(30):
            job.append("line", 100, message="x" * 2_000)
        quick.until_number(3_002)
        found = httpx.get(f"{admin}/admin/streams").json()

    assert 2 == found["total"]
    first, second = found["streams"]
    assert {
        "job", "owner", "address", "lag", "unsent_bytes", "sent_bytes", "age_seconds", "state",
    } == first.keys()  # fmt: skip
    assert ("job-1", "alice", "127.0.0.1", "blocked") == tuple(
        first[name] for name in ("job", "owner", "address", "state")
    )
    assert first["lag"] > 1_000 and first["unsent_bytes"] > 10_000
    assert ("live", 0) == (second["state"], second["lag"])
    assert 0 < second["age_seconds"] < 60 and second["sent_bytes"] > 6_000_000


@pytest.mark.contract("GET /admin/streams")
def test_the_list_is_for_administrators_on_the_main_port(site: Site) -> None:
    """It names jobs, owners and addresses."""
    site.job().start()
    with follow(site) as held:
        held.until_number(2)
        with site.client(None) as nobody, site.client() as alice, site.client("root", "jobs:admin") as root:
            assert 401 == nobody.get("/admin/streams").status_code
            assert 403 == alice.get("/admin/streams").status_code
            assert ["job-1"] == [row["job"] for row in root.get("/admin/streams").json()["streams"]]


def test_an_admin_port_that_is_taken_stops_the_start(settings: Settings) -> None:
    """With one line that names it, and before anything else has begun."""
    with listen("127.0.0.1", 0, settings) as taken, listen("127.0.0.1", 0, settings) as main:
        changed = settings.model_copy(update={"admin_port": taken.getsockname()[1]})
        app = create_app(changed)

        with pytest.raises(InvalidInput, match=r"ADMIN_PORT: 127\.0\.0\.1:\d+ cannot be listened on"):
            make_server(app, changed).run(sockets=[main])
        assert app.state.parts._started is None
