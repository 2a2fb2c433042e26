"""The caller, once proved, and what they may do. Pure; how they are proved is the other modules' matter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..errors import MissingScope

READ: Final = "jobs:read"
WRITE: Final = "jobs:write"
#: Widens the other two to every owner's jobs; alone it grants neither, so that an auditor's token can be read-only.
ADMIN: Final = "jobs:admin"
SCOPES: Final = frozenset({READ, WRITE, ADMIN})


@dataclass(frozen=True, slots=True)
class Who:
    """One proved caller."""

    subject: str
    scopes: frozenset[str] = frozenset()
    #: Seconds since 1970; a stream ends then. None: the host application's session decides by itself.
    expires_at: float | None = None
    #: A ticket's: only these. None: every job of the subject.
    jobs: frozenset[str] | None = None
    kind: Literal["token", "ticket", "host"] = "token"
    #: A ticket's that an administrator took for `jobs`: these, whoever owns them, and nothing else of an admin's.
    any_owner: bool = False
    #: The key of the session that this is, or that a ticket was taken with: with it both are over.
    session: str | None = None

    def require(self, scope: str) -> None:
        """Raises MissingScope unless `scope` was granted."""
        if scope not in self.scopes:
            raise MissingScope(scope)

    def may_see(self, owner: str | None, job_id: str) -> bool:
        """Whether this job is there at all for this caller. A job that nobody owns is for administrators alone."""
        if self.jobs is not None and job_id not in self.jobs:
            return False
        return self.any_owner or ADMIN in self.scopes or owner == self.subject

    def has_expired(self, now: float) -> bool:
        """By the time itself, without the leeway that one request is given: a stream has no use for that."""
        return self.expires_at is not None and self.expires_at <= now


#: `create_app(authenticate=…)`: takes the framework's request, answers who it is or None for nobody.
Authenticate = Callable[[Any], Awaitable[Who | None] | Who | None]
