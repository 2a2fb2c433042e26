"""The JavaScript client in a real browser: one connection for all tabs, every event once in each, whatever happens on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from progress_stream.auth.verify import sign
from progress_stream.settings import load
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore
from tests.browser.conftest import ARGUMENTS, Dev, executable
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer

SECRET = "a secret for the length of these tests"
#: Longer than any of these tests, on the slowest machine.
LONG_SECONDS = 300
SCOPES = "jobs:read jobs:write"
#: Keeps all that one watch of a page hands on; `n` of each event's id.
FOLLOW = """async ({job, options = {}, token = null}) => {
  const { watchJob } = await import("/assets/client/index.js");
  const seen = (window.seen = { numbers: [], statuses: [], gaps: 0, renewed: 0, done: [] });
  const getToken = token === null ? undefined : async ({ renew }) => {
    if (renew) seen.renewed += 1;
    return renew ? window.newToken() : token;
  };
  window.watching = watchJob(job, {
    base: new URL("/", location.href), tail: Infinity, getToken, ...options,
    onEvent: (event, id) => seen.numbers.push(Number(id.split("-")[1])),
    onState: (state, { gap }) => { seen.gaps += gap; seen.state = state; seen.done.push(state.done); },
    onStatus: (status) => seen.statuses.push(status),
  });
}"""


@pytest.fixture(scope="module")
def server(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """With a heartbeat a second, and a Redis that the tests reach too."""
    folder = tmp_path_factory.mktemp("client")
    with RedisServer(folder / "redis") as redis:
        env = {
            "PROGRESS_STREAM_REDIS_URL": redis.url(0), "PROGRESS_STREAM_JWT_SECRET": SECRET,
            "PROGRESS_STREAM_HEARTBEAT_SECONDS": "1", "PROGRESS_STREAM_POLL_SECONDS": "0.5",
        }  # fmt: skip
        dev = Dev(folder / "data", env)
        store = SyncStore(sync_client(redis.url(0)), load(redis_url=redis.url(0)))
        dev.store = store  # type: ignore[attr-defined]
        yield dev
        dev.stop()
        store.close()


@pytest.fixture
def way(server: Dev) -> Iterator[Proxy]:
    with Proxy(server.url) as between:
        yield between


def start(server: Dev, seconds: int = LONG_SECONDS) -> str:
    """A countdown, which reports as long as it takes: without a number, until it is ended."""
    headers = {"Authorization": f"Bearer {server.token}"}
    body = {"actor": "countdown", "args": {"seconds": seconds}}
    for _ in range(200):
        answer = httpx.post(f"{server.url}/jobs", json=body, headers=headers)
        if answer.status_code == 201:
            return str(answer.json()["id"])
        # Its worker has not announced itself yet.
        time.sleep(0.1)
    raise AssertionError(answer.text)


def end(server: Dev, job: str) -> None:
    answer = httpx.post(
        f"{server.url}/jobs/{job}/cancel", headers={"Authorization": f"Bearer {server.token}"}
    )
    assert 202 == answer.status_code, answer.text


def tab(context: BrowserContext, way: Proxy, server: Dev) -> Page:
    """Signed in, on a page that follows nothing by itself."""
    page = context.new_page()
    # The list has a stream of its own; this view has none.
    page.goto(f"{way.url}/?token={server.token}#/sign-in-failed")
    page.wait_for_function("() => !document.getElementById('view-stop').hidden")
    return page


def follow(page: Page, job: str, **how: Any) -> None:
    page.evaluate(FOLLOW, {"job": job, **how})


def until(page: Page, what: str, seconds: float = 30) -> None:
    page.wait_for_function(f"() => {what}", timeout=seconds * 1000)


def whole(page: Page) -> bool:
    """Every event of the job once and in order, and no gap."""
    numbers = page.evaluate("window.seen.numbers")
    return (
        bool(numbers)
        and numbers == list(range(1, len(numbers) + 1))
        and page.evaluate("window.seen.gaps") == 0
    )


def eventually(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


ENDED = "window.seen.statuses.at(-1) === 'ended'"


def test_seven_tabs_share_one_stream_and_a_closed_leader_leaves_no_gap(
    context: BrowserContext, way: Proxy, server: Dev
) -> None:
    """On HTTP/1.1, where a browser has six connections for all of them."""
    job = start(server)
    tabs = [tab(context, way, server) for _ in range(7)]
    for page in tabs:
        follow(page, job)
    for page in tabs:
        until(page, "window.seen.statuses.at(-1) === 'live' && window.seen.numbers.length > 5")
    streams = len(way.streams())
    tabs[0].close()
    seen = tabs[1].evaluate("window.seen.numbers.length")
    for page in tabs[1:]:
        until(page, f"window.seen.numbers.length > {seen + 3}")
    end(server, job)
    for page in tabs[1:]:
        until(page, ENDED)

    assert 1 == streams
    assert 2 == len(way.streams())
    assert all(whole(page) for page in tabs[1:])
    assert 1 == len({page.evaluate("window.seen.numbers.length") for page in tabs[1:]})


def test_a_tab_that_comes_later_has_all_of_it(context: BrowserContext, way: Proxy, server: Dev) -> None:
    """It looks up what was, and is told what comes."""
    job = start(server)
    first = tab(context, way, server)
    follow(first, job)
    until(first, "window.seen.numbers.length > 5")
    second = tab(context, way, server)
    follow(second, job)
    until(second, "window.seen.numbers.length > 7")
    end(server, job)
    for page in (first, second):
        until(page, ENDED)

    assert whole(first) and whole(second)
    assert 1 == len(way.streams())


def test_more_jobs_than_a_browser_has_connections_are_all_followed(
    context: BrowserContext, way: Proxy, server: Dev
) -> None:
    """Four by streams, the rest by polling; exact in both ways."""
    tabs = [tab(context, way, server) for _ in range(7)]
    jobs = [start(server) for _ in tabs]
    for page, job in zip(tabs, jobs, strict=True):
        follow(page, job)
    for page in tabs:
        until(page, "/live|polling/.test(window.seen.statuses.at(-1)) && window.seen.numbers.length > 5")
    for job in jobs:
        end(server, job)
    for page in tabs:
        until(page, ENDED)

    assert all(whole(page) for page in tabs)
    assert any("polling" in page.evaluate("window.seen.statuses") for page in tabs)


def test_closing_a_watch_leaves_nothing_open(context: BrowserContext, way: Proxy, server: Dev) -> None:
    """No connection, no lock, and nothing is called any more."""
    job = start(server)
    page = tab(context, way, server)
    follow(page, job)
    until(page, "window.seen.statuses.at(-1) === 'live'")
    page.evaluate("window.watching.close()")
    eventually(lambda: not way.carrying())
    seen = page.evaluate("window.seen.numbers.length")
    names = page.evaluate(
        "navigator.locks.query().then(({held, pending}) => [...held, ...pending].map(({name}) => name))"
    )
    page.wait_for_timeout(1_000)
    end(server, job)

    assert [] == [name for name in names if name.startswith("progress-stream")]
    assert seen == page.evaluate("window.seen.numbers.length")


def test_a_proxy_that_keeps_streams_back_is_got_around(
    context: BrowserContext, way: Proxy, server: Dev
) -> None:
    """No byte within three seconds: long-polls."""
    way.buffers = True
    job = start(server)
    page = tab(context, way, server)
    follow(page, job)
    until(page, "window.seen.statuses.at(-1) === 'long-poll'", 5)
    until(page, "window.seen.numbers.length > 5")
    end(server, job)
    until(page, ENDED)

    assert whole(page)
    assert way.polls()


def test_streaming_off_is_polling_and_back(context: BrowserContext, way: Proxy, server: Dev) -> None:
    """At run time, with the bar still moving; then every event is there all the same."""
    store: SyncStore = server.store  # type: ignore[attr-defined]
    job = start(server)
    page = tab(context, way, server)
    follow(page, job)
    until(page, "window.seen.statuses.at(-1) === 'live'")
    store.send(store.commands.switch_streaming(False))
    try:
        until(page, "window.seen.statuses.at(-1) === 'polling'")
        seen = page.evaluate("window.seen.numbers.length")
        until(page, f"window.seen.numbers.length > {seen + 3}")
    finally:
        store.send(store.commands.switch_streaming(True))
    until(page, "window.seen.statuses.at(-1) === 'live'")
    end(server, job)
    until(page, ENDED)

    assert whole(page)


def test_a_page_that_was_offline_comes_back(context: BrowserContext, way: Proxy, server: Dev) -> None:
    """For five seconds, with a stream that was cut."""
    job = start(server)
    page = tab(context, way, server)
    follow(page, job)
    until(page, "window.seen.statuses.at(-1) === 'live'")
    context.set_offline(True)
    way.cut()
    until(page, "window.seen.statuses.at(-1) === 'offline'")
    page.wait_for_timeout(5_000)
    context.set_offline(False)
    until(page, "window.seen.statuses.at(-1) === 'live'", 5)
    end(server, job)
    until(page, ENDED)

    assert whole(page)


def test_a_token_that_runs_out_is_renewed(context: BrowserContext, way: Proxy, server: Dev) -> None:
    """`expired` in the middle of the stream: another one is asked for, once."""
    page = tab(context, way, server)
    context.clear_cookies()
    page.expose_function("newToken", lambda: sign(SECRET, "dev", f"{SCOPES} jobs:admin", 600))
    job = start(server)
    follow(page, job, token=sign(SECRET, "dev", f"{SCOPES} jobs:admin", 3))
    until(page, "window.seen.renewed === 1")
    seen = page.evaluate("window.seen.numbers.length")
    until(page, f"window.seen.numbers.length > {seen + 1}")
    end(server, job)
    until(page, ENDED)

    assert whole(page)
    assert 1 == page.evaluate("window.seen.renewed")


def test_a_token_that_cannot_be_renewed_ends_it(context: BrowserContext, way: Proxy, server: Dev) -> None:
    """And a job that is none, and one that may not be seen."""
    page = tab(context, way, server)
    context.clear_cookies()
    page.expose_function("newToken", lambda: None)
    follow(page, "nosuchjob", token=server.token)
    until(page, "window.seen.statuses.at(-1) === 'missing'")
    follow(page, "nosuchjob", token=sign(SECRET, "dev", "jobs:write", 600))
    until(page, "window.seen.statuses.at(-1) === 'forbidden'")
    job = start(server)
    follow(page, job, token=sign(SECRET, "dev", f"{SCOPES} jobs:admin", 2))
    until(page, "window.seen.statuses.at(-1) === 'expired'")
    end(server, job)

    assert 1 == page.evaluate("window.seen.renewed")


def test_a_list_is_one_stream_of_all_tabs(context: BrowserContext, way: Proxy, server: Dev) -> None:
    """New jobs appear by themselves in each; a state is never older than one before."""
    tabs = [tab(context, way, server) for _ in range(2)]
    for page in tabs:
        page.evaluate("""async () => {
          const { watchJobs } = await import("/assets/client/index.js");
          window.jobs = {};
          window.watching = watchJobs(null, {
            base: new URL("/", location.href), onJob: (state) => (window.jobs[state.id] = state.state),
            onStatus: (status) => (window.status_ = status),
          });
        }""")
        until(page, "window.status_ === 'live'")
    job = start(server, 1)
    for page in tabs:
        until(page, f"window.jobs['{job}'] === 'succeeded'")

    assert 1 == len(way.streams())


def freeze(page: Page, *, frozen: bool) -> None:
    """As a browser does with a tab that nobody looks at for long."""
    session = page.context.new_cdp_session(page)
    session.send("Page.setWebLifecycleState", {"state": "frozen" if frozen else "active"})


def test_a_frozen_tab_leaves_the_stream_to_another_and_catches_up(
    context: BrowserContext, way: Proxy, server: Dev
) -> None:
    """It led; its lock is taken from it where it gives no sign."""
    job = start(server)
    first, second = (tab(context, way, server) for _ in range(2))
    for page in (first, second):
        follow(page, job)
        until(page, "window.seen.statuses.at(-1) === 'live' && window.seen.numbers.length > 3")
    freeze(first, frozen=True)
    seen = second.evaluate("window.seen.numbers.length")
    until(second, f"window.seen.numbers.length > {seen + 8}")
    freeze(first, frozen=False)
    until(first, f"window.seen.numbers.length > {seen + 8}")
    end(server, job)
    for page in (first, second):
        until(page, ENDED)

    assert whole(first) and whole(second)


@pytest.fixture
def keeping(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser that keeps pages for the way back, which those for tests are told not to."""
    switched_off = ["--disable-back-forward-cache"]
    browser = chromium.browser_type.launch(
        executable_path=executable(), args=ARGUMENTS, ignore_default_args=switched_off
    )
    yield browser.new_context()
    browser.close()


def test_a_page_kept_for_the_way_back_has_no_connection_and_goes_on(
    keeping: BrowserContext, way: Proxy, server: Dev
) -> None:
    """The back/forward cache: `pagehide` and `pageshow`."""
    job = start(server)
    page = tab(keeping, way, server)
    follow(page, job)
    until(page, "window.seen.statuses.at(-1) === 'live' && window.seen.numbers.length > 3")
    page.evaluate("addEventListener('pageshow', ({ persisted }) => (window.persisted = persisted))")
    page.goto(f"{server.url}/openapi.json")
    eventually(lambda: not way.carrying())
    page.wait_for_timeout(2_000)
    # No `load` comes where the page is as it was.
    page.go_back(wait_until="commit")
    until(page, "window.seen.statuses.at(-1) === 'live'")
    end(server, job)
    until(page, ENDED)

    assert page.evaluate("window.persisted")
    assert whole(page)
