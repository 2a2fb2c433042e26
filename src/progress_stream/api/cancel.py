"""`POST /jobs/{id}/cancel`: ends a job that no worker has in hand, and tells a running one's worker, which ends it."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from .. import events, jobs, verdicts
from ..auth.who import WRITE
from ..errors import AlreadyEnded, StoreUnavailable
from ..jobs import Record
from ..store.aio import AsyncStore
from ..store.list_commands import listed
from . import access, lookup
from .parts import parts_of

#: A job may move on between the look and the step: so often it is looked at again. It has few states to move through.
_TRIES: Final = 10


async def cancel(request: Request) -> Response:
    """202 with the state. Raises AlreadyEnded; NoSuchJob for what the caller may not see."""
    who = await access.caller(request, WRITE)
    job = lookup.job_id(request)
    store = parts_of(request).store
    for _ in range(_TRIES):
        look = await lookup.job_for(request, who, job)
        if look.record is not None and await _step_in(store, look.record, look.now):
            break
    else:
        raise StoreUnavailable("the job changed faster than it could be cancelled")
    record = await lookup.record_for(request, who, job)
    if record.spread is not None:
        await _tell_parts(store, record)
        record = await lookup.record_for(request, who, job)
    return lookup.state_response(jobs.view(record), 202)


async def _step_in(store: AsyncStore, record: Record, now: int) -> bool:
    """False when the job is no longer as it was when that was decided. Raises AlreadyEnded."""
    job, status = record.packed["id"], record.control.status
    if record.terminal:
        raise AlreadyEnded(job, status)
    match verdicts.on_cancel(record, now):
        case "end":
            return await _end(store, record, now)
        case "tell":
            return await _tell(store, record, now)
    return True


async def _tell_parts(store: AsyncStore, record: Record) -> None:
    """What is queued of them ends, what runs is told; the last one's end is the job's. The sweep does it where this dies."""
    job, commands = record.packed["id"], store.commands.spreads
    for first, last in commands.ranges(record):
        await store.send(commands.tidy(job, first, last))
    await store.send(store.commands.lists.changed(record.packed["owner"], job))


async def _tell(store: AsyncStore, record: Record, now: int) -> bool:
    job = record.packed["id"]
    event = events.make(job, "cancelling", at=events.text_of(now))
    commands = store.commands
    if await store.send(commands.intervene(job, event, statuses=("running",), field="cancel_at")) is None:
        return False
    await store.send(commands.lists.changed(record.packed["owner"], job))
    return True


async def _end(store: AsyncStore, record: Record, now: int) -> bool:
    """A stalled worker that has given a sign since is left to end the job itself."""
    job, status = record.packed["id"], record.control.status
    event = events.make(job, "cancelled", at=events.text_of(now), reason="cancelled on request")
    call = store.commands.intervene(
        job, event, statuses=(status,), attempt=record.control.attempt,
        seen_at=record.seen_at if record.stalled_at is not None else None,
        extra_seconds=verdicts.seconds_until_due(record, now),
    )  # fmt: skip
    await store.send(store.commands.lists.hint(*listed(record.packed), "cancelled"))
    if await store.send(call) is None:
        return False
    await store.send(store.commands.lists.hint(*listed(record.packed), "cancelled", done=True))
    return True
