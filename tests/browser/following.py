"""What the tests of the JavaScript client share: tabs that follow jobs, and what these saw."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, overload

import httpx
from playwright.sync_api import BrowserContext, Page

from tests.browser.programs import Dev
from tests.support.firefox import FirefoxContext, FirefoxPage
from tests.support.proxy import Proxy

AnyContext = BrowserContext | FirefoxContext
AnyPage = Page | FirefoxPage

#: Longer than any of these tests, on the slowest machine.
LONG_SECONDS = 300
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


@overload
def tab(context: BrowserContext, way: Proxy, server: Dev) -> Page: ...
@overload
def tab(context: FirefoxContext, way: Proxy, server: Dev) -> FirefoxPage: ...
def tab(context: AnyContext, way: Proxy, server: Dev) -> AnyPage:
    """Signed in, on a page that follows nothing by itself."""
    page = context.new_page()
    # The list has a stream of its own; this view has none.
    page.goto(f"{way.url}/?token={server.token}#/sign-in-failed")
    page.wait_for_function("() => !document.getElementById('view-stop').hidden")
    return page


def follow(page: AnyPage, job: str, **how: Any) -> None:
    page.evaluate(FOLLOW, {"job": job, **how})


def until(page: AnyPage, what: str, seconds: float = 30) -> None:
    page.wait_for_function(f"() => {what}", timeout=seconds * 1000)


def whole(page: AnyPage) -> bool:
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
