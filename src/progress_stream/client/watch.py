"""Follows one job over HTTP and comes back after every drop, where it was. For plain code; prints nothing.

What an event means is left to the caller; how long to wait, to retry.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx2

from ..errors import AccessError, InvalidInput, NoSuchJob, NotAuthenticated, ProgressStreamError, TokenExpired
from ..events import SERVER_ADDED, TERMINAL
from ..frames.sse import Frame, Parser
from .retry import Backoff

#: Seconds without a byte after which a connection counts as dead: four heartbeats of the server's default.
SILENCE_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 10.0
#: A wait longer than this is not a server's pause but a mistake on the way.
MAX_TOLD_SECONDS: Final = 300.0
#: Answers that say "later": all but the 5xx, which say so too.
LATER: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Received:
    """One event of the job, or a `snapshot` of it. `id` is the position to come back to."""

    id: str
    type: str
    data: dict[str, Any]


class _Dropped(Exception):
    """The connection is over and the job is not."""


def check_url(url: str) -> str:
    """The server's address without a slash at its end. Raises InvalidInput."""
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
        )
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable():
        raise InvalidInput("url", "is not the address of a server", "http://host:port or https://host/path")
    return url.rstrip("/")


class Follower:
    """Iterate over it: each event once, in order, until the job's end. May be iterated once.

    Raises NoSuchJob, NotAuthenticated (TokenExpired among it) and AccessError as soon as the server says so, and
    ProgressStreamError where the address is not a server of ours. Everything else is a drop, after which it comes
    back for ever.
    """

    def __init__(
        self,
        client: httpx2.Client,
        url: str,
        job: str,
        token: str | None,
        *,
        backoff: Backoff,
        snapshot_first: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        on_drop: Callable[[str, float], None] = lambda why, seconds: None,
    ) -> None:
        self._client = client
        self._job = job
        self._address = f"{url}/jobs/{quote(job, safe='~')}/events" + (
            "?replay=snapshot" if snapshot_first else ""
        )
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self._backoff = backoff
        self._sleep = sleep
        self._on_drop = on_drop
        self._last_id = ""
        self._told: float | None = None
        self._met = False
        self._state_is_terminal = False
        self._over = False

    def __iter__(self) -> Iterator[Received]:
        while True:
            self._told = None
            try:
                yield from self._connection()
                why = "the stream ended"
            except _Dropped as drop:
                why = str(drop)
            except httpx2.HTTPError as error:
                why = type(error).__name__
            else:
                self._over = self._over or self._state_is_terminal
            if self._over:
                return
            seconds = self._backoff.wait(self._told)
            self._on_drop(why, seconds)
            self._sleep(seconds)

    def _connection(self) -> Iterator[Received]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **self._authorization}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        timeout = httpx2.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS)
        with self._client.stream("GET", self._address, headers=headers, timeout=timeout) as response:
            if response.status_code == 204:
                self._over = True
            elif response.status_code != 200:
                self._refused(response)
            elif not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                self._foreign("answered something that is no event stream")
            else:
                self._met = True
                self._backoff.opened()
                yield from self._events(response)

    def _events(self, response: httpx2.Response) -> Iterator[Received]:
        parser = Parser()
        for chunk in response.iter_bytes():
            for frame in parser.feed(chunk):
                self._last_id = frame.id or self._last_id
                data = _object(frame.data)
                if frame.event in SERVER_ADDED - {"snapshot"}:
                    self._take_notice(frame)
                elif data is not None:
                    self._backoff.progressed()
                    self._mind_the_end(frame.event, data)
                    yield Received(frame.id, frame.event, data)
                if self._over:
                    return

    def _take_notice(self, frame: Frame) -> None:
        """What the server says about this connection, not about the job."""
        seconds = None if frame.retry is None else min(frame.retry / 1000, MAX_TOLD_SECONDS)
        if frame.event == "expired":
            raise TokenExpired("the token has run out")
        if frame.event == "position":
            self._backoff.base_seconds = seconds or self._backoff.base_seconds
        elif frame.event in {"busy", "draining"}:
            self._told = seconds

    def _mind_the_end(self, kind: str, data: dict[str, Any]) -> None:
        if kind in TERMINAL:
            self._over = True
        elif kind == "snapshot":
            state = data.get("state")
            # Kept events may still follow a snapshot of an ended job, so its stream is read to its end.
            self._state_is_terminal = isinstance(state, dict) and state.get("state") in TERMINAL

    def _refused(self, response: httpx2.Response) -> None:
        status = response.status_code
        if status in LATER or status >= 500:
            self._told = _retry_after(response.headers.get("Retry-After"))
            raise _Dropped(f"the server answered {status}")
        detail = problem_detail(response)
        if status == 404:
            raise NoSuchJob(self._job)
        if status == 401:
            raise NotAuthenticated(detail or "no valid token")
        if status == 403:
            raise AccessError(detail or "not allowed")
        raise ProgressStreamError(f"the server answered {status}" + (f": {detail}" if detail else ""))

    def _foreign(self, what: str) -> None:
        """A page from something on the way is a drop, unless there was never anything else at this address."""
        if self._met:
            raise _Dropped(what)
        raise ProgressStreamError(f"{self._address} {what}")


def problem_detail(response: httpx2.Response) -> str:
    """What an error answer says of itself (RFC 9457); empty where it is not one of ours."""
    try:
        problem = _object(response.read().decode("utf-8", "replace"))
    except httpx2.HTTPError:
        return ""
    said = (problem or {}).get("detail") or (problem or {}).get("title") or ""
    return said if isinstance(said, str) else ""


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _retry_after(text: str | None) -> float | None:
    """Seconds; the form with a date is not worth a clock that may be wrong."""
    return min(float(text), MAX_TOLD_SECONDS) if text and text.isascii() and text.isdigit() else None
