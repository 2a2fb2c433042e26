"""`report()`: a job for any program, without Dramatiq: a script, a notebook, another task queue."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import events
from ..errors import InvalidInput
from ..jobs import Header
from ..settings import Settings, load
from ..store.files import Files
from .flusher import Flusher, flusher_of
from .job import Job, current_job, set_current
from .outcome import error_of
from .run import Run


@contextmanager
def report(
    name: str,
    *,
    owner: str | None = None,
    title: str | None = None,
    settings: Settings | None = None,
    **overrides: Any,
) -> Iterator[Job]:
    """A job with a new id for as long as the block runs: it succeeds with the block, fails with its exception, which goes on.

    Ctrl-C ends it as `cancelled`. Settings come from the environment, from `settings`, or from keywords; `redis_url` is needed.
    """
    known = settings if settings is not None else load(**overrides)
    if known.redis_url is None:
        raise InvalidInput(
            "PROGRESS_STREAM_REDIS_URL", "is not set", "the URL of the Redis that the web server uses"
        )
    flusher = flusher_of(known)
    run = _begin(flusher, known, events.check_actor_name(name), owner, title)
    before = current_job()
    job = Job(run, lambda: Files(known.effective_files_url))
    set_current(job)
    try:
        yield job
    except BaseException as error:
        _end_with(run, error)
        raise
    else:
        _end_well(run)
    finally:
        set_current(before)
        run.close()
        flusher.wait(run.drained, known.terminal_wait_ms)


def _begin(flusher: Flusher, settings: Settings, name: str, owner: str | None, title: str | None) -> Run:
    header = Header(
        id=str(uuid.uuid4()),
        actor=name,
        title=None if title is None else events.check_words("title", title),
        owner=None if owner is None else events.check_words("owner", owner),
        max_attempts=1,
        created_at=int(time.time() * 1000),
    )
    created = flusher.create(header, confirmed=True)
    flusher.wait(created.done, settings.enqueue_wait_ms)
    run = flusher.run(header, may_create=True)
    flusher.wait(run.answered, settings.start_wait_ms)
    return run


def _end_well(run: Run) -> None:
    if run.gave_in:
        run.conclude("cancelled", reason="cancelled on request")
    else:
        run.conclude("succeeded", result=None)


def _end_with(run: Run, error: BaseException) -> None:
    if run.cancel_requested:
        run.conclude("cancelled", reason="cancelled on request")
    elif isinstance(error, KeyboardInterrupt):
        run.conclude("cancelled", reason="interrupted")
    elif isinstance(error, SystemExit) and error.code in {None, 0}:
        run.conclude("succeeded", result=None)
    else:
        run.conclude("failed", error=error_of(error))
