"""The clients as processes, each behind a bad proxy of its own, and what each told its user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple

from tests.support import lacking
from tests.support.proxy import Proxy
from tests.support.readme import shell_loop

FOLDER: Final = Path(__file__).parent
NODE_FOLDER: Final = FOLDER.parent / "node"
ROOT: Final = FOLDER.parent.parent

NPM: Final = (
    "eventsource",
    "eventsource-client",
    "@microsoft/fetch-event-source",
    "reconnecting-eventsource",
)
PYPI: Final = ("httpx-sse", "sseclient-py", "aiohttp-sse-client2")
CLIENTS: Final = (*NPM, *PYPI, "curl")

#: These can send no header, as a browser's EventSource: they get a ticket in the URL.
BY_TICKET: Final = frozenset({"eventsource", "reconnecting-eventsource"})
#: What the standard demands of it: any status but 200 is final.
ENDED_BY_502: Final = frozenset({"eventsource"})


class Told(NamedTuple):
    """One event as a client gave it to its user."""

    id: str
    event: str
    data: str


@dataclass
class Follower:
    """One client under way."""

    name: str
    proxy: Proxy
    process: subprocess.Popen[bytes]
    out: IO[bytes]
    errors: IO[bytes]

    def wait(self, until: float) -> int | None:
        """Its exit code; None where it had to be ended."""
        try:
            return self.process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def told(self) -> list[Told]:
        """Without `position`, which each connection begins with, and which is no event of the job."""
        self.out.seek(0)
        text = self.out.read().decode()
        split = _frames if self.name == "curl" else _lines
        return [told for told in split(text) if told.event != "position"]

    def complaints(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")


def start(
    name: str, proxy: Proxy, path: str, *, token: str, ticket: str, types: Iterable[str], folder: Path
) -> Follower:
    """Ends the test where the client or what runs it is missing."""
    url = proxy.url + path + (f"?token={ticket}" if name in BY_TICKET else "")
    out, errors = ((folder / f"{name.replace('/', '-')}.{kind}").open("w+b") for kind in ("out", "errors"))
    env = os.environ | {"TOKEN": token, "JOB": path.split("/")[2]}
    if name == "curl":
        # It keeps its position in a file beside it.
        command, place = _curl(proxy.url), folder / "curl"
        place.mkdir()
    else:
        command, place = [*_command(name), url, *(types if name in NPM else ())], ROOT
    process = subprocess.Popen(command, stdout=out, stderr=errors, cwd=place, env=env)
    return Follower(name, proxy, process, out, errors)


def _command(name: str) -> Sequence[str]:
    if name in PYPI:
        return [sys.executable, "-m", "tests.clients.follow", name]
    if not (NODE_FOLDER / "node_modules" / name).is_dir():
        lacking("the packages of tests/node")
    return [_found("node"), str(NODE_FOLDER / "follow.mjs"), name]


def _curl(url: str) -> Sequence[str]:
    """With the loop of the README, in the plainest shell that there is."""
    _found("curl")
    return [_found("sh"), "-c", shell_loop(url)]


def _found(program: str) -> str:
    return shutil.which(program) or lacking(program)


def _lines(text: str) -> Iterable[Told]:
    return (Told(*json.loads(line)) for line in text.split("\n")[:-1])


def _frames(text: str) -> Iterable[Told]:
    """Each as it came over the wire, a blank line after it; heartbeats stand among their lines, and the last says how it ended."""
    for frame in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if not line.startswith(":"))
        yield Told(fields.get("id", ""), fields.get("event", ""), fields.get("data", ""))
