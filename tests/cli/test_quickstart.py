"""The quickstart's way into an application that is there already, block by block as a person would type it."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.processes import environment, until
from tests.support.loopback import free_port
from tests.support.redis import RedisServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/quickstart.md").read_text()
SECTION = PAGE.partition("## In the application that you have\n")[2].partition("\n## ")[0]
FILE = "count_words.py"
#: What a reader would call few.
FEW_LINES = 10


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)


class Terminal:
    """A shell that is typed into; what it was told and what it showed are in `transcript`."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.file = folder / "transcript"
        with self.file.open("wb") as out:
            self._shell = subprocess.Popen(
                ["sh", "-v"], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True
            )  # fmt: skip

    @property
    def transcript(self) -> str:
        return self.file.read_text(errors="replace")

    def type(self, commands: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(commands.encode())
        self._shell.stdin.flush()

    def end(self) -> None:
        """And all that it left running."""
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.communicate()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def pages(folder: Path) -> Iterator[list[str]]:
    """The addresses of two pages, in the place of those on the net."""
    folder.mkdir()
    (folder / "one").write_text("three words here")
    (folder / "two").write_text("two more")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield [f"http://127.0.0.1:{server.server_port}/{name}" for name in ("one", "two")]
        server.shutdown()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """Before the change, and after it, in folders of these names."""
    (program,) = blocks("python")
    (change,) = blocks("diff")
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(program)
    subprocess.run(["git", "apply", "-p0"], cwd=tmp_path / "after", input=change.encode(), check=True)
    return tmp_path


def test_the_change_is_under_ten_lines() -> None:
    """Lines that are new or other than before."""
    (change,) = blocks("diff")
    added = [line for line in change.splitlines() if re.match(r"\+(?!\+\+)", line)]

    assert 0 < len(added) < FEW_LINES


def test_the_blocks_give_an_existing_application_progress(application: Path, tmp_path: Path) -> None:
    """The very blocks, but for ports, pages and `pip install`."""
    begin, watch = blocks("sh")
    port = free_port()
    with RedisServer(tmp_path / "redis") as redis, pages(tmp_path / "pages") as urls:
        file = application / "after" / FILE
        file.write_text(file.read_text().replace(":6379", f":{redis.port}"))
        typed = (
            re.sub(r"pip install .*\n", "", begin)
            .replace(":6379", f":{redis.port}")
            .replace("8000", str(port))
        )
        env = environment(
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            PROGRESS_STREAM_URL=f"http://127.0.0.1:{port}",
        )
        terminal = Terminal(application / "after", env)
        try:
            terminal.type(typed)
            until(lambda: ready(f"http://127.0.0.1:{port}"), what=lambda: terminal.transcript)
            watching = re.sub(r"https:[^)]*", " ".join(urls), watch).replace(":8000", f":{port}")
            terminal.type(watching + "echo the end of it\n")
            until(lambda: "\nthe end of it" in terminal.transcript, what=lambda: terminal.transcript)
        finally:
            terminal.end()

    shown = terminal.transcript
    print(shown)
    assert "2 pages have 5 words." in shown
    assert ["queued", "started", "progress", "succeeded"] == list(
        dict.fromkeys(
            type for type in re.findall(r"^event: (\w+)$", shown, re.MULTILINE) if type != "position"
        )
    )
    assert re.search(r'"done":2,"total":2', shown)
