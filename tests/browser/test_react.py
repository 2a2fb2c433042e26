"""`useJob` in a small application of its users' kind: on the package as npm packs it, built by Vite, checked by TypeScript, served
elsewhere, asking by CORS with a token of its own."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import tarfile
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
from tests.support import lacking
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Site, serving

SOURCE = Path(__file__).parent.parent / "react"
CLIENT = Path(__file__).parents[2] / "web" / "client"


def node(folder: Path, *command: str) -> str:
    """What one of the application's programs said."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an application that installed what `npm pack` makes of the client; all else is linked."""
    modules = SOURCE / "node_modules"
    if shutil.which("npm") is None or not (modules / ".bin" / "vite").exists():
        lacking("npm, with the packages of tests/react")
    folder = tmp_path_factory.mktemp("application")
    for file in SOURCE.iterdir():
        if file != modules:
            shutil.copy(file, folder)
    (folder / "node_modules").mkdir()
    for module in modules.iterdir():
        if module.name != "progress-stream":
            (folder / "node_modules" / module.name).symlink_to(module)
    name = node(folder, "npm", "pack", "--silent", "--offline", str(CLIENT)).strip()
    with tarfile.open(folder / name) as packed:
        packed.extractall(folder, filter="data")
    (folder / "package").rename(folder / "node_modules" / "progress-stream")
    return folder


def build(application: Path, out: Path, *options: str) -> Path:
    node(application, "node_modules/.bin/vite", "build", "--outDir", str(out), "--emptyOutDir", *options)
    return out


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def elsewhere(
    chromium: Browser, application: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The origin at which the application lies."""
    folder = build(application, tmp_path_factory.mktemp("react") / "dist")
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


def test_it_can_be_rendered_on_a_server(application: Path, tmp_path: Path) -> None:
    """Nothing touches a window at import, and nothing is asked."""
    folder = build(application, tmp_path / "ssr", "--ssr", "server.jsx")
    done = subprocess.run(
        ["node", str(folder / "server.js")], capture_output=True, text=True, timeout=60, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert '<progress aria-label="connecting" data-state="none"' in done.stdout


def test_the_client_alone_is_small_in_a_bundle(application: Path) -> None:
    """Minified and compressed, the parser of streams included."""
    assert 4_000 < int(node(application, "node", "size.mjs")) < 8_000


def test_what_is_packed_is_what_a_user_needs(application: Path) -> None:
    """All that `exports` names, the licences and the text for the registry; no test, and nothing twice."""
    packed = application / "node_modules" / "progress-stream"
    exports = json.loads((packed / "package.json").read_text())["exports"]
    named = {path.removeprefix("./") for ways in exports.values() for path in ways.values()}
    files = {path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()}

    assert named | {"LICENSE", "README.md", "vendor/eventsource-parser.LICENSE.txt"} <= files
    assert files == {path.relative_to(CLIENT).as_posix() for path in CLIENT.rglob("*") if path.is_file()}
    assert (CLIENT.parents[1] / "LICENSE").read_text() == (packed / "LICENSE").read_text()


@pytest.mark.slow
def test_typescript_knows_every_public_name(application: Path) -> None:
    """Strictly, and by the package's own `exports`; a name that is not there is a fault."""
    node(application, "node_modules/.bin/tsc", "--project", ".")
    words = (application / "types.ts").read_text()
    declared = "".join(path.read_text() for path in CLIENT.glob("*.d.ts"))
    names = set(re.findall(r"export (?:function|const|class|interface|type) (\w+)", declared))

    assert set() == {name for name in names if not re.search(rf"\b{name}\b", words)}


def test_the_lock_file_names_no_registry() -> None:
    """Whoever installs it takes their own."""
    assert "://" not in re.sub(r'"(funding|url)": .*', "", (SOURCE / "package-lock.json").read_text())
