"""Two event-stream parsers that are not ours, fed with bytes in any cuts: PyPI's httpx-sse and npm's eventsource-parser."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import httpx_sse

from tests.support import lacking

_NODE_FOLDER = Path(__file__).parent.parent / "node"


class Seen(NamedTuple):
    """One event as a parser gave it. `id` None: the parser did not say one."""

    id: str | None
    event: str
    data: str


class Reading(NamedTuple):
    """All that a parser gave."""

    events: list[Seen]
    retries: list[int]
    comments: list[str]


class NodeParser:
    """npm's eventsource-parser in one Node process, whatever the number of streams."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, chunks: Sequence[bytes]) -> Reading:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps([base64.b64encode(chunk).decode() for chunk in chunks]).encode() + b"\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return Reading([Seen(**event) for event in answer["events"]], answer["retries"], answer["comments"])


@contextmanager
def node_parser() -> Iterator[NodeParser]:
    """Ends the test where Node or the package is missing."""
    node = shutil.which("node")
    if node is None or not (_NODE_FOLDER / "node_modules" / "eventsource-parser").is_dir():
        lacking("node, with the packages of tests/node")
    with subprocess.Popen(
        [node, str(_NODE_FOLDER / "parse.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield NodeParser(process)
        finally:
            process.terminate()


def httpx_sse_read(chunks: Sequence[bytes]) -> list[Seen]:
    """What httpx-sse makes of a response whose body comes in these chunks.

    It fires for a blank line with no data before it too, which is against §9.2.6: those are left out here.
    """
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=iter(chunks))
    return [
        Seen(event.id, event.event or "message", event.data)
        for event in httpx_sse.EventSource(response).iter_sse()
        if event.data or event.event
    ]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The bytes in pieces, none of them empty."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places} - {0, len(data)}), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges) if start < stop]
