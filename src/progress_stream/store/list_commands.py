"""What Redis is asked about an owner's jobs: lists of hints by creation time, and what changed when. Values, as in `commands`.

A list is written before and after the job, in slots of its own: whoever reads one checks each hint against the job.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import events
from ..jobs import State
from ..settings import Settings
from .calls import Call, Command, script
from .keys import STATES, Keys, parent_of


class ListCommands:
    """Makes the calls for one installation."""

    def __init__(self, keys: Keys, settings: Settings) -> None:
        self.keys = keys
        self._settings = settings

    def hint(
        self, owner: str | None, job: str, created_at: int, actor: str, state: str, *, done: bool = False
    ) -> Call[int]:
        """Note in its owner's lists that a job takes a state, before it is written, and once more when it is `done`.

        Then the other states' lists let it go, and the owner's watchers are told. A list holds hints: a reader checks each.
        """
        name = owner or ""
        keys = (self.keys.changed(name), *self.keys.lists(name, actor))
        args = (job, self.keys.owner_channel(name), created_at, STATES.index(state) + 1, int(done))
        return Call(script("hint"), keys, args, int)

    def changed(self, owner: str | None, job: str) -> Call[int]:
        """Note that a job has changed, but for its state, and tell the owner's watchers."""
        name = owner or ""
        return Call(script("hint"), (self.keys.changed(name),), (job, self.keys.owner_channel(name)), int)

    def unlist(self, owner: str | None, job: str, actor: str, gone_in_ms: int = 0) -> Call[int]:
        """Take a job that is gone, or will be then, out of its owner's lists, and tell the owner's watchers."""
        name = owner or ""
        keys = (self.keys.changed(name), *self.keys.lists(name, actor))
        args = (job, self.keys.owner_channel(name), gone_in_ms, self.changes_ms)
        return Call(script("unlist"), keys, args, int)

    def relist(self, owner: str | None, job: str, created_at: int, actor: str, state: str) -> Call[bool]:
        """Put a job back where its owner's lists lack it, and tell the owner's watchers; True if one did."""
        name = owner or ""
        hints = self.keys.hints
        keys = (
            self.keys.changed(name), hints(name), hints(name, actor=actor),
            hints(name, state=state), hints(name, state=state, actor=actor),
        )  # fmt: skip
        return Call(script("relist"), keys, (job, self.keys.owner_channel(name), created_at), bool)

    def whole(self, tag: str | None) -> Call[tuple[str, str]]:
        """The identity of the server that holds this tag, and the one for which its lists were noted to be whole; "": none was."""
        return Call(
            script("whole"), (self.keys.whole(tag),), (), lambda reply: (reply[0].decode(), reply[1].decode())
        )

    def note_whole(self, tag: str | None, replid: str) -> Command[None]:
        """The lists on the server that holds this tag, and had this identity, lack no job."""
        return Command((("SET", self.keys.whole(tag), replid),), lambda _: None)

    def walk(self, tag: str | None, cursor: int, count: int) -> Call[tuple[int, list[str]]]:
        """The next cursor (0: that was all), and the jobs among some `count` keys of the server that holds this tag; no parts."""

        def read(reply: Any) -> tuple[int, list[str]]:
            found = [self.keys.job_of_state(key.decode(errors="replace")) for key in reply[1]]
            return int(reply[0]), [job for job in found if job is not None and parent_of(job) is None]

        return Call(script("walk"), (self.keys.whole(tag),), (cursor, self.keys.any_state(), count), read)

    @property
    def changes_ms(self) -> int:
        """How far back it is known which jobs changed: longer than any of them outlives its end."""
        return (self._settings.state_seconds + 3_600) * 1000

    def page(
        self, owner: str, state: str | None, actor: str | None, after: tuple[int, str] | None, count: int
    ) -> Call[list[tuple[int, str]]]:
        """The next (created_at, id) of one of an owner's lists after such a place, newest first."""
        score, member = ("", "") if after is None else (str(after[0]), after[1])
        key = self.keys.hints(owner, state=state, actor=actor)

        def read(reply: Any) -> list[tuple[int, str]]:
            return [_hint(id, at) for id, at in zip(reply[::2], reply[1::2], strict=True)]

        return Call(script("page"), (key,), (score, member, count), read)

    def drop_hints(
        self, owner: str, state: str | None, actor: str | None, jobs: Sequence[str]
    ) -> Command[None]:
        """Take jobs out of the one list in which a reader found that they do not belong."""
        key = self.keys.hints(owner, state=state, actor=actor)
        return Command((("ZREM", key, *jobs),), lambda _: None)

    def changed_since(
        self, owner: str, since: int, offset: int, count: int
    ) -> Command[list[tuple[int, str]]]:
        """An owner's jobs by the time of their last change (ms) from `since` on; one in the future: it will be gone then."""
        key = self.keys.changed(owner)
        line = ("ZRANGE", key, since, "+inf", "BYSCORE", "LIMIT", offset, count, "WITHSCORES")

        def read(replies: list[Any]) -> list[tuple[int, str]]:
            return [_hint(id, at) for id, at in _pairs(replies[0])]

        return Command((line,), read)

    def changes_of(self, owner: str, jobs: Sequence[str]) -> Command[list[int | None]]:
        """When each of these jobs of an owner changed last (ms), as far as that is known."""

        def read(replies: list[Any]) -> list[int | None]:
            return [None if at is None else _milliseconds(at) for at in replies[0]]

        return Command((("ZMSCORE", self.keys.changed(owner), *jobs),), read)


def listed(state: State) -> tuple[str | None, str, int, str]:
    """What places a job in its owner's lists: owner, id, created_at (ms), actor. The first arguments of `hint`."""
    return state["owner"], state["id"], events.ms_of(state["created_at"]), state["actor"]


def _hint(id: bytes, at: Any) -> tuple[int, str]:
    # One that somebody else wrote stays in its place; who looks for such a job finds none.
    return _milliseconds(at), id.decode(errors="replace")


def _milliseconds(score: Any) -> int:
    """Of what no clock shows: 0."""
    value = float(score)
    return int(value) if 0 <= value < 10**15 else 0


def _pairs(reply: Any) -> list[tuple[bytes, Any]]:
    """Members with their scores, as redis-py hands them over in either protocol."""
    if reply and isinstance(reply[0], (list, tuple)):
        return [(id, at) for id, at in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))
