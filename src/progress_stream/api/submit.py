"""`GET /actors` and `POST /jobs`: turns a request into a submission; who may start what, and sending it, is the submitter's.

An upload is spooled while it comes, and stored under the job's id only when the rest of the request is known to be right.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .. import accepting, events, jobs, submitting, tracing
from ..accepting import Announced
from ..auth.who import READ, WRITE, Who
from ..errors import InvalidInput, InvalidUpload, NoSuchJob, StoreUnavailable
from ..store.files import FileRef
from ..submitting import Submission, Submitted
from . import access, forms, limits, lookup
from .forms import Form, FormFile
from .parts import Parts, parts_of

log = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 256 * 1024
#: So often a submission is made that finds a job which is removed before it can be read.
_TRIES: Final = 3


async def actors(request: Request) -> Response:
    """What can be started now: name, title, JSON Schema of the arguments."""
    access.refuse_ticket(await access.caller(request, READ, WRITE))
    found = await to_thread.run_sync(parts_of(request).submitter.actors)
    body = {"actors": [{"name": one.name, "title": one.title, "schema": dict(one.schema)} for one in found]}
    return Response(events.encode(body), headers={"Cache-Control": "no-store"}, media_type="application/json")


async def create(request: Request) -> Response:
    """201 with the new job's state; 200 where the same Idempotency-Key has made it before."""
    who = await access.caller(request, WRITE)
    parts = parts_of(request)
    key = request.headers.get("idempotency-key")
    job = submitting.job_id_for(who.subject, key)
    async with _asked(request, parts) as wish, alone(parts, job):
        return await answer(request, who, _Attempt(parts, who, key, job, wish).run)


async def answer(request: Request, who: Who, attempt: Callable[[], Awaitable[Submitted]]) -> Response:
    """What came of a submission. One whose job was removed before it could be read is made again: with a key the job of an
    earlier request may be taken back, expire or be deleted just then, and asking again tells which."""
    for _ in range(_TRIES):
        with tracing.named_by(request.headers):
            submitted = await attempt()
        try:
            record = await lookup.record_for(request, who, submitted.job)
        except NoSuchJob:
            if submitted.sent:
                break  # Its message is with the broker: another one would run it twice.
            continue
        location = f"{request.scope.get('root_path', '')}/jobs/{submitted.job}"
        headers = {"Location": location} if submitted.created else {"Content-Location": location}
        return lookup.state_response(jobs.view(record), 201 if submitted.created else 200, headers)
    raise StoreUnavailable("the job was removed before it could be read")


async def done_before(
    parts: Parts, who: Who, job: str, key: str | None, fingerprint: str
) -> Submitted | None:
    """For a key that has done its work: the job that it made then. Raises IdempotencyConflict where that was something else."""
    if key is None:
        return None
    record = (await parts.store.look(parts.store.commands.look(job))).record
    if record is None or not (record.confirmed or record.control.status != "queued"):
        return None
    if not who.may_see(record.packed["owner"], job):
        raise NoSuchJob(job)  # Made when the caller was an administrator.
    submitting.check_same(record.fingerprint, fingerprint)
    return Submitted(job, created=False, sent=False)


@dataclass(slots=True)
class Wish:
    """What the request asks for, not yet compared with what the actor takes. `fields` are a form's texts."""

    actor: str
    title: str | None
    args: Mapping[str, Any] | None
    fields: Mapping[str, str]
    file: FormFile | None = None


@asynccontextmanager
async def _asked(request: Request, parts: Parts) -> AsyncIterator[Wish]:
    """The request's wish, with its file open."""
    kind = limits.media_type(request)
    if kind == "application/json":
        yield _from_json(await limits.json_object(request, parts.settings.body_bytes))
    elif kind == "multipart/form-data":
        form = await forms.read(request, parts.settings)
        try:
            yield _from_form(form)
        finally:
            if form.file is not None:
                await to_thread.run_sync(form.file.file.close)
    else:
        raise HTTPException(415, "a job comes as application/json, or with a file as multipart/form-data")


def _from_json(body: Mapping[str, Any]) -> Wish:
    if unknown := body.keys() - {"actor", "args", "title"}:
        raise InvalidInput(min(unknown)[:100], "is not known here", "actor, args, title")
    args = body.get("args", {})
    if not isinstance(args, dict):
        raise InvalidInput("args", "is not an object of arguments by name")
    return Wish(_actor(body.get("actor")), _title(body.get("title")), args, {})


def _from_form(form: Form) -> Wish:
    fields = dict(form.fields)
    # An empty field of a form is one that nobody filled.
    actor, title = fields.pop("actor", None), fields.pop("title", None) or None
    return Wish(_actor(actor), _title(title), None, fields, form.file)


def _actor(name: Any) -> str:
    if name is None:
        raise InvalidInput("actor", "is missing", "the name of an actor: GET /actors lists them")
    return events.check_actor_name(name)


def _title(title: Any) -> str | None:
    return None if title is None else events.check_words("title", title)


def alone(parts: Parts, job: str) -> asyncio.Lock:
    """A form that is sent twice at once is one job: the second waits for what becomes of the first, without a thread to do so."""
    lock = parts.under_way.get(job)
    if lock is None:
        lock = parts.under_way[job] = asyncio.Lock()
    return lock


class _Attempt:
    """One try to start one job."""

    def __init__(self, parts: Parts, who: Who, key: str | None, job: str, wish: Wish) -> None:
        self._parts = parts
        self._who = who
        self._key = key
        self._job = job
        self._wish = wish

    async def run(self) -> Submitted:
        """Check all, then store the file, then send; a file that is not the sent message's is taken away again."""
        actor = await to_thread.run_sync(self._parts.submitter.actor, self._wish.actor)
        args = self._wish.args if self._wish.args is not None else self._args_of_form(actor)
        self._parts.announced.saw(actor.name)
        argument = _file_argument(actor, self._wish.file)
        if argument is None or self._wish.file is None:
            return await self._submit(self._submission(args))
        unstored = self._submission(args, {argument: _reference("", self._wish.file)})
        accepting.arguments(actor, args, unstored.files)
        digest = await to_thread.run_sync(_digest, self._wish.file.file)
        wanted = replace(unstored, digests={argument: digest})
        fingerprint = submitting.fingerprint_of(wanted)
        before = await done_before(self._parts, self._who, self._job, self._key, fingerprint)
        if before is not None:
            return before
        stored = await to_thread.run_sync(self._store, self._wish.file)
        try:
            submitted = await self._submit(replace(wanted, files={argument: stored}))
        except Exception:
            await self._take_away(stored)
            raise
        if not submitted.sent:
            await self._take_away(stored)
        return submitted

    def _args_of_form(self, actor: Announced) -> dict[str, Any]:
        try:
            return accepting.from_form(actor, self._wish.fields)
        except RecursionError:
            raise InvalidInput("args", "is nested too deeply") from None

    def _submission(
        self, args: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Submission:
        wish, owner = self._wish, self._who.subject
        return Submission(
            wish.actor, args, owner, wish.title, files, idempotency_key=self._key, job=self._job
        )

    async def _submit(self, submission: Submission) -> Submitted:
        return await to_thread.run_sync(self._parts.submitter.submit, submission)

    def _store(self, file: FormFile) -> FileRef:
        try:
            file.file.seek(0)
            limit = self._parts.settings.file_bytes
            return self._parts.files.save(self._job, file.name, file.media_type, _chunks(file.file), limit)
        except InvalidUpload as error:
            raise InvalidInput(file.field, f"its {error.field} {error.fault}", error.allowed) from None

    async def _take_away(self, stored: FileRef) -> None:
        """This file alone: with a key another request may have stored one, which the job has."""
        try:
            await to_thread.run_sync(self._parts.files.delete, stored)
        except StoreUnavailable as error:
            log.warning("a file of job %s, which nobody needs, is left over: %s", self._job, error)


def _file_argument(actor: Announced, file: FormFile | None) -> str | None:
    """The argument that the file is for: by its own name, or whichever takes one for a field that is called `file`."""
    if file is None:
        return None
    if file.field in actor.files:
        return file.field
    if file.field == "file":
        return accepting.file_argument(actor)
    raise InvalidInput(
        file.field[:100], "is not an argument that takes a file", ", ".join(actor.files) or "none"
    )


def _reference(key: str, file: FormFile) -> FileRef:
    return FileRef(key=key, name=file.name, media_type=file.media_type, size=file.size)


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    for chunk in _chunks(file):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
