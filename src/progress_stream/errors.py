"""Every error this package raises on purpose. What they become for HTTP or Dramatiq is decided elsewhere.

ProgressStreamError
├── InvalidInput (also a ValueError)
│   ├── InvalidEvent
│   ├── InvalidSetting
│   └── InvalidUpload
├── StoreError
│   ├── NoSuchJob
│   ├── Tombstoned
│   ├── StaleAttempt
│   ├── AlreadyEnded
│   ├── NotEnded
│   ├── SequenceHole
│   └── StoreUnavailable
│       ├── AccountRefused
│       ├── UnknownForm
│       └── NotAPrimary
├── AccessError
│   ├── NotAuthenticated
│   │   └── TokenExpired
│   └── MissingScope
├── SubmitError
│   ├── UnknownActor
│   ├── BrokerRefused
│   ├── IdempotencyConflict
│   ├── NotRepeatable
│   └── FileGone
├── TooLarge
└── ForkedHandle
"""

from __future__ import annotations

from typing import Any


class ProgressStreamError(Exception):
    """The root: catch this to catch all of ours."""


class InvalidInput(ProgressStreamError, ValueError):
    """A value from outside that is refused. Names the field, the fault and, where it helps, what is allowed."""

    def __init__(self, field: str, fault: str, allowed: str = "") -> None:
        self.field = field
        self.fault = fault
        self.allowed = allowed
        super().__init__(f"{field}: {fault}" + (f" (allowed: {allowed})" if allowed else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.fault, self.allowed)


class InvalidEvent(InvalidInput):
    """An event or a report that cannot be sent as it is; nothing of it was sent."""


class InvalidSetting(InvalidInput):
    """A setting with a value that cannot be used. Never holds the value of a secret."""


class InvalidUpload(InvalidInput):
    """A file that cannot be taken."""


class StoreError(ProgressStreamError):
    """The store refused, or could not be asked."""


class NoSuchJob(StoreError):
    """Redis knows no job of this id."""

    def __init__(self, job: str) -> None:
        self.job = job
        super().__init__(f"no such job: {job}")


class Tombstoned(StoreError):
    """The job was deleted; nothing brings it back."""

    def __init__(self, job: str) -> None:
        self.job = job
        super().__init__(f"job {job} was deleted")


class StaleAttempt(StoreError):
    """A later attempt has taken the job over: whoever holds this one may not write any more."""

    def __init__(self, job: str, attempt: int | None = None) -> None:
        self.job = job
        self.attempt = attempt
        super().__init__(f"attempt {attempt} of job {job} is superseded by a later one")


class AlreadyEnded(StoreError):
    """The job is in a terminal state: nothing is appended after that."""

    def __init__(self, job: str, state: str) -> None:
        self.job = job
        self.state = state
        super().__init__(f"job {job} has ended already: {state}")


class NotEnded(StoreError):
    """The job is not in a terminal state, as what was asked for needs it to be."""

    def __init__(self, job: str, state: str) -> None:
        self.job = job
        self.state = state
        super().__init__(f"job {job} has not ended: it is {state}")


class SequenceHole(StoreError):
    """Events before these are missing in Redis: send again from `last + 1` under the same numbers."""

    def __init__(self, job: str, last: int) -> None:
        self.job = job
        self.last = last
        super().__init__(f"job {job}: Redis holds this attempt's events up to {last} only")


class StoreUnavailable(StoreError):
    """Redis is away, loading, full, read-only or too slow. The text names the kind, never an address or a secret."""


class AccountRefused(StoreUnavailable):
    """Redis lets this account not in, or not do this. Time does not mend it; an operator does."""


class UnknownForm(StoreUnavailable):
    """A newer release wrote it, in a form that this one does not know: whoever asks comes back, perhaps to a newer server."""


class NotAPrimary(StoreUnavailable):
    """The server that answered is not a primary: its connection is dropped and the question asked again."""


class AccessError(ProgressStreamError):
    """The caller may not."""


class NotAuthenticated(AccessError):
    """No token, or one that is not genuine."""


class TokenExpired(NotAuthenticated):
    """A genuine token or ticket that has run out; `who` is the caller it was made for."""

    def __init__(self, detail: str, who: Any = None) -> None:
        self.who = who
        super().__init__(detail)


class MissingScope(AccessError):
    """The token is genuine but lacks a scope."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__(f"this needs the scope {scope}")


class SubmitError(ProgressStreamError):
    """A job could not be started."""


class UnknownActor(SubmitError):
    """No worker announces this actor as submittable."""

    def __init__(self, actor: str, known: tuple[str, ...]) -> None:
        self.actor = actor
        self.known = known
        names = ", ".join(known) if known else "none: no worker announces one"
        super().__init__(f"no worker announces actor {actor!r}; announced: {names}")


class BrokerRefused(SubmitError):
    """The message did not reach the broker; no job was left behind."""


class IdempotencyConflict(SubmitError):
    """The same Idempotency-Key was used for other content."""


class NotRepeatable(SubmitError):
    """What the job was called with is not kept, so that it cannot be called again."""


class FileGone(SubmitError):
    """A file that the job was given is no longer kept."""


class TooLarge(ProgressStreamError):
    """More bytes than a limit allows; `limit_name` is the setting's name."""

    def __init__(self, limit_name: str, limit_bytes: int) -> None:
        self.limit_name = limit_name
        self.limit_bytes = limit_bytes
        super().__init__(f"larger than {limit_name} allows ({limit_bytes} bytes)")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.limit_name, self.limit_bytes)


class ForkedHandle(ProgressStreamError):
    """A job's handle was used in a forked child; make the report in the process that runs the actor."""
