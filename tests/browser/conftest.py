"""A real browser, and the whole of `progress-stream dev` for it to look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.programs import Dev, Reachable
from tests.support.firefox import Firefox, FirefoxContext
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FIREFOX = ("firefox-esr", "firefox")
#: What a container allows, and nothing that goes out to the net by itself.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def executable(names: Sequence[str]) -> str:
    """Where a browser is; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = f"no browser: none of {', '.join(names)} on the PATH"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = executable(CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with Firefox(executable(FIREFOX), tmp_path_factory.mktemp("firefox") / "profile") as firefox:
        yield firefox


@pytest.fixture(params=["chromium", pytest.param("firefox", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest) -> Iterator[BrowserContext | FirefoxContext]:
    """The test runs in both browsers, each of which has never been here; in the second among the slow ones, for time's sake."""
    context: BrowserContext | FirefoxContext = request.getfixturevalue(request.param).new_context()
    yield context
    context.close()


@pytest.fixture(scope="module")
def dev(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One for all tests of a process; started only where a browser is."""
    server = Dev(tmp_path_factory.mktemp("dev"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reachable]:
    folder = tmp_path_factory.mktemp("reachable")
    with RedisServer(folder / "redis") as redis:
        server = Reachable(folder / "data", redis)
        yield server
        server.stop()


@pytest.fixture
def way(server: Reachable) -> Iterator[Proxy]:
    """What stands between the browser and that server."""
    with Proxy(server.url) as between:
        yield between


@pytest.fixture
def meddler(dev: Dev) -> Iterator[Proxy]:
    """What stands between the browser and the server."""
    with Proxy(dev.url) as between:
        yield between


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser that has never been here: no cookie, no cache."""
    context = chromium.new_context()
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the page wrote to the browser's console, or threw. A test that expects none says so."""
    return []


@pytest.fixture
def page(context: BrowserContext, complaints: list[str]) -> Page:
    page = context.new_page()
    page.on(
        "console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page
