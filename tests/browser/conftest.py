"""A real browser, and the whole of `progress-stream dev` for it to look at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.proxy import Proxy

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: What a container allows, and nothing that goes out to the net by itself.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
START_SECONDS = 60
END_SECONDS = 20


class Program:
    """One `progress-stream` command as a person starts it: another process, ready when it prints a line."""

    def __init__(self, *arguments: str, ready: str, env: Mapping[str, str] | None = None) -> None:
        program = Path(sys.executable).parent / "progress-stream"
        self._process = subprocess.Popen(
            [str(program), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(env or {})},
        )
        self._lines: list[str] = []
        self._ready = threading.Event()
        #: What followed on the line that said it was ready.
        self.said = ""
        threading.Thread(target=self._read, args=(ready,), daemon=True).start()
        self._ready.wait(START_SECONDS)
        if not self.said:
            self.stop()
            pytest.fail(f"no line began with {ready!r}:\n" + "".join(self._lines[-40:]))

    def _read(self, ready: str) -> None:
        # To the end: a pipe that nobody empties would stop the server.
        for line in self._process.stdout or ():
            self._lines.append(line)
            if line.startswith(ready) and not self.said:
                self.said = line.removeprefix(ready).strip()
                self._ready.set()
        self._ready.set()

    @property
    def port(self) -> int:
        return urlsplit(self.said).port or 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Dev(Program):
    """All in one."""

    def __init__(self, data: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__("dev", "--port", "0", "--data", str(data), ready="link: ", env=env)

    @property
    def link(self) -> str:
        return self.said

    @property
    def token(self) -> str:
        return self.said.partition("token=")[2]


def executable() -> str:
    """Where Chromium is; the test is skipped where it is not."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no browser: none of {', '.join(NAMES)} on the PATH"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def dev(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One for all tests of a process; started only where a browser is."""
    server = Dev(tmp_path_factory.mktemp("dev"))
    yield server
    server.stop()


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
