"""`GET /jobs/{id}` and its result; and the one place where a job is looked up for somebody who may or may not see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO, Final, cast
from urllib.parse import quote

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from .. import events, jobs
from ..auth.who import Who
from ..errors import InvalidUpload, NoSuchJob
from ..jobs import Record, State
from ..store.answers import Look
from . import access, etags
from .parts import parts_of

#: One read of a file in a thread: large enough that the hop costs little, small enough for many downloads at once.
_CHUNK_BYTES: Final = 256 * 1024
#: A browser asks again each time, and nobody between keeps what belongs to one owner.
_PRIVATE: Final = {"Cache-Control": "private, no-cache"}
#: What a job made is foreign content on our origin: it is saved, not shown, and may run nothing.
_SANDBOX: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}


def job_id(request: Request) -> str:
    """The job that the path names. Raises NoSuchJob for what no job can be called."""
    name = str(request.path_params["id"])
    if not events.is_job_id(name):
        raise NoSuchJob(name)
    return name


async def job_for(request: Request, who: Who, job: str) -> Look:
    """The job at this moment, with its record, if this caller may see it.

    Raises NoSuchJob alike for one that never was, that is gone and that is another's; StoreUnavailable.
    """
    parts = parts_of(request)
    look = await parts.store.look(parts.store.commands.look(job))
    parts.hub.path.note_server(look.replid, parts.store.place_of(job))
    record = look.record
    if record is None or not who.may_see(record.packed["owner"], job):
        raise NoSuchJob(job)
    completed = await parts.announced.completed(record)
    return look if completed is record else replace(look, record=completed)


async def record_for(request: Request, who: Who, job: str) -> Record:
    """The record alone."""
    record = (await job_for(request, who, job)).record
    if record is None:
        raise NoSuchJob(job)
    return record


def state_response(state: State, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = events.encode(state)
    tagged = {**_PRIVATE, "ETag": etags.of(content), **(headers or {})}
    return Response(content, status, tagged, "application/json")


async def state(request: Request) -> Response:
    """The state object: what a client polls that cannot stream."""
    who = await access.caller(request, "jobs:read")
    record = await record_for(request, who, job_id(request))
    response = state_response(jobs.view(record))
    tag = response.headers["etag"]
    if etags.match(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers={**_PRIVATE, "ETag": tag})
    return response


async def result(request: Request) -> Response:
    """The file that the job made, or the JSON that it returned."""
    who = await access.caller(request, "jobs:read", url_token=True)
    record = await record_for(request, who, job_id(request))
    if record.file is not None:
        return await _file(request, record.file)
    if record.control.status == "succeeded":
        content = events.encode(cast(Any, jobs.view(record)["result"]))
        return Response(content, headers={**_PRIVATE, **_SANDBOX}, media_type="application/json")
    raise HTTPException(
        404, "the job ended without a result" if record.terminal else "the job has no result yet"
    )


async def _file(request: Request, known: Mapping[str, Any]) -> Response:
    files = parts_of(request).files
    try:
        ref = files.checked(known)
        file = await to_thread.run_sync(files.open, ref)
    except (FileNotFoundError, InvalidUpload):
        raise HTTPException(404, "the file that the job made is no longer kept") from None
    headers = {
        **_PRIVATE, **_SANDBOX, "Content-Length": str(ref["size"]), "Content-Disposition": attachment(ref["name"]),
    }  # fmt: skip
    if request.method == "HEAD":
        await to_thread.run_sync(file.close)
        return Response(headers=headers, media_type=ref["media_type"])
    return _Download(_chunks(file), headers=headers, media_type=ref["media_type"])


class _Download(StreamingResponse):
    """Adds no charset to a text file: nobody but its job knows in what it was written."""

    charset = ""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        typed = {"Content-Type": self.media_type or "application/octet-stream"}
        super().init_headers({**(headers or {}), **typed})


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while data := await to_thread.run_sync(file.read, _CHUNK_BYTES):
            yield data
    finally:
        file.close()


def attachment(name: str) -> str:
    """RFC 6266: the name in ASCII for old clients, and whole by RFC 8187 for all others. Never a path, never a new header."""
    last = name.replace("\\", "/").rpartition("/")[2] or "result"
    plain = "".join(c if " " <= c <= "~" and c not in '"%' else "_" for c in last)
    disposition = f'attachment; filename="{plain}"'
    if plain != last:
        disposition += f"; filename*=UTF-8''{quote(last, safe='')}"
    return disposition
