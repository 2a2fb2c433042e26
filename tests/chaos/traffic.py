"""What goes on while faults happen: a program that reports a job, a crowd of watchers who come back by themselves, and who asks for
everything else meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Self
from urllib.parse import urlsplit

import httpx

from progress_stream import report
from progress_stream.auth.verify import sign
from progress_stream.frames.sse import Frame
from progress_stream.settings import Settings
from progress_stream.store.connect import sync_client
from tests.chaos.faults import PATIENCE_SECONDS, Cuts, WebProcess
from tests.chaos.history import History, Seen
from tests.support.server import SECRET, Site
from tests.support.streams import EVENT_STREAM, Response, request

OWN_TYPE = "line"


class Program:
    """Reports one job by `report()`, in a thread: the events 1…count of an own type, spread over some seconds."""

    def __init__(
        self,
        settings: Settings,
        count: int,
        seconds: float,
        before_end: Callable[[], object] | None = None,
    ) -> None:
        self.job = ""
        #: Seconds that the slowest report, the block's beginning and its end took.
        self.slowest_report = self.beginning = self.ending = 0.0
        self.error: BaseException | None = None
        self.reported = 0
        self._settings = settings
        self._count = count
        self._seconds = seconds
        self.before_end = before_end
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Self:
        """Returns once the job has an id."""
        self._thread.start()
        if not self._begun.wait(20):
            raise RuntimeError("the program did not begin")
        return self

    def join(self, seconds: float = 60) -> None:
        """Raises what the program raised."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError("the program did not end")
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self._report()
        except BaseException as error:
            self.error = error
        finally:
            self._begun.set()

    def _report(self) -> None:
        began = time.monotonic()
        with report("chaos", owner="alice", settings=self._settings) as job:
            self.job = job.id
            self.beginning = time.monotonic() - began
            self._begun.set()
            first = time.monotonic()
            for number in range(1, self._count + 1):
                before = time.monotonic()
                job.event(OWN_TYPE, number)
                self.slowest_report = max(self.slowest_report, time.monotonic() - before)
                self.reported = number
                ahead = first + self._seconds * number / self._count - time.monotonic()
                # In little bursts, as programs report.
                if ahead > 0.005:
                    time.sleep(ahead)
            if self.before_end is not None:
                self.before_end()
            ending = time.monotonic()
        self.ending = time.monotonic() - ending


class Watcher:
    """A browser's EventSource without its patience: comes back at once with its last id, until it is told to stop by 204."""

    def __init__(
        self, seen: Seen, url: str, job: str, token: str, cuts: Cuts | None, *, may_be_missing: bool = False
    ) -> None:
        """`may_be_missing`: 404 is no end, for Redis may have lost the job, and its reporter not have brought it back yet."""
        self.seen = seen
        self._fine = {0, 200, 204, 404} if may_be_missing else {0, 200, 204}
        where = urlsplit(url)
        self._host, self._port = where.hostname or "", where.port or 0
        self._path = f"/jobs/{job}/events"
        self._token = token
        self._cuts = cuts
        self._random = Random(seen.name)
        self._last_id = ""

    async def watch(self) -> None:
        while not self.seen.stopped:
            try:
                await self._connect()
            except OSError:
                self.seen.refused += 1
            await asyncio.sleep(self._random.uniform(0, 0.05))

    async def _connect(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        self.seen.connects += 1
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Accept": EVENT_STREAM}
            if self._last_id:
                headers["Last-Event-ID"] = self._last_id
            writer.write(request(self._path, f"{self._host}:{self._port}", headers))
            await self._read(reader)
        finally:
            # Half of them vanish, half say goodbye.
            if self._random.random() < 0.5:
                writer.transport.abort()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """As many bytes as this connection is to live, of whatever part of the answer they are."""
        response = Response()
        left = 2**62 if self._cuts is None else self._cuts.draw()
        while left and not response.complete:
            try:
                data = await reader.read(min(left, 65_536))
            except ConnectionError:
                data = b""
            if not data:
                self.seen.broken += 1
                return
            left -= len(data)
            for frame in response.feed(data):
                self._take(frame)
        if response.status not in self._fine:
            raise AssertionError(f"{self.seen.name} was answered {response.status} {bytes(response.body)!r}")
        self.seen.stopped = response.status == 204
        self.seen.refused += response.status == 404
        if response.complete:
            self.seen.ends += 1
        else:
            self.seen.cuts += 1

    def _take(self, frame: Frame) -> None:
        self._last_id = frame.id or self._last_id
        if frame.event in {"busy", "draining", "expired"}:
            self.seen.told.append(frame.event)
        elif frame.event == "snapshot":
            body = json.loads(frame.data)
            if body["gap"]:
                self.seen.gaps.append((len(self.seen.events), body["reason"], frame.id))
        elif frame.event != "position":
            self.seen.events.append((frame.id, frame.event, json.loads(frame.data)))


async def crowd(
    url: str,
    job: str,
    token: str,
    count: int,
    *,
    seed: int,
    cut_every: int = 1,
    faults: Callable[[list[str]], Awaitable[None]] | None = None,
    seconds: float = 240,
    may_be_missing: bool = False,
) -> History:
    """So many watchers until all were told to stop, or the time is over; every `cut_every`th is cut at random bytes.

    `faults` runs beside them and notes what it did.
    """
    began = time.monotonic()
    history = History([Seen(f"watcher {number}") for number in range(count)])
    watching = [
        Watcher(
            seen,
            url,
            job,
            token,
            Cuts(seed, number) if number % cut_every == 0 else None,
            may_be_missing=may_be_missing,
        ).watch()
        for number, seen in enumerate(history.watchers)
    ]
    doing = [] if faults is None else [faults(history.faults)]
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*watching, *doing)
    except TimeoutError:
        pass  # The checker says who lacks what.
    history.seconds = time.monotonic() - began
    return history


class Asking:
    """Everything but streams, all the time: states, lists, submissions. Keeps what was answered, and which jobs were made."""

    def __init__(self, url: str, job: str) -> None:
        token = sign(SECRET, "alice", "jobs:read jobs:write", 3_600)
        self._client = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        self._job = job
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.broken: list[str] = []
        self.made: list[str] = []

    async def until(self, over: asyncio.Event) -> None:
        async with self._client:
            while not over.is_set():
                await asyncio.gather(self._state(), self._list(), self._submit())
                await asyncio.sleep(0.02)

    async def _state(self) -> None:
        await self._ask("state", self._client.build_request("GET", f"/jobs/{self._job}"))

    async def _list(self) -> None:
        await self._ask("list", self._client.build_request("GET", "/jobs", params={"limit": 5}))

    async def _submit(self) -> None:
        answer = await self._ask(
            "submit", self._client.build_request("POST", "/jobs", json={"actor": "later", "args": {}})
        )
        if answer is not None and answer.status_code == 201:
            self.made.append(answer.json()["id"])

    async def _ask(self, kind: str, request: httpx.Request) -> httpx.Response | None:
        try:
            answer = await self._client.send(request)
        except httpx.TransportError as error:
            self.broken.append(f"{kind}: {error!r}")
            return None
        self.statuses[kind, answer.status_code] += 1
        return answer


def announce(settings: Settings) -> None:
    """As a worker does, so that jobs can be submitted; they wait in their queue."""
    client = sync_client(str(settings.redis_url))
    with client:
        Site("", settings, client).announce("later", seconds=600)


async def until_ready(web: WebProcess) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(lambda: web.is_ready):
            await asyncio.sleep(0.05)
