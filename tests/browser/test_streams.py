"""The JavaScript client in both browsers: one connection for all tabs, every event once in each, whatever happens on the way."""

from __future__ import annotations

import time

import pytest

from tests.browser.following import ENDED, AnyContext, end, eventually, follow, start, tab, until, whole
from tests.browser.programs import Reachable
from tests.support.proxy import Proxy

BARE = "(job) => { window.bare = new EventSource(`/jobs/${job}/events`); }"


@pytest.mark.slow
def test_seven_tabs_share_one_stream_and_a_closed_leader_leaves_no_gap(
    either: AnyContext, way: Proxy, server: Reachable
) -> None:
    """On HTTP/1.1, where a browser has six connections for all of them."""
    job = start(server)
    tabs = [tab(either, way, server) for _ in range(7)]
    for page in tabs:
        follow(page, job)
        # The first leads.
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


def test_a_tab_that_comes_later_has_all_of_it(either: AnyContext, way: Proxy, server: Reachable) -> None:
    """It looks up what was, and is told what comes."""
    job = start(server)
    first = tab(either, way, server)
    follow(first, job)
    until(first, "window.seen.numbers.length > 5")
    second = tab(either, way, server)
    follow(second, job)
    until(second, "window.seen.numbers.length > 7")
    end(server, job)
    for page in (first, second):
        until(page, ENDED)

    assert whole(first) and whole(second)
    assert 1 == len(way.streams())


@pytest.mark.slow
def test_more_jobs_than_a_browser_has_connections_are_all_followed(
    either: AnyContext, way: Proxy, server: Reachable
) -> None:
    """Four by streams, the rest by polling; exact in both ways."""
    tabs = [tab(either, way, server) for _ in range(7)]
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


def test_closing_a_watch_leaves_nothing_open(either: AnyContext, way: Proxy, server: Reachable) -> None:
    """No connection, no lock, and nothing is called any more."""
    job = start(server)
    page = tab(either, way, server)
    follow(page, job)
    until(page, "window.seen.statuses.at(-1) === 'live'")
    page.evaluate("window.watching.close()")
    eventually(lambda: not way.carrying())
    seen = page.evaluate("window.seen.numbers.length")
    names = page.evaluate(
        "navigator.locks.query().then(({held, pending}) => [...held, ...pending].map(({name}) => name))"
    )
    time.sleep(1)
    end(server, job)

    assert [] == [name for name in names if name.startswith("progress-stream")]
    assert seen == page.evaluate("window.seen.numbers.length")


def test_a_proxy_that_keeps_streams_back_is_got_around(
    either: AnyContext, way: Proxy, server: Reachable
) -> None:
    """No byte within three seconds: long-polls."""
    way.buffers = True
    job = start(server)
    page = tab(either, way, server)
    follow(page, job)
    until(page, "window.seen.statuses.at(-1) === 'long-poll'", 5)
    until(page, "window.seen.numbers.length > 5")
    end(server, job)
    until(page, ENDED)

    assert whole(page)
    assert way.polls()


@pytest.mark.slow
def test_a_gateway_that_apologises_with_html_for_five_seconds_is_waited_for(
    either: AnyContext, way: Proxy, server: Reachable
) -> None:
    """In the middle of a deploy: a bare EventSource ends for good at the first 502."""
    job = start(server)
    page = tab(either, way, server)
    follow(page, job)
    until(page, "window.seen.statuses.at(-1) === 'live'")
    page.evaluate(BARE, job)
    until(page, "window.bare.readyState === EventSource.OPEN")
    way.away = True
    way.cut()
    until(page, "window.seen.statuses.at(-1) === 'reconnecting'")
    time.sleep(5)
    way.away = False
    until(page, "window.seen.statuses.at(-1) === 'live'")
    end(server, job)
    until(page, ENDED)

    assert whole(page)
    assert page.evaluate("window.bare.readyState === EventSource.CLOSED")


def test_streaming_off_is_polling_and_back(either: AnyContext, way: Proxy, server: Reachable) -> None:
    """At run time, with the bar still moving; then every event is there all the same."""
    job = start(server)
    page = tab(either, way, server)
    follow(page, job)
    until(page, "window.seen.statuses.at(-1) === 'live'")
    server.store.send(server.store.commands.switch_streaming(False))
    try:
        until(page, "window.seen.statuses.at(-1) === 'polling'")
        seen = page.evaluate("window.seen.numbers.length")
        until(page, f"window.seen.numbers.length > {seen + 3}")
    finally:
        server.store.send(server.store.commands.switch_streaming(True))
    until(page, "window.seen.statuses.at(-1) === 'live'")
    end(server, job)
    until(page, ENDED)

    assert whole(page)


def test_a_list_is_one_stream_of_all_tabs(either: AnyContext, way: Proxy, server: Reachable) -> None:
    """New jobs appear by themselves in each; a state is never older than one before."""
    tabs = [tab(either, way, server) for _ in range(2)]
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
