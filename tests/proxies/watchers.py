"""Browsers behind a proxy: they come back with the last id they saw until they are told to stop, and know when each event came.

By a foreign HTTP library, so that forward proxies, TLS and HTTP/2 are as anybody has them. What they saw is judged by
`tests/chaos/check.py`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Final

import httpx
from h2.exceptions import ProtocolError

from progress_stream.frames.sse import Frame, Parser
from tests.chaos.history import History, Seen
from tests.proxies.standing import Standing
from tests.support.streams import ADDED, EVENT_STREAM

#: That share a pool, or with HTTP/2 a connection, which HAProxy lets carry 100.
A_BROWSER: Final = 50
#: Before a watcher that was not let in asks again.
PAUSE_SECONDS: Final = (0.05, 0.2)

#: How many bytes of an answer a watcher reads before it hangs up.
Cut = Callable[[Random], int]


@dataclass(slots=True)
class Crowd:
    """What became of all watchers."""

    history: History
    #: For each watcher, when each of its events came, by id.
    times: list[dict[str, float]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    encodings: set[str] = field(default_factory=set)
    #: The answers to requests with `Last-Event-ID`, by what the server says of it.
    resumed: Counter[bool] = field(default_factory=Counter)
    open: int = 0
    most_open: int = 0

    @property
    def connects(self) -> int:
        return sum(seen.connects for seen in self.history.watchers)

    @property
    def broken(self) -> int:
        return sum(seen.broken for seen in self.history.watchers)

    @property
    def longest_silence(self) -> float:
        """Between two events of one watcher."""
        return max(
            (after - before for times in self.times for before, after in pairwise(times.values())),
            default=0.0,
        )

    def begin(self) -> None:
        self.open += 1
        self.most_open = max(self.open, self.most_open)


def client(standing: Standing) -> httpx.AsyncClient:
    """As one browser."""
    return httpx.AsyncClient(
        base_url=standing.url,
        proxy=standing.forward,
        http1=not standing.http2,
        http2=standing.http2,
        verify=_trusting(standing),
        trust_env=False,
        timeout=httpx.Timeout(None, connect=30),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
    )


def _trusting(standing: Standing) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if standing.authority is not None:
        context.load_verify_locations(standing.authority)
    return context


class Watcher:
    """One EventSource."""

    def __init__(
        self, crowd: Crowd, seen: Seen, client: httpx.AsyncClient, job: str, token: str, cut: Cut | None
    ) -> None:
        self._crowd = crowd
        self._seen = seen
        self._client = client
        self._path = f"/jobs/{job}/events"
        self._token = token
        self._cut = cut
        self._random = Random(seen.name)
        self._last_id = ""
        self._times: dict[str, float] = {}
        crowd.times.append(self._times)

    async def watch(self) -> None:
        while not self._seen.stopped:
            try:
                await self._connect()
            except (httpx.TransportError, ProtocolError):
                # httpx lets h2's own error through where a connection ends while it begins.
                self._seen.refused += 1
            await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))

    async def _connect(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": EVENT_STREAM}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        async with self._client.stream("GET", self._path, headers=headers) as answer:
            self._crowd.statuses[answer.status_code] += 1
            self._seen.stopped = answer.status_code == 204
            if answer.status_code == 200:
                self._seen.connects += 1
                self._crowd.encodings.add(answer.headers.get("Content-Encoding", ""))
                self._crowd.begin()
                try:
                    await self._read(answer, asked_to_resume=bool(self._last_id))
                finally:
                    self._crowd.open -= 1
            elif not self._seen.stopped:
                self._seen.refused += 1

    async def _read(self, answer: httpx.Response, *, asked_to_resume: bool) -> None:
        parser = Parser()
        left = self._cut(self._random) if self._cut else 2**62
        try:
            async for data in answer.aiter_bytes():
                for frame in parser.feed(data[:left]):
                    self._take(frame, asked_to_resume=asked_to_resume)
                left -= len(data)
                if left <= 0:
                    self._seen.cuts += 1
                    return
        except (httpx.TransportError, httpx.DecodingError):
            self._seen.broken += 1
        else:
            self._seen.ends += 1

    def _take(self, frame: Frame, *, asked_to_resume: bool) -> None:
        self._last_id = frame.id or self._last_id
        if frame.event == "position":
            if asked_to_resume:
                self._crowd.resumed[json.loads(frame.data)["resumed"]] += 1
        elif frame.event == "snapshot":
            body = json.loads(frame.data)
            if body["gap"]:
                self._seen.gaps.append((len(self._seen.events), body["reason"], frame.id))
        elif frame.event in ADDED:
            self._seen.told.append(frame.event)
        else:
            self._times[frame.id] = time.monotonic()
            self._seen.events.append((frame.id, frame.event, json.loads(frame.data)))


async def watching(
    standing: Standing,
    job: str,
    token: str,
    count: int,
    *,
    cut: Cut | None = None,
    beside: Callable[[Crowd], Awaitable[None]] | None = None,
    seconds: float = 60,
) -> Crowd:
    """So many watchers until all were told to stop, or the time is over; `beside` runs meanwhile."""
    began = time.monotonic()
    crowd = Crowd(History([Seen(f"watcher {number}") for number in range(count)]))
    async with AsyncExitStack() as stack:
        browsers = [await stack.enter_async_context(client(standing)) for _ in range(-(-count // A_BROWSER))]
        doing = [
            Watcher(crowd, seen, browsers[number // A_BROWSER], job, token, cut).watch()
            for number, seen in enumerate(crowd.history.watchers)
        ]
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*doing, *([] if beside is None else [beside(crowd)]))
        except TimeoutError:
            pass  # The checker says who lacks what.
    crowd.history.seconds = time.monotonic() - began
    return crowd


async def arrivals(standing: Standing, path: str, seconds: float) -> tuple[dict[str, float], float]:
    """When each event of a stream came, by id, and how many seconds after the last it ended (`seconds` where it did not)."""
    parser, times = Parser(), dict[str, float]()
    async with client(standing) as browser:
        try:
            async with (
                asyncio.timeout(seconds),
                browser.stream("GET", path, headers={"Accept": EVENT_STREAM}) as answer,
            ):
                async for data in answer.aiter_bytes():
                    times |= {frame.id: time.monotonic() for frame in parser.feed(data)}
        except httpx.TransportError:
            pass
        except TimeoutError:
            return times, seconds
    return times, time.monotonic() - max(times.values()) if times else 0.0


def lateness(later: dict[str, float], earlier: dict[str, float]) -> list[float]:
    """Of each event by the one way, in seconds after the other; without those that were there before the way was open."""
    return [later[id] - at for id, at in earlier.items() if id in later and at - min(earlier.values()) > 0.25]
