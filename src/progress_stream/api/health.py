"""Whether the process lives, and whether it should be sent requests."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import StoreError
from .parts import Parts, parts_of
from .problems import Problem

#: Probes of load balancers give up after about a second or two.
_REDIS_SECONDS: Final = 2.0


async def healthz(request: Request) -> Response:
    """200 while the loop turns."""
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


async def readyz(request: Request) -> Response:
    """200 while Redis answers, an event published here has come back, and nobody has asked this process to end."""
    fault = await fault_of(parts_of(request))
    if fault is None:
        return JSONResponse({"status": "ready"}, headers={"Cache-Control": "no-store"})
    return Problem(503, "not-ready", "Not ready", fault).response()


async def fault_of(parts: Parts) -> str | None:
    """Why it should be sent no requests; None where it should."""
    if parts.leaving:
        return "draining: this process ends soon"
    try:
        async with asyncio.timeout(_REDIS_SECONDS):
            await parts.store.send(parts.store.commands.clock())
    except (StoreError, TimeoutError):
        return "Redis does not answer"
    return None if parts.hub.path.proved else "live delivery has not proved itself yet"
