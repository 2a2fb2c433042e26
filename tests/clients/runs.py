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
        lines = self.out.read().decode().split("\n")[:-1]
        split = _by_tabs if self.name == "curl" else json.loads
        return [told for told in (Told(*split(line)) for line in lines) if told.event != "position"]

    def complaints(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")


def start(
    name: str, proxy: Proxy, path: str, *, token: str, ticket: str, types: Iterable[str], folder: Path
) -> Follower:
    """Ends the test where the client or what runs it is missing."""
    url = proxy.url + path + (f"?token={ticket}" if name in BY_TICKET else "")
    out, errors = ((folder / f"{name.replace('/', '-')}.{kind}").open("w+b") for kind in ("out", "errors"))
    process = subprocess.Popen(
        [*_command(name), url, *(types if name in NPM else ())],
        stdout=out, stderr=errors, cwd=ROOT, env=os.environ | {"TOKEN": token},
    )  # fmt: skip
    return Follower(name, proxy, process, out, errors)


def _command(name: str) -> Sequence[str]:
    if name in PYPI:
        return [sys.executable, "-m", "tests.clients.follow", name]
    if name == "curl":
        return [_found("bash"), str(FOLDER / "follow.sh")] if _found("curl") else []
    if not (NODE_FOLDER / "node_modules" / name).is_dir():
        lacking("the packages of tests/node")
    return [_found("node"), str(NODE_FOLDER / "follow.mjs"), name]


def _found(program: str) -> str:
    return shutil.which(program) or lacking(program)


def _by_tabs(line: str) -> list[str]:
    return line.split("\t")
