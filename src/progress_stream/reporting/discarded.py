"""Keeps Dramatiq from warning that a job's result was discarded where it is kept as the job's own. Drops no other log line."""

from __future__ import annotations

import logging
from typing import Final

from .job import current_job

#: Where Dramatiq's worker says so, and how it begins to: from inside the thread that has just run the actor.
_LOGGER: Final = "dramatiq.worker.WorkerThread"
_WARNING: Final = " returned a value that is not None, and you haven't added the Results middleware"


def _is_true(record: logging.LogRecord) -> bool:
    return not (_WARNING in str(record.msg) and current_job().id)


def mend_warning() -> None:
    """For this process; once is enough, and twice changes nothing."""
    logging.getLogger(_LOGGER).addFilter(_is_true)
