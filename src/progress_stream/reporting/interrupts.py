"""The two ways in which a report tells its actor to stop. Loaded only where one is raised or caught, for it loads Dramatiq."""

from __future__ import annotations

from typing import ClassVar

from dramatiq.middleware import MiddlewareError, SkipMessage

from ..errors import InvalidInput, ProgressStreamError


class Interrupted(SkipMessage, ProgressStreamError):
    """Raised by a report, again by each further one. As a SkipMessage: acknowledged, never retried, not dead-lettered."""

    #: What has happened to the job, as the end of a sentence.
    happened: ClassVar[str] = "is to stop"

    def __init__(self, job: str, attempt: int | None) -> None:
        self.job = job
        self.attempt = attempt
        number = "" if attempt is None else f"attempt {attempt} of "
        super().__init__(f"{number}job {job} {self.happened}")

    def __reduce__(self) -> tuple[type[Interrupted], tuple[str, int | None]]:
        return type(self), (self.job, self.attempt)


class Cancelled(Interrupted):
    """Somebody asked for the job to be cancelled; it ends as `cancelled` when the actor lets this pass."""

    happened = "was cancelled"


class Superseded(Interrupted):
    """A later attempt has taken the job over: this one was thought dead, and nothing it reports is kept."""

    happened = "is superseded by a later attempt"


class Refused(MiddlewareError, InvalidInput):
    """A message that cannot become a job: its sender gets this from `send()`, and nothing was sent."""
