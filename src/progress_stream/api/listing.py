"""`GET /jobs`: an owner's jobs, newest first, page by page. What arrives, ends or goes between two pages moves no other row.

The lists in Redis are hints: each row is checked against its job, and a hint that does not fit is dropped for good.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from .. import events, jobs
from ..auth.who import ADMIN, Who
from ..errors import InvalidInput, MissingScope
from ..jobs import Record, State
from ..store.answers import Look
from ..store.keys import STATES
from ..store.list_commands import listed
from . import access, lookup
from .parts import Parts, parts_of

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
#: Hints that one request looks at: a page that needs more is cut short, and its `next` goes on from there.
_MOST_HINTS: Final = 2_000
#: A place in a list: (created_at in ms, job id).
Place = tuple[int, str]
_CURSOR: Final = re.compile(r"([0-9]{1,15})\.(.+)", re.ASCII)
_MAX_ACTOR: Final = 255


async def jobs_page(request: Request) -> Response:
    """`{"jobs": [state…], "next": cursor or null}`."""
    who = await access.caller(request, "jobs:read")
    query = _Query(request, who)
    if query.parent is not None:
        return await _parts_page(request, who, query)
    rows, place = await _Reader(parts_of(request), who, query).page()
    return _answer(rows, place)


def _answer(rows: list[State], place: Place | None) -> Response:
    body = {"jobs": rows, "next": None if place is None else cursor_of(place)}
    return Response(
        events.encode(body), headers={"Cache-Control": "private, no-store"}, media_type="application/json"
    )


# -- what is asked for


class _Query:
    """The request's parameters, checked. Raises InvalidInput, MissingScope."""

    def __init__(self, request: Request, who: Who) -> None:
        query = request.query_params
        self.limit = _limit(query.get("limit"))
        self.after = None if (cursor := query.get("cursor")) is None else place_of(cursor)
        self.state = _state(query.get("state"))
        self.actor = _actor(query.get("actor"))
        self.owner = _owner(query.get("owner"), who)
        self.parent = _parent(query.get("parent"))

    def takes(self, record: Record) -> bool:
        """Whether a part is one of those asked for."""
        return self.state in (None, record.control.status) and self.actor in (None, record.packed["actor"])


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise InvalidInput("limit", "is not usable", f"a whole number from 1 to {MAX_LIMIT}")


def _state(text: str | None) -> str | None:
    if text is None or text in STATES:
        return text
    raise InvalidInput("state", "is no state of a job", ", ".join(STATES))


def _actor(text: str | None) -> str | None:
    if text is None:
        return None
    if not 0 < len(text) <= _MAX_ACTOR:
        raise InvalidInput("actor", "is not usable", f"an actor's name of 1 to {_MAX_ACTOR} characters")
    return text


def _owner(text: str | None, who: Who) -> str:
    """The empty one has the jobs of nobody. Asked for by name, even one's own list takes an administrator's token."""
    if text is None:
        return who.subject
    if ADMIN not in who.scopes:
        raise MissingScope(ADMIN)
    return events.check_words("owner", text)


def _parent(text: str | None) -> str | None:
    """A part has none, and an id that none can have is refused."""
    if text is None or events.is_job_id(text):
        return text
    raise InvalidInput("parent", "is not a job id", "1 to 128 of A-Z a-z 0-9 . _ -")


def cursor_of(place: Place) -> str:
    """Opaque to clients, secret to nobody: it names a row that the client has seen."""
    return base64.urlsafe_b64encode(f"{place[0]}.{place[1]}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """Raises InvalidInput for what `cursor_of` cannot have made."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode(
            "ascii"
        )
    except (binascii.Error, ValueError):
        text = ""
    found = _CURSOR.fullmatch(text)
    if found is None or not events.is_job_id(found[2]) or cursor_of((int(found[1]), found[2])) != cursor:
        raise InvalidInput("cursor", "is none that this server gave", "`next` of the page before")
    return int(found[1]), found[2]


# -- the parts of a job


async def _parts_page(request: Request, who: Who, query: _Query) -> Response:
    """In the order of their numbers, which no part ever leaves; what follows them, number 0, comes last. Raises NoSuchJob."""
    parts = parts_of(request)
    parent = str(query.parent)
    record = await lookup.record_for(request, who, parent)
    total = 0 if record.spread is None else record.spread.parts["total"]
    rank_of_last = total + bool(record.spread is not None and record.spread.follow_up)
    after = 0 if query.after is None else query.after[0]
    rows: list[State] = []
    while len(rows) < query.limit and after < rank_of_last:
        ranks = range(after + 1, min(after + query.limit - len(rows), rank_of_last) + 1)
        some = [rank if rank <= total else 0 for rank in ranks]
        looks = await parts.store.looks([parts.store.commands.look(f"{parent}~{number}") for number in some])
        after += len(some)
        found = (look.record for look in looks if look.record is not None)
        rows += [await shown(parts, one) for one in found if query.takes(one)]
    place = None if after >= rank_of_last else (after, parent)
    return _answer(rows, place)


# -- reading


class _Reader:
    """Fills one page from one list."""

    def __init__(self, parts: Parts, who: Who, query: _Query) -> None:
        self._parts = parts
        self._who = who
        self._query = query
        self._list = (query.owner, query.state, query.actor)

    async def page(self) -> tuple[list[State], Place | None]:
        """The rows, and the place after which the next page begins; None: there is none. Raises StoreUnavailable."""
        wanted = self._query.limit + 1  # One more row tells whether there is a next page.
        rows: list[tuple[Place, Record]] = []
        place, looked = self._query.after, 0
        while len(rows) < wanted and looked < _MOST_HINTS:
            count = min(wanted - len(rows), _MOST_HINTS - looked)
            hints = await self._hints(place, count)
            rows += await self._checked(hints)
            looked += len(hints)
            if len(hints) < count:
                return await self._shown(rows[: self._query.limit]), _last_of(rows, self._query.limit)
            place = hints[-1]
        if len(rows) < wanted:
            return await self._shown(rows), place
        return await self._shown(rows[:-1]), rows[-2][0]

    async def _hints(self, place: Place | None, count: int) -> list[Place]:
        store = self._parts.store
        return await store.send(store.commands.lists.page(*self._list, place, count))

    async def _checked(self, hints: list[Place]) -> list[tuple[Place, Record]]:
        store = self._parts.store
        looks = await store.looks([store.commands.look(job) for _, job in hints])
        found = list(zip(hints, looks, strict=True))
        # What is no job of this version is no row, and may be one of a later version, which its hint must outlive.
        misfits = [(place, look) for place, look in found if not self._fits(look) and not look.foreign]
        await self._repair(misfits)
        return [
            (place, look.record)
            for place, look in found
            if self._fits(look) and look.record is not None and self._is_row(place[1])
        ]

    def _fits(self, look: Look) -> bool:
        record = look.record
        if record is None:
            return False
        owner, state, actor = self._list
        return (
            (record.packed["owner"] or "") == owner
            and state in (None, record.control.status)
            and actor in (None, record.packed["actor"])
        )

    def _is_row(self, job: str) -> bool:
        """A part is shown with its job; a ticket's holder sees what the ticket was made for."""
        return "~" not in job and self._who.may_see(self._list[0] or None, job)

    async def _repair(self, misfits: list[tuple[Place, Look]]) -> None:
        """Drop the hints, and put a job that is elsewhere where it is: its writer may have died between two words."""
        if not misfits:
            return
        store = self._parts.store
        await store.send(store.commands.lists.drop_hints(*self._list, [job for (_, job), _ in misfits]))
        records = [look.record for _, look in misfits if look.record is not None]
        await asyncio.gather(
            *(
                store.send(store.commands.lists.hint(*listed(record.packed), record.control.status))
                for record in records
            )
        )

    async def _shown(self, rows: list[tuple[Place, Record]]) -> list[State]:
        return [await self._view(record) for _, record in rows]

    async def _view(self, record: Record) -> State:
        return await shown(self._parts, record)


async def shown(parts: Parts, record: Record) -> State:
    """The state as lists show it: with what a queued job waits for, and without its result."""
    state: dict[str, Any] = jobs.view(await parts.announced.completed(record))
    del state["result"]
    return state


def _last_of(rows: list[tuple[Place, Record]], limit: int) -> Place | None:
    return rows[limit - 1][0] if len(rows) > limit else None
