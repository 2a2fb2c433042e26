"""Streaming turned off while pages stay as they are: they poll within a poll interval, show all that comes, and stream again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Page, expect
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import Settings, load
from tests.browser.following import ENDED, follow, until, whole
from tests.conftest import BROKER_DB, STORE_DB
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Attempt, Site, serving
from tests.support.switch import Switch
from tests.support.waiting import until as wait_until

#: Each waits for many polls.
pytestmark = pytest.mark.slow

POLL_SECONDS = 2
#: Until every web server has heard of the switch: `docs/operations.md`.
HEARD_SECONDS = 3
#: From the end of the last stream to the first poll, in ms, as the browser timed them; null before there is one.
TO_FIRST_POLL = """(() => {
  const asked = performance.getEntriesByType("resource").filter(({ name }) => /\\/jobs\\/job-1\\/events/.test(name));
  const polls = asked.filter(({ startTime }) => startTime > window.offAt);
  const ended = asked.filter((one) => one.startTime <= window.offAt && one.responseEnd >= window.offAt);
  return polls.length && ended.length ? polls[0].startTime - Math.max(...ended.map((one) => one.responseEnd)) : null;
})()"""


#: How often a page that polls asks whether there are streams again: `docs/operations.md`.
LOOK_SECONDS = 10
#: How often it did since it was told that there are none.
LOOKS = """performance.getEntriesByType("resource")
  .filter(({ name, startTime }) => /\\/config\\.json$/.test(name) && startTime > window.offAt).length"""
#: That time goes by for the page.
LATER = f"(() => {{ const now = Date.now; Date.now = () => now() + {1000 * LOOK_SECONDS}; }})()"


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    return load(
        redis_url=redis_server.url(STORE_DB), broker_url=redis_server.url(BROKER_DB),
        namespace=f"t{uuid4().hex[:12]}", data=tmp_path, jwt_secret=SecretStr(SECRET), poll_seconds=POLL_SECONDS,
        ready_seconds=0, drain_seconds=0,
    )  # fmt: skip


@pytest.fixture
def address() -> Iterator[Switch]:
    """What the page knows of the server, whichever runs there."""
    with Switch(0) as address:
        yield address


@contextmanager
def switched_by_command(site: Site, address: Switch) -> Iterator[None]:
    """`progress-stream streaming off`, and `on` at the end."""
    site.store.send(site.store.commands.switch_streaming(False))
    yield
    site.store.send(site.store.commands.switch_streaming(True))


@contextmanager
def switched_by_setting(site: Site, address: Switch) -> Iterator[None]:
    """Another server with STREAMING=false takes the address over, and at the end the first has it again."""
    settings = site.settings.model_copy(update={"streaming": False})
    before = address.target
    with serving(create_app(settings), settings) as url:
        address.point(int(url.rpartition(":")[2]))
        yield
        address.point(before)


def report(job: Attempt, page: Page, done: int) -> None:
    """One state more, and the page shows it."""
    job.append("progress", done=done, total=9)
    expect(page.locator("#count")).to_contain_text(f"{done} of 9", timeout=20_000)


def until_on(address: Switch) -> None:
    """The server has heard that there are streams again."""
    wait_until(lambda: httpx.get(f"http://127.0.0.1:{address.port}/config.json").json()["streaming"])


@pytest.mark.parametrize("switched", [switched_by_command, switched_by_setting])
def test_a_page_polls_within_a_poll_interval_and_streams_again(
    page: Page, settings: Settings, address: Switch, redis_server: RedisServer,
    switched: Callable[[Site, Switch], AbstractContextManager[None]],
) -> None:  # fmt: skip
    """Ours, and what its own client hands on: every event once."""
    with ExitStack() as open_now:
        client = open_now.enter_context(redis_server.client(STORE_DB))
        url = open_now.enter_context(serving(create_app(settings), settings))
        site = Site(url, settings, client)
        address.point(int(url.rpartition(":")[2]))
        job = site.job()
        job.start()
        page.goto(f"http://127.0.0.1:{address.port}/?token={site.token()}#/jobs/job-1")
        expect(page.locator("#connection")).to_have_text("Live")
        follow(page, "job-1")
        report(job, page, 1)

        page.evaluate("window.offAt = performance.now()")
        began = time.monotonic()
        with switched(site, address):
            expect(page.locator("#connection")).to_have_text("Polling", timeout=20_000)
            took = time.monotonic() - began
            for done in (2, 3):
                report(job, page, done)
            until(page, f"{TO_FIRST_POLL} !== null")
            gap = page.evaluate(TO_FIRST_POLL)
            looks, looked = page.evaluate(LOOKS), time.monotonic() - began
        until_on(address)
        page.evaluate(LATER)
        expect(page.locator("#connection")).to_have_text("Live", timeout=20_000)
        report(job, page, 4)
        job.succeed()
        until(page, ENDED)

    assert whole(page)
    assert [1, 2, 3, 4] == page.evaluate("[...new Set(window.seen.done)].filter((done) => done)")
    assert gap < POLL_SECONDS * 1000
    assert took < HEARD_SECONDS + POLL_SECONDS
    assert looks <= 1 + looked / LOOK_SECONDS
