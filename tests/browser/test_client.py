"""The JavaScript client where only Chromium can be brought: offline, frozen, kept for the way back; and its tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from progress_stream.auth.verify import sign
from tests.browser.conftest import ARGUMENTS, CHROMIUM, executable
from tests.browser.following import ENDED, end, eventually, follow, start, tab, until, whole
from tests.browser.programs import SECRET, Reachable
from tests.support.proxy import Proxy

SCOPES = "jobs:read jobs:write"


def test_a_page_that_was_offline_comes_back(context: BrowserContext, way: Proxy, server: Reachable) -> None:
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


def test_a_token_that_runs_out_is_renewed(context: BrowserContext, way: Proxy, server: Reachable) -> None:
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


def test_a_token_that_cannot_be_renewed_ends_it(
    context: BrowserContext, way: Proxy, server: Reachable
) -> None:
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


def freeze(page: Page, *, frozen: bool) -> None:
    """As a browser does with a tab that nobody looks at for long."""
    session = page.context.new_cdp_session(page)
    session.send("Page.setWebLifecycleState", {"state": "frozen" if frozen else "active"})


@pytest.mark.slow
def test_a_frozen_tab_leaves_the_stream_to_another_and_catches_up(
    context: BrowserContext, way: Proxy, server: Reachable
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
        executable_path=executable(CHROMIUM), args=ARGUMENTS, ignore_default_args=switched_off
    )
    yield browser.new_context()
    browser.close()


def test_a_page_kept_for_the_way_back_has_no_connection_and_goes_on(
    keeping: BrowserContext, way: Proxy, server: Reachable
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
