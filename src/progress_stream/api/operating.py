"""What whoever runs the service looks at: numbers for Prometheus, and who is slow or long gone among those who watch.

Both are on a port of their own where ADMIN_PORT names one. Nothing there asks who is asking: that port is for the inside.
"""

from __future__ import annotations

import heapq
from typing import Any, Final

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .. import events
from .. import metrics as numbers
from ..auth.who import ADMIN
from . import access, health, problems
from .parts import Parts, parts_of

#: Rows of one answer: the worst ones.
MOST_STREAMS: Final = 1_000
_NOT_KEPT: Final = {"Cache-Control": "no-store"}


def admin_app(parts: Parts) -> Starlette:
    """What ADMIN_PORT serves."""
    app = Starlette(
        routes=[
            Route("/metrics", exposition), Route("/admin/streams", listing), Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
        ],
        exception_handlers={HTTPException: problems.response_of},
    )  # fmt: skip
    app.state.parts = parts
    return app


async def metrics(request: Request) -> Response:
    """On the port that clients use, only while there is no other."""
    if parts_of(request).settings.admin_port is not None:
        raise HTTPException(404)
    return await exposition(request)


async def exposition(request: Request) -> Response:
    """For any scraper: there is nothing in it about any job or caller."""
    await parts_of(request).queues.measure()
    # In a thread, for it may have to read the files of many processes.
    text, media_type = await to_thread.run_sync(numbers.exposition, request.headers.get("accept", ""))
    return Response(text, headers={**_NOT_KEPT, "Content-Type": media_type})


async def streams(request: Request) -> Response:
    """For administrators, where no other port keeps strangers away."""
    access.refuse_ticket(await access.caller(request, ADMIN))
    return await listing(request)


async def listing(request: Request) -> Response:
    """The open streams of this process, the furthest behind first."""
    hub = parts_of(request).hub
    rows = [_row(client, hub.now()) for client in hub.clients()]
    worst = heapq.nlargest(
        MOST_STREAMS, rows, key=lambda row: (row["lag"], row["unsent_bytes"], row["age_seconds"])
    )
    body = {"streams": worst, "total": len(rows)}
    return Response(events.encode(body), headers=_NOT_KEPT, media_type="application/json")


def _row(client: Any, now: float) -> dict[str, Any]:
    """Of a stream of one job, or (then `job` is null) of a list of jobs."""
    ready = client.sink.ready
    topic = getattr(client, "topic", None)
    return {
        "job": None if topic is None else topic.log.job,
        "owner": client.owner,
        "address": getattr(client, "address", None),
        "lag": getattr(client, "lag", 0),
        "unsent_bytes": getattr(client.sink, "unsent", 0),
        "sent_bytes": client.bytes,
        "age_seconds": round(now - client.opened_at, 3),
        "state": "blocked" if not ready else "live" if client.live else "catching up",
    }
