"""`GET /jobs/events`: one stream for a page of many jobs. Decides what it may see and from when on; the hub does the rest.

Whole states, latest wins: a page that misses some is right with the next. What is wrong with a single id is told in the stream,
for EventSource gives up for good on an error.
"""

from __future__ import annotations

import random
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from .. import events
from ..auth.who import ADMIN, Who
from ..errors import InvalidInput, StoreUnavailable
from ..streaming.list_watcher import ListStart
from . import access, follow
from .parts import parts_of
from .position import position_text, sse_of

MAX_JOBS: Final = 200
#: A position in these streams: Redis' time in milliseconds.
_TIME: Final = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)


async def overview(request: Request) -> Response:
    """As a job's own stream, but for what is in it."""
    parts = parts_of(request)
    who = await follow.admit(request)
    if isinstance(who, Response):
        return who
    ids = _ids(request, who)
    if parts.hub.draining:
        return follow.busy(request, "draining", random.uniform(0.5, 2))
    try:
        async with follow.soon():
            now = await parts.store.send(parts.store.commands.clock())
    except StoreUnavailable:
        return follow.busy(request, "store_unavailable", random.uniform(2, 6))
    return follow.not_now(request, who) or _stream(request, who, ids, now)


def _ids(request: Request, who: Who) -> tuple[str, ...] | None:
    """The jobs asked for; None: all of the caller's. Raises InvalidInput."""
    if "jobs" not in request.query_params:
        return None if who.jobs is None else tuple(sorted(who.jobs))
    ids = [id for text in request.query_params.getlist("jobs") for id in text.split(",")]
    if not all(ids):
        raise InvalidInput("jobs", "holds an empty id", "ids with commas between; left out: all of yours")
    if len(ids) > MAX_JOBS:
        raise InvalidInput("jobs", f"names {len(ids)} jobs", f"at most {MAX_JOBS}")
    return tuple(dict.fromkeys(ids))


def _stream(request: Request, who: Who, ids: tuple[str, ...] | None, now: int) -> Response:
    hub = parts_of(request).hub
    asked = position_text(request)
    since = int(asked) if _TIME.fullmatch(asked) else None
    start = ListStart(
        subject=who.subject,
        may_see=who.may_see,
        jobs=ids,
        any_owner=ids is not None and (who.any_owner or ADMIN in who.scopes),
        since=since,
        only_new=asked == "$",
        format=sse_of(request),
        ends_at=follow.ends_at(request),
        expires_at=who.expires_at,
        session=who.session,
        on_end=access.stream_ended(request),
    )
    begin = now if start.only_new else since or 0
    data = events.encode({"position": str(begin), "resumed": bool(asked)})
    first = start.format.added("position", data, id=str(begin), retry=follow.retry_ms(hub))
    return follow.StreamResponse(
        hub, first, lambda sink: hub.lists.watch(sink, start), start.format, may_hand_over=True
    )
