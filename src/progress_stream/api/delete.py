"""`DELETE /jobs/{id}`: an ended job, its stream and its files are gone, and stay gone."""

from __future__ import annotations

import logging

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from .. import tracing, verdicts
from ..auth.who import WRITE
from ..errors import AlreadyEnded, NoSuchJob, NotEnded, StoreUnavailable
from ..events import TERMINAL
from ..jobs import Record
from ..store.keys import STATES
from ..store.list_commands import listed
from . import access, lookup
from .parts import Parts, parts_of

log = logging.getLogger(__name__)


async def delete(request: Request) -> Response:
    """204. Raises NotEnded; NoSuchJob for what the caller may not see."""
    who = await access.caller(request, WRITE)
    job = lookup.job_id(request)
    parts = parts_of(request)
    look = await lookup.job_for(request, who, job)
    if look.record is None:
        raise NoSuchJob(job)
    if not look.record.terminal:
        raise NotEnded(job, look.record.control.status)
    await _remove(parts, look.record, look.now)
    await _remove_files(parts, job)
    await _remove_parts(parts, look.record)
    return Response(status_code=204)


async def _remove(parts: Parts, record: Record, now: int) -> None:
    """The tombstone outlives a message that is still to come: it would bring the job back."""
    commands = parts.store.commands
    owner, job, _, actor = listed(record.packed)
    extra = verdicts.seconds_until_due(record, now)
    try:
        await parts.store.send(
            commands.remove(job, statuses=tuple(TERMINAL), tombstone=True, extra_seconds=extra)
        )
    except AlreadyEnded as error:
        # The store's word for any other status than those that were asked for.
        raise NotEnded(job, error.state) from None
    await parts.store.send(commands.lists.unlist(owner, job, actor))
    await parts.store.send(commands.drop_record(tracing.KEY, job))


async def _remove_parts(parts: Parts, record: Record) -> None:
    """Of a job that was spread, each with its files; one that still runs finds nothing to write to."""
    if record.spread is None:
        return
    job, commands = record.packed["id"], parts.store.commands
    for number in range(record.spread.parts["total"] + 1):
        part = f"{job}~{number}"
        try:
            await parts.store.send(commands.remove(part, statuses=STATES, tombstone=True))
        except NoSuchJob:
            continue
        await parts.store.send(commands.lists.unlist(record.packed["owner"], part, record.packed["actor"]))
        await _remove_files(parts, part)
    await parts.store.send(commands.spreads.forget(job))


async def _remove_files(parts: Parts, job: str) -> None:
    try:
        await to_thread.run_sync(parts.files.delete_job, job)
    except StoreUnavailable as error:
        log.warning("job %s is deleted, its files are left to the sweep: %s", job, error)
