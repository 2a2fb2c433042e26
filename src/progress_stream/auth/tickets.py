"""Tickets: opaque, read-only tokens that may stand in a URL. Pure but for drawing the token; the caller keeps the
record, under its key and for `keep_seconds`, where every web process can read it.

Opaque and kept rather than signed: docs/decisions/0003-tickets.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from collections.abc import Collection
from typing import Final, NamedTuple

from ..errors import InvalidInput, NotAuthenticated, TokenExpired
from ..events import is_job_id
from .claims import LAST_INSTANT
from .strict import parse_object
from .who import ADMIN, READ, Who

PREFIX: Final = "pst_"
#: 256 bits: nobody guesses one, so its plain SHA-256 may be a key in Redis.
TOKEN_BYTES: Final = 32
#: A ticket names at most so many jobs; its record is read at each connection.
MAX_JOBS: Final = 1_000
#: For so long a ticket that has run out can be told from one that never was.
REMEMBERED_SECONDS: Final = 86_400
#: The `kind` of these records in the store.
KIND: Final = "ticket"

_TICKET: Final = re.compile(r"pst_[A-Za-z0-9_-]{43}", re.ASCII)


class Issued(NamedTuple):
    """A new ticket. `token` goes to the client and nowhere else."""

    token: str
    key: str
    record: bytes
    expires_at: float

    def __repr__(self) -> str:
        return f"Issued(expires_at={self.expires_at})"


def issue(who: Who, jobs: Collection[str] | None, seconds: float, now: float) -> Issued:
    """A ticket to read these jobs, or with None all of the caller's own; never for longer than the caller's token or session.

    Which of the jobs exist and whose they are is asked at each use, and not here.
    Raises MissingScope, TokenExpired, InvalidInput; NotAuthenticated for a ticket, which makes no others.
    """
    if who.kind == "ticket":
        raise NotAuthenticated("a ticket cannot make tickets")
    who.require(READ)
    if who.has_expired(now):
        raise TokenExpired("the token has expired", who)
    named = None if jobs is None else _checked(jobs)
    expires_at = min(now + seconds, LAST_INSTANT if who.expires_at is None else who.expires_at)
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    record = {
        "subject": who.subject,
        "jobs": named,
        # An administrator's ticket for named jobs must read them. One for "all" is for the administrator's own: a URL
        # that leaks should not open every owner's jobs, those of tomorrow included.
        "any_owner": named is not None and ADMIN in who.scopes,
        "expires_at": expires_at,
        "session": who.session,
    }
    return Issued(token, key_of(token), json.dumps(record).encode(), expires_at)


def is_ticket(token: str) -> bool:
    """By its form alone; no JWT looks like this."""
    return _TICKET.fullmatch(token) is not None


def key_of(token: str) -> str:
    """The name of the ticket's record. A copy of Redis gives no ticket away."""
    return hashlib.sha256(token.encode()).hexdigest()


def keep_seconds(expires_at: float, now: float) -> int:
    """How long to keep the record: `REMEMBERED_SECONDS` beyond the ticket's life."""
    return math.ceil(max(expires_at - now, 0)) + REMEMBERED_SECONDS


def open_record(record: bytes | None, now: float) -> Who:
    """Whom the ticket speaks for; None is a ticket that nobody issued. Raises NotAuthenticated, TokenExpired."""
    if record is None:
        raise NotAuthenticated("there is no such ticket")
    who = _who_of(record)
    if who.has_expired(now):
        raise TokenExpired("the ticket has expired", who)
    return who


def _who_of(record: bytes) -> Who:
    try:
        match parse_object(record):
            case {
                "subject": str(subject),
                "jobs": None | list() as jobs,
                "any_owner": bool(any_owner),
                "expires_at": int() | float() as expires_at,
                "session": None | str() as session,
            }:
                # Told again here: without names a ticket never reaches beyond its subject.
                return Who(
                    subject,
                    frozenset({READ}),
                    float(expires_at),
                    None if jobs is None else frozenset(jobs),
                    "ticket",
                    any_owner and jobs is not None,
                    session,
                )
    except (ValueError, TypeError):
        pass
    raise NotAuthenticated("the ticket cannot be read")


def _checked(jobs: object) -> list[str]:
    if not isinstance(jobs, list | tuple | set | frozenset):
        raise InvalidInput("jobs", "is not a list", "a list of job ids, or leave it out for all of yours")
    named = list(jobs)
    if not 0 < len(named) <= MAX_JOBS:
        raise InvalidInput(
            "jobs", f"names {len(named)} jobs", f"1 to {MAX_JOBS}, or leave it out for all of yours"
        )
    for job in named:
        if not isinstance(job, str) or not is_job_id(job):
            raise InvalidInput("jobs", "holds something that is no job id", "ids as the server gave them")
    return sorted(set(named))
