"""`GET /jobs/{id}/events`: decides what a watcher gets first and how its bytes travel; the hub does the rest.

The answer is handed over to the server's own protocol where that offers it, and sent by plain ASGI `send` elsewhere; what the
client sees is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .. import events, metrics, tracing
from ..auth.keys import KeysUnavailable
from ..auth.who import Who
from ..errors import NoSuchJob, StoreUnavailable, TokenExpired
from ..events import EventId
from ..frames import sse
from ..jobs import Record
from ..streaming import pages
from ..streaming.formats import Format
from ..streaming.hub import STREAMING_OFF, Hub
from ..streaming.lives import expired
from ..streaming.sink import EXTENSION, Attach, Handover, Stream
from ..streaming.watcher import Start
from . import access, lookup, poll
from .parts import parts_of
from .position import Form, Position, form_of, position_of, wait_of, wants_snapshot
from .problems import problem

#: How many times wider the reconnect window may grow: one more for each so many streams of this process.
_STREAMS_PER_WINDOW: Final = 1_000

#: A Redis that hangs answers nobody: EventSource is told to come back long before a client of ours has given up its own tries.
_BEGIN_SECONDS: Final = 3.0
#: The setting that a refusal is due to.
_LIMITS: Final = {"too_many_streams": "MAX_STREAMS", "too_many_streams_of_owner": "MAX_STREAMS_PER_OWNER"}

HEADERS: Final = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
    "Content-Type": sse.MEDIA_TYPE,
}


async def follow(request: Request) -> Response:
    """Raises what the problem table answers; to EventSource only where asking again is of no use."""
    parts = parts_of(request)
    form = form_of(request)
    seconds = wait_of(request) if form == "poll" else 0.0
    who = await admit(request)
    if isinstance(who, Response):
        return who
    job = lookup.job_id(request)
    position = position_of(request)
    if parts.hub.over.holds(who.subject, job, position.asked):
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    if parts.hub.draining:
        return busy(request, "draining", random.uniform(0.5, 2))
    try:
        return await _begin(request, form, who, job, position, seconds)
    except StoreUnavailable:
        return busy(request, "store_unavailable", random.uniform(2, 6))
    except NoSuchJob:
        if await _may_come_back(parts.hub):
            return busy(request, "store_recovering", random.uniform(2, 6))
        raise


@contextlib.asynccontextmanager
async def soon() -> AsyncIterator[None]:
    """What a stream's beginning asks of Redis. Raises StoreUnavailable where the answer takes too long."""
    try:
        async with asyncio.timeout(_BEGIN_SECONDS):
            yield
    except TimeoutError:
        raise StoreUnavailable("Redis takes too long to answer") from None


async def admit(request: Request) -> Who | Response:
    """Who asks for a stream; or the answer that EventSource can bear for one whose time is over, or cannot be proved now."""
    patient = accepts_stream(request)
    try:
        async with soon():
            who = await access.caller(request, "jobs:read", url_token=True)
    except TokenExpired as error:
        if patient and error.who is not None:
            return plain_stream(expired())
        raise
    except (KeysUnavailable, StoreUnavailable):
        return busy(request, "store_unavailable", random.uniform(2, 6))
    return plain_stream(expired()) if patient and who.has_expired(time.time()) else who


async def _begin(
    request: Request, form: Form, who: Who, job: str, position: Position, seconds: float
) -> Response:
    parts = parts_of(request)
    async with soon():
        record = await lookup.record_for(request, who, job)
    if _is_over(record, position):
        parts.hub.over.add(who.subject, job, position.asked)
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    if form != "poll":
        trace = await _trace_of(request, job)
        return not_now(request, who) or _stream(request, form, who, job, position, record, trace)
    snapshot = wants_snapshot(request)
    begin = record.control.last if snapshot else position.begin(record.control.last)
    return await poll.answer(
        request,
        who,
        job,
        begin,
        0 if snapshot or record.terminal else seconds,
        lambda: not_now(request, who),
    )


def accepts_stream(request: Request) -> bool:
    """As EventSource does, which gives up for good on any status but 200. Who asks to wait is not it."""
    return form_of(request) != "poll" and sse.MEDIA_TYPE in request.headers.get("accept", "")


def _is_over(record: Record, position: Position) -> bool:
    return record.terminal and position.id is not None and position.id == record.control.last


# -- not now


async def _may_come_back(hub: Hub) -> bool:
    """Whether Redis has lost data, and this job's reporter may only not have brought it back yet. Asked at once: the hub's own
    round would notice some seconds after browsers have given up at a 404."""
    with contextlib.suppress(StoreUnavailable):
        async with soon():
            await hub.path.check_marker()
    return hub.path.lost_data_lately()


def not_now(request: Request, who: Who) -> Response | None:
    """The answer where one more stream would be too many."""
    refusal = _refusal(parts_of(request).hub, who)
    return None if refusal is None else busy(request, refusal, random.uniform(5, 30))


def _refusal(hub: Hub, who: Who) -> str | None:
    if not hub.streaming:
        return STREAMING_OFF
    if hub.count >= hub.settings.max_streams:
        return "too_many_streams"
    if hub.by_owner.get(who.subject, 0) >= hub.settings.max_streams_per_owner:
        return "too_many_streams_of_owner"
    return None


def busy(request: Request, reason: str, seconds: float) -> Response:
    """Come back later: an event for EventSource, a problem for all others."""
    metrics.refused(reason)
    if accepts_stream(request):
        body = b'{"reason":"%b","retry_after":%.1f}' % (reason.encode(), seconds)
        return plain_stream(sse.encode(retry=round(seconds * 1000), event="busy", data=body))
    status = 429 if reason.startswith("too_many") else 503
    headers = {"Retry-After": str(max(round(seconds), 1))}
    if reason == STREAMING_OFF:
        # RFC 8288: the same job at another address, which needs no open connection.
        address = quote(str(request.scope["path"]).removesuffix("/events"))
        headers["Link"] = f'<{address}>; rel="alternate"'
    detail = f"not now: {reason.replace('_', ' ')}"
    if (limit := _LIMITS.get(reason)) is not None:
        detail += f" (more than {limit} allows)"
    return problem(status, detail, headers=headers)


def plain_stream(body: bytes) -> Response:
    return Response(body, headers=dict(HEADERS) | {"Connection": "close"})


# -- the stream


def _stream(
    request: Request,
    format: Format,
    who: Who,
    job: str,
    position: Position,
    record: Record,
    trace: dict[str, str] | None,
) -> Response:
    hub = parts_of(request).hub
    first, begin = _first(hub, format, position, record, snapshot=wants_snapshot(request))
    start = Start(
        begin,
        format=format,
        owner=who.subject,
        ends_at=ends_at(request),
        expires_at=who.expires_at,
        session=who.session,
        on_end=access.stream_ended(request, None if trace is None else tracing.Stream(job, trace)),
        address=access.address_of(request),
    )
    # RFC 9112 §6.1: no chunks for HTTP/1.0, and the server sends whatever is not handed over in chunks.
    hand_over = not record.terminal or request.scope.get("http_version") == "1.0"
    return StreamResponse(
        hub, first, lambda sink: hub.follow(job, sink, start), format, may_hand_over=hand_over
    )


async def _trace_of(request: Request, job: str) -> dict[str, str] | None:
    """What its job carries of a trace; None where nobody traces, or no stream will follow."""
    if not tracing.is_on() or request.method != "GET":
        return None
    store = parts_of(request).store
    with contextlib.suppress(StoreUnavailable):
        return tracing.unpack(await store.send(store.commands.get_record(tracing.KEY, job)))
    return {}


def ends_at(request: Request) -> float | None:
    """When the stream is to end by itself (the hub's clock): EventSource comes back then, `curl` would not."""
    hub = parts_of(request).hub
    if not accepts_stream(request):
        return None
    return hub.now() + hub.settings.stream_seconds * random.uniform(0.8, 1)


def _first(
    hub: Hub, format: Format, position: Position, record: Record, *, snapshot: bool
) -> tuple[bytes, EventId | None]:
    """The first bytes, and where the watcher begins (None: malformed)."""
    last = record.control.last
    begin = last if snapshot else position.begin(last)
    shown = str(begin) if begin is not None else position.asked[:128]
    named = None if snapshot or begin is None else str(begin)
    data = {"position": shown, "resumed": bool(position.asked)}
    first = format.added("position", _encode(data), id=named, retry=retry_ms(hub))
    if snapshot:
        first += pages.snapshot(format, record, id=last, reason=None)
    return first, begin


def _encode(data: dict[str, Any]) -> bytes:
    try:
        return events.encode(data)
    except ValueError:
        return events.encode({**data, "position": ""})


def retry_ms(hub: Hub) -> int:
    """Milliseconds, drawn anew for each: a fleet comes back spread over a window that grows with it."""
    width = 1 + min(hub.count // _STREAMS_PER_WINDOW, 20)
    return random.randint(1_000, 1_000 + 2_000 * width)


class SendSink:
    """A sink over plain ASGI `send`: takes one piece at a time and is not ready until that has left."""

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._wake = asyncio.Event()
        self._over = False
        self.watcher: Stream | None = None

    @property
    def ready(self) -> bool:
        return not self._pending and not self._over

    @property
    def unsent(self) -> int:
        return sum(map(len, self._pending))

    def write(self, data: bytes) -> None:
        self._pending.append(data)
        self._wake.set()

    def end(self) -> None:
        self._over = True
        self._wake.set()

    def abort(self) -> None:
        self._pending.clear()
        self.end()

    def lose(self) -> None:
        """The client is gone."""
        if self.watcher is not None:
            self.watcher.on_lost()
        self.abort()

    async def pieces(self) -> AsyncIterator[bytes]:
        """What was written, until the end; tells the hub whenever all of it has been taken."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                data = b"".join(self._pending)
                yield data
                self._pending.clear() if len(self._pending) == 1 else self._drop(data)
            if self._over:
                return
            if self.watcher is not None:
                self.watcher.on_ready()

    def _drop(self, sent: bytes) -> None:
        """Forget what has been sent; more may have been written while it was on its way (an end's last words)."""
        left = len(sent)
        while left > 0:
            left -= len(self._pending.pop(0))


class StreamResponse(Response):
    """A stream: how the bytes travel is ours; how a foreign server says that it stops, sse-starlette's."""

    def __init__(
        self, hub: Hub, first: bytes, attach: Attach, format: Format, *, may_hand_over: bool
    ) -> None:
        # A stream is the last answer on its connection: a proxy must not wait to use it again.
        super().__init__(headers={**HEADERS, "Content-Type": format.media_type, "Connection": "close"})
        del self.headers["Content-Length"]
        self._hub = hub
        self._first = first
        self._attach = attach
        self._may_hand_over = may_hand_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
        elif not await self._hand_over(scope, send):
            await self._send_all(receive, send)

    async def _hand_over(self, scope: Scope, send: Send) -> bool:
        """Send the first bytes with the offer. True when the server has taken the connection; else they went the ordinary way."""
        offer: Handover | None = (scope.get("extensions") or {}).get(EXTENSION)
        if offer is None or not self._may_hand_over:
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            return False
        await send(offer.first(self._first, self._attach))
        return offer.taken

    async def _send_all(self, receive: Receive, send: Send) -> None:
        sink = SendSink()
        self._hub.watch_for_exit(EventSourceResponse._listen_for_exit_signal)
        sink.watcher = watcher = self._attach(sink)
        gone = asyncio.ensure_future(poll.disconnected(receive))
        gone.add_done_callback(lambda _: sink.lose())
        try:
            async for data in sink.pieces():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            pass  # The client left while something was on its way: nobody is there to tell.
        finally:
            watcher.on_lost()
            gone.cancel()
