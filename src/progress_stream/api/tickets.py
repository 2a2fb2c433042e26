"""`POST /tickets`: a short-lived token that may stand in a URL, for EventSource and download links."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .. import events
from ..auth import tickets
from ..errors import InvalidInput
from . import access, limits, lookup
from .parts import parts_of


async def create(request: Request) -> Response:
    """201 with the ticket. One for jobs that the caller does not see is refused as those jobs themselves are."""
    who = await access.caller(request, "jobs:read")
    access.refuse_ticket(who)
    parts = parts_of(request)
    jobs = await _jobs(request, parts.settings.body_bytes)
    now = time.time()
    issued = tickets.issue(who, jobs, parts.settings.ticket_seconds, now)
    for job in jobs or ():
        await lookup.job_for(request, who, job)
    keep = tickets.keep_seconds(issued.expires_at, now)
    await parts.store.send(parts.store.commands.put_record(tickets.KIND, issued.key, issued.record, keep))
    body = {"token": issued.token, "expires_at": events.text_of(int(issued.expires_at * 1000))}
    return Response(events.encode(body), 201, {"Cache-Control": "no-store"}, "application/json")


async def _jobs(request: Request, limit: int) -> list[Any] | None:
    """The ids in the body; None (all of the caller's) for no body or no `jobs`."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return None
    body = await limits.json_object(request, limit)
    if unknown := body.keys() - {"jobs"}:
        raise InvalidInput(min(unknown), "is not known here", "jobs")
    if "jobs" not in body:
        return None
    if not isinstance(body["jobs"], list):
        raise InvalidInput("jobs", "is not a list", "a list of job ids; left out: all of yours")
    return body["jobs"]
