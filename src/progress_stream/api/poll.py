"""`GET /jobs/{id}/events` as one JSON answer: for clients behind proxies that let no stream through.

The hub wakes who waits, as it does for streams; Redis is read when there is something, never to see whether there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from .. import events, jobs
from ..auth.who import Who
from ..errors import NoSuchJob
from ..events import BEGINNING, EventId
from ..frames import ndjson
from ..jobs import Record
from ..streaming import formats
from ..streaming.resume import Entry, Page, resume
from ..streaming.watcher import Start, Watcher
from . import access
from .parts import Parts, parts_of

#: Events in one answer, and the bytes of events after which no more are added.
MOST_EVENTS: Final = 1_000
MOST_BYTES: Final = 1024 * 1024
#: Entries of one read.
_PAGE: Final = 250
_PRIVATE: Final = {"Cache-Control": "no-store, no-transform"}


async def answer(
    request: Request,
    who: Who,
    job: str,
    begin: EventId | None,
    seconds: float,
    refuse: Callable[[], Response | None],
) -> Response:
    """What comes after `begin` (None: a malformed position), as soon as there is any; what there is after so many seconds.

    `refuse` gives the answer to one who would have to wait and is one too many. Raises NoSuchJob for a job that goes
    meanwhile, and StoreUnavailable.
    """
    parts = parts_of(request)
    if request.method == "HEAD":
        # RFC 9110 §8.6: no length rather than one that the answer to a GET would not have.
        answer = Response(headers=_PRIVATE, media_type="application/json")
        del answer.headers["Content-Length"]
        return answer
    found = await _look(parts, job, begin)
    if found.is_empty and seconds and begin is not None:
        if (refusal := refuse()) is not None:
            return refusal
        start = Start(
            begin,
            format=formats.WAKING,
            owner=who.subject,
            expires_at=who.expires_at,
            session=who.session,
            on_end=access.stream_ended(request),
            address=access.address_of(request),
        )
        if not await _wait(parts, job, start, seconds, request.receive):
            return Response(status_code=204)
        found = await _look(parts, job, begin)
    found.record = await parts.announced.completed(found.record)
    return Response(found.encode(), headers=_PRIVATE, media_type="application/json")


class _Waker:
    """A sink that takes no bytes: that any come, or the end, is all that is waited for."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.watcher: Watcher | None = None

    @property
    def ready(self) -> bool:
        return not self.woken.is_set()

    @property
    def unsent(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        if data:
            self.woken.set()

    def end(self) -> None:
        self.woken.set()

    def abort(self) -> None:
        self.woken.set()


async def _wait(parts: Parts, job: str, start: Start, seconds: float, receive: Receive) -> bool:
    """Until something comes, the server goes away or the time is over. False when the client left."""
    waker = _Waker()
    watcher = parts.hub.follow(job, waker, start)
    woken = asyncio.ensure_future(waker.woken.wait())
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait((woken, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return not gone.done()
    finally:
        watcher.on_lost()
        woken.cancel()
        gone.cancel()


async def disconnected(receive: Receive) -> None:
    """Until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(slots=True)
class _Found:
    """A page, and the job at the moment in which its last entries were read."""

    page: Page
    record: Record

    @property
    def is_empty(self) -> bool:
        return not self.page.entries and self.page.gap is None and not self.record.terminal

    def encode(self) -> bytes:
        page, last = self.page, self.record.control.last
        about = {
            "more": page.position != last,
            "gap": page.gap is not None,
            "reason": None if page.gap is None else page.gap.reason,
            "through": str(last),
            "last_event_id": str(page.position),
            "state": jobs.view(self.record),
        }
        lines = b",".join(_object(entry) for entry in page.entries)
        return b'{"events":[%b],%b' % (lines, events.encode(about)[1:])


def _object(entry: Entry) -> bytes:
    id, type, data = entry
    try:
        events.decode(data)
    except ValueError:
        data = b""  # Somebody else wrote it; it must not spoil what comes with it.
    return ndjson.stored(str(id).encode(), type, data).rstrip(b"\n")


async def _look(parts: Parts, job: str, begin: EventId | None) -> _Found:
    """In reads of a few: a thousand large events at once would stand in the memory of a server for each who asks."""
    found = await _read(parts, job, begin)
    entries, page = found.page.entries, found.page
    while (
        page.entries
        and page.position != found.record.control.last
        and len(entries) < MOST_EVENTS
        and sum(len(data) for _, _, data in entries) < MOST_BYTES
    ):
        following = await _read(parts, job, page.position)
        if following.page.gap is not None:
            break  # Told by the next answer, which begins there.
        page = following.page
        entries += page.entries
        found = _Found(Page(found.page.gap, entries, page.position), following.record)
    kept = entries[:MOST_EVENTS]
    position = kept[-1][0] if kept else found.page.position
    return _Found(Page(found.page.gap, kept, position), found.record)


async def _read(parts: Parts, job: str, begin: EventId | None) -> _Found:
    look = await parts.history_store.look(parts.history_store.commands.look(job, begin or BEGINNING, _PAGE))
    if look.record is None:
        raise NoSuchJob(job)
    return _Found(resume(begin, look.record, look.entries), look.record)
