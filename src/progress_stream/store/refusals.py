"""What a script says instead of doing what it was asked, as errors."""

from __future__ import annotations

from typing import Any

from ..errors import AlreadyEnded, NoSuchJob, StaleAttempt, StoreUnavailable, Tombstoned


def refusal(reply: Any, job: str, attempt: int | None = None) -> Exception:
    """The error of an answer that is none of those that were hoped for."""
    match reply:
        case [b"missing"]:
            return NoSuchJob(job)
        case [b"tombstone"]:
            return Tombstoned(job)
        case [b"superseded", _]:
            return StaleAttempt(job, attempt)
        case [b"ended", status]:
            return AlreadyEnded(job, status.decode())
    return StoreUnavailable("Redis gave an answer that its script cannot give")
