"""`watch` and `watch_sync`: follow a job from outside until it ends, whatever happens to the connection.

What to ask, what an answer means and how long to wait is rules.py's; this moves the bytes. Plain code gets the same events
from the same loop, which runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Final

import anyio
import anyio.from_thread
import httpx2

from .retry import Backoff
from .rules import HEARTBEAT_SECONDS, Ask, Replay, Rules, WatchEvent

CONNECT_SECONDS: Final = 10.0

#: A token, or what gives one: asked at the start, and again when the server takes the last one no longer.
Token = str | Callable[[], str | Awaitable[str]] | None
OnDrop = Callable[[str, float], None]


def watch(
    url: str,
    job_id: str,
    *,
    token: Token = None,
    replay: Replay = "events",
    last_event_id: str = "",
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    on_drop: OnDrop | None = None,
    client: Callable[[], httpx2.AsyncClient] = httpx2.AsyncClient,
) -> AsyncGenerator[WatchEvent, None]:
    """Each event of a job once, in order, until the job's end; over drops, restarts and proxies that let no stream through.

    `replay="snapshot"` begins with the state instead of the history, `last_event_id` after that event. `on_drop` is told why
    a connection ended and after how many seconds it is tried again. `client` makes the HTTP client, for certificates and
    proxies of one's own.

    Raises InvalidInput at once; NoSuchJob, NotAuthenticated (TokenExpired among it) and AccessError as soon as the server says
    so; ProgressStreamError where the address is not such a server. Nothing else ends it.
    """
    rules = Rules(
        url, job_id, backoff=Backoff(random.random, time.monotonic), replay=replay, last_event_id=last_event_id,
        heartbeat_seconds=heartbeat_seconds, can_renew=callable(token),
    )  # fmt: skip
    return follow(rules, token, client, on_drop or (lambda why, seconds: None))


def watch_sync(
    url: str,
    job_id: str,
    *,
    token: Token = None,
    replay: Replay = "events",
    last_event_id: str = "",
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    on_drop: OnDrop | None = None,
    client: Callable[[], httpx2.AsyncClient] = httpx2.AsyncClient,
) -> Generator[WatchEvent, None, None]:
    """As `watch`, for plain code: the same events from a plain loop. `token`, `on_drop` and `client` are called in a thread."""
    return _in_a_thread(
        watch(
            url, job_id, token=token, replay=replay, last_event_id=last_event_id,
            heartbeat_seconds=heartbeat_seconds, on_drop=on_drop, client=client,
        )
    )  # fmt: skip


def _in_a_thread(events: AsyncGenerator[WatchEvent, None]) -> Generator[WatchEvent, None, None]:
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(_say_nothing_of_generators)
        try:
            while (event := portal.call(_following, events)) is not None:
                yield event
        except GeneratorExit:
            portal.call(events.aclose)
            raise


def _say_nothing_of_generators() -> None:
    """Who is interrupted between two events leaves the HTTP client's generators to the end of the loop, which is ours alone.

    It closes all of them at once, though one closes the other, and would tell of that with a traceback.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "asyncgen" not in context:
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(handle)


async def _following(events: AsyncGenerator[WatchEvent, None]) -> WatchEvent | None:
    return await anext(events, None)


async def follow(
    rules: Rules,
    token: Token,
    client: Callable[[], httpx2.AsyncClient],
    on_drop: OnDrop,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> AsyncGenerator[WatchEvent, None]:
    """One request after the other, as the rules have it."""
    async with client() as http:
        current = await _given(token)
        while True:
            connection = _Connection(http, rules.ask(current), rules)
            try:
                async for event in connection:
                    yield event
            finally:
                with anyio.CancelScope(shield=True):
                    await connection.close()
            pause = rules.pause()
            if rules.over:
                return
            if rules.wants_token:
                current = await _given(token)
                rules.wants_token = False
            if pause.why:
                on_drop(pause.why, pause.seconds)
            await sleep(pause.seconds)


async def _given(token: Token) -> str | None:
    """What the caller gives; what its callback raises ends the watching, for only the caller can know better."""
    if token is None or isinstance(token, str):
        return token
    answer = token()
    return await answer if inspect.isawaitable(answer) else answer


class _Connection:
    """One request and what its answer gives. Every failure on the way ends it, and is told to the rules."""

    def __init__(self, client: httpx2.AsyncClient, ask: Ask, rules: Rules) -> None:
        self._client = client
        self._ask = ask
        self._rules = rules
        self._response: httpx2.Response | None = None
        self._pieces: AsyncGenerator[bytes, None] | None = None
        self._first: bytes | None = None
        self._whole: list[WatchEvent] = []
        self._events = self._run()

    def __aiter__(self) -> AsyncGenerator[WatchEvent, None]:
        return self._events

    async def close(self) -> None:
        await self._events.aclose()
        if self._pieces is not None:
            await self._pieces.aclose()
        if self._response is not None:
            await self._response.aclose()

    async def _run(self) -> AsyncGenerator[WatchEvent, None]:
        rules = self._rules
        try:
            await self._open()
            while (piece := await self._next()) is not None:
                for event in rules.feed(piece):
                    yield event
                if not rules.wants_more:
                    return
            for event in self._whole:
                yield event
        except httpx2.HTTPError as error:
            rules.dropped(type(error).__name__)

    async def _open(self) -> None:
        """Send the request and wait for the first byte of a stream, or for the whole of any other answer."""
        with anyio.CancelScope() as scope:
            response = self._response = await self._client.send(self._request(scope), stream=True)
            reading = self._rules.answered(response.status_code, response.headers)
            if reading == "pieces":
                self._pieces = _pieces(response)
                self._first = await anext(self._pieces, b"")
            elif reading == "whole":
                body = await response.aread()
                self._whole = self._rules.whole(response.status_code, response.headers, body)
        if scope.cancelled_caught:
            self._rules.silent(opening=True)

    def _request(self, scope: anyio.CancelScope) -> httpx2.Request:
        ask = self._ask

        async def on_step(name: str, info: Any) -> None:
            # The time for the answer begins when the question has left: to connect may take longer.
            if name.endswith("send_request_headers.complete"):
                scope.deadline = anyio.current_time() + ask.opening_seconds

        timeout = httpx2.Timeout(CONNECT_SECONDS, read=None)
        return self._client.build_request(
            "GET", ask.url, headers=ask.headers, timeout=timeout, extensions={"trace": on_step}
        )

    async def _next(self) -> bytes | None:
        """The next bytes of a stream; None at its end, clean or by silence, and where there is none."""
        if self._pieces is None or self._first is not None:
            first, self._first = self._first, None
            return first
        with anyio.CancelScope(deadline=anyio.current_time() + self._ask.silence_seconds) as scope:
            return await anext(self._pieces, None)
        if scope.cancelled_caught:
            self._rules.silent(opening=False)
        return None


async def _pieces(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    async for piece in response.aiter_bytes():
        yield piece
