"""`useJob` in a small application of its users' kind: built by Vite, served elsewhere, asking by CORS with a token of its own."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import load
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Site, serving

SOURCE = Path(__file__).parent.parent / "react"


def needs_vite() -> Path:
    vite = SOURCE / "node_modules" / ".bin" / "vite"
    if shutil.which("node") is None or not vite.exists():
        reason = "no `node` with Vite in tests/react"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return vite


def build(out: Path, *options: str) -> Path:
    vite = needs_vite()
    done = subprocess.run(
        [str(vite), "build", "--outDir", str(out), "--emptyOutDir", *options], cwd=SOURCE, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr
    return out


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def elsewhere(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin at which the application lies."""
    folder = build(tmp_path_factory.mktemp("react") / "dist")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def place(elsewhere: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("react-server")
    with RedisServer(folder / "redis") as server:
        settings = load(
            redis_url=server.url(0), broker_url=server.url(1), data=folder, jwt_secret=SecretStr(SECRET),
            ready_seconds=0, drain_seconds=0, cors_origins=(elsewhere,),
        )  # fmt: skip
        client = server.client(0)
        with serving(create_app(settings), settings) as url:
            yield Site(url, settings, client)
        client.close()


def test_a_component_follows_its_job_while_it_is_mounted(
    page: Page, place: Site, elsewhere: str, complaints: list[str]
) -> None:
    """Under StrictMode, which mounts twice: one stream, no leak, and it comes back to where the job is."""
    job = place.job("job-1")
    job.start()
    job.append("progress", done=1, total=4)
    page.goto(f"{elsewhere}/#job=job-1&base={place.url}/&token={place.token()}")
    bar = page.locator("progress")
    expect(bar).to_have_attribute("aria-label", "live")
    expect(bar).to_have_attribute("value", "1")
    job.append("progress", done=2, total=4)
    expect(bar).to_have_attribute("value", "2")
    page.get_by_role("button").click()
    expect(bar).to_have_count(0)
    locks = "navigator.locks.query().then(({ held, pending }) => held.length + pending.length)"
    page.wait_for_function(f"() => {locks}.then((count) => count === 0)")
    job.append("progress", done=3, total=4)
    page.get_by_role("button").click()
    expect(bar).to_have_attribute("value", "3")
    job.succeed()
    expect(bar).to_have_attribute("data-state", "succeeded")
    expect(bar).to_have_attribute("aria-label", "ended")

    assert [] == complaints


def test_it_can_be_rendered_on_a_server(tmp_path: Path) -> None:
    """Nothing touches a window at import, and nothing is asked."""
    folder = build(tmp_path / "ssr", "--ssr", "server.jsx")
    done = subprocess.run(
        ["node", str(folder / "server.js")], capture_output=True, text=True, timeout=60, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert '<progress aria-label="connecting" data-state="none"' in done.stdout


def test_the_client_alone_is_small_in_a_bundle() -> None:
    """Minified and compressed, the parser of streams included."""
    needs_vite()
    run = subprocess.run(
        ["node", "size.mjs"], cwd=SOURCE, capture_output=True, text=True, timeout=60, check=True
    )

    assert 4_000 < int(run.stdout) < 8_000
