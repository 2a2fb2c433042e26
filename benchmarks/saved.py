"""What does a page that shows a running job ask of the server, beside the same page that polls; and what does each cost?

Three `progress-stream serve`, each with a Redis of its own and as many running jobs that move twice a second: at one nobody looks;
at one as many people (profiles of Chromium) look at a job each, by streams; at one they do the same where STREAMING=false, so
that the very same page polls every two seconds. Counted from when all pages are open: lines of the access log, by kind, and CPU of
the server (/proc) and of Redis (INFO), a page and hour; what nobody's server and Redis used is taken away.

What would fool the reader:
- A stream lives 12 to 15 minutes and is then asked for again: in a run that is shorter a stream asks for nothing. 25 minutes take
  in one or two of its renewals, of the four or five of an hour.
- The jobs move all the time. A page that polls a job which rests is answered 304: as many requests and lines, and less CPU.
- One server of few pages spends most of its CPU on being woken: a page more costs less than is shown here. This holds for both.
- Nobody reloads a page, and no network is lost.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
from playwright.sync_api import Browser, sync_playwright
from pydantic import SecretStr

from progress_stream import report
from progress_stream.auth.verify import sign
from progress_stream.reporting.job import Job
from progress_stream.settings import Settings, load
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.chaos.faults import WebProcess
from tests.support.redis import RedisServer

from .listed import Movers
from .support import machine
from .support.load import OWNER, SECRET
from .support.table import figure, table

PAGES: Final = 5
SECONDS: Final = 1_500.0
#: How the page says it, and whether the server gives streams; nobody looks at the first.
WAYS: Final[dict[str, tuple[str, bool]]] = {
    "nobody": ("", True), "stream": ("Live", True), "polling": ("Polling", False)
}  # fmt: skip
#: Counts of another kind: requests, or the word that a stream has ended.
ENDED: Final = "stream ended"


@dataclass(frozen=True, slots=True)
class Used:
    """By one way, since its beginning or between two moments."""

    lines: Counter[str]
    server_seconds: float
    redis_seconds: float

    def __sub__(self, other: Used) -> Used:
        return Used(
            self.lines - other.lines, self.server_seconds - other.server_seconds, self.redis_seconds - other.redis_seconds
        )  # fmt: skip


class Ground:
    """One server, its Redis and its jobs."""

    def __init__(
        self, settings: Settings, web: WebProcess, client: redis.Redis, jobs: list[Job], log: Path
    ) -> None:
        self.settings = settings
        self.web = web
        self.jobs = jobs
        self._client = client
        self._log = log

    def used(self) -> Used:
        cpu = self._client.info("cpu")
        return Used(
            Counter(access_lines(self._log.read_text())), machine.cpu_seconds(self.web.pid),
            cpu["used_cpu_sys"] + cpu["used_cpu_user"],
        )  # fmt: skip


def access_lines(log: str) -> Iterator[str]:
    """Of each line of the access log its kind: method, route and status, or that a stream ended."""
    for line in log.splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("logger") == "progress_stream.access":
            request = re.match(r"[A-Z]+ \S+ \d+", entry["event"])
            yield request[0] if request else ENDED


@contextmanager
def ground(folder: Path, streaming: bool) -> Iterator[Ground]:
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(folder / "redis", persistent=False))
        settings = load(
            redis_url=server.url(0), broker_url=server.url(1), data=folder, jwt_secret=SecretStr(SECRET)
        )
        web = stack.enter_context(
            WebProcess(
                settings, SECRET, folder / "web", env={"PROGRESS_STREAM_STREAMING": str(streaming).lower()}
            )
        )
        jobs = [stack.enter_context(report("bench", owner=OWNER, settings=settings)) for _ in range(PAGES)]
        client = stack.enter_context(server.client(0))
        yield Ground(settings, web, client, jobs, folder / "web" / "serve.log")


def look(browser: Browser, there: Ground, word: str) -> None:
    """A person a job, who stays; returns when all pages say by which way they follow."""
    token = sign(SECRET, OWNER, "jobs:read", int(2 * SECONDS) + 3_600)
    pages = []
    for job in there.jobs:
        # A profile each: the tabs of one would share a stream.
        pages.append(browser.new_context().new_page())
        pages[-1].goto(f"{there.web.url}/?token={token}#/jobs/{job.id}")
    for page in pages:
        page.wait_for_function(f"() => document.getElementById('connection').textContent === '{word}'")


def measured(browser: Browser, seconds: float) -> dict[str, Used]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        grounds = {
            way: stack.enter_context(ground(Path(folder) / way, streaming))
            for way, (_, streaming) in WAYS.items()
        }
        for there in grounds.values():
            stack.enter_context(Movers(there.jobs))
        for way, there in grounds.items():
            if word := WAYS[way][0]:
                look(browser, there, word)
        before = {way: there.used() for way, there in grounds.items()}
        time.sleep(seconds)
        return {way: there.used() - before[way] for way, there in grounds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        print("no browser: nothing is measured")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        found = measured(browser, options.seconds)
        browser.close()
    say(found, options.seconds)


def say(found: dict[str, Used], seconds: float) -> None:
    """A page and hour each."""
    share = 3_600 / seconds / PAGES
    print(f"{PAGES} pages by each way, {seconds:.0f} s; of a page and hour:")
    lines = {way: share * used.lines.total() for way, used in found.items()}
    requests = {way: lines[way] - share * used.lines[ENDED] for way, used in found.items()}
    server = {
        way: share * (used.server_seconds - found["nobody"].server_seconds) for way, used in found.items()
    }
    store = {way: share * (used.redis_seconds - found["nobody"].redis_seconds) for way, used in found.items()}
    table(
        ("way", "", "requests", "log lines", "CPU s of the server", "CPU s of Redis"),
        [
            (way, "", f"{requests[way]:.1f}", f"{lines[way]:.1f}", f"{server[way]:.2f}", f"{store[way]:.2f}")
            for way in found
        ],
    )
    for way, used in found.items():
        print(
            f"{way}: {', '.join(f'{many} × {kind}' for kind, many in sorted(used.lines.items())) or 'no line'}"
        )
    figure("page_requests", requests["stream"], "an_hour", requests["polling"], "polling", 0.01)
    figure("page_log_lines", lines["stream"], "an_hour", lines["polling"], "polling", 0.01)
    figure("page_cpu", server["stream"], "CPU-s/hour", server["polling"], "polling", 1)
    figure("page_cpu_redis", store["stream"], "CPU-s/hour", store["polling"], "polling", 1)


if __name__ == "__main__":
    main()
