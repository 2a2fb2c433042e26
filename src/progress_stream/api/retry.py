"""`POST /jobs/{id}/retry`: an ended job's actor and arguments once more, as a new job with files of its own."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from .. import jobs, submitting
from ..auth.who import WRITE
from ..errors import FileGone, InvalidUpload, NotEnded, NotRepeatable, StoreUnavailable
from ..jobs import Record
from ..store.files import FileRef
from ..submitting import Announced
from . import access, lookup
from .parts import Parts, parts_of

log = logging.getLogger(__name__)


async def retry(request: Request) -> Response:
    """201 with the new job's state. Raises NotEnded, NotRepeatable, FileGone, UnknownActor, BrokerRefused."""
    who = await access.caller(request, WRITE)
    parts = parts_of(request)
    old = await lookup.record_for(request, who, lookup.job_id(request))
    if not old.terminal:
        raise NotEnded(old.packed["id"], old.control.status)
    args, kwargs = await _arguments(parts, old)
    job = str(uuid.uuid4())
    await to_thread.run_sync(_again, parts, old, job, args, kwargs)
    parts.announced.saw(old.packed["actor"])
    record = await lookup.record_for(request, who, job)
    location = f"{request.scope.get('root_path', '')}/jobs/{job}"
    return lookup.state_response(jobs.view(record), 201, {"Location": location})


async def _arguments(parts: Parts, old: Record) -> tuple[list[Any], dict[str, Any]]:
    packed = await parts.store.send(parts.store.commands.arguments(old.packed["id"]))
    if packed is None:
        raise NotRepeatable(
            "what the job was called with is not kept: it came from no queue, is no JSON, or is larger than EVENT_BYTES "
            f"({parts.settings.event_bytes} bytes)"
        )
    return jobs.unpack_arguments(packed)


def _again(parts: Parts, old: Record, job: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """In a thread. What fails takes the new job's files away again."""
    actor = parts.submitter.actor(old.packed["actor"])
    try:
        own_args, own_kwargs = _with_own_files(parts, actor, job, args, kwargs)
        parts.submitter.repeat(actor, old.packed, job, own_args, own_kwargs)
    except Exception:
        try:
            parts.files.delete_job(job)
        except StoreUnavailable as error:
            log.warning("files of job %s, which was not made, are left over: %s", job, error)
        raise


def _with_own_files(
    parts: Parts, actor: Announced, job: str, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Copies: the old job's files go when it is deleted or expires, while this one may still read them."""

    def copy(ref: Mapping[str, Any]) -> FileRef:
        try:
            return parts.files.copy(ref, job)
        except FileNotFoundError:
            raise FileGone("the file that the job was given is no longer kept") from None
        except InvalidUpload as error:
            raise NotRepeatable(f"a file that the job was given cannot be read: {error}") from None

    return submitting.replace_files(actor, args, kwargs, copy)
