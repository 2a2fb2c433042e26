"""A question to Redis as a value: a script call, or plain commands, with how the answer is read. Knows no connection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

#: Scripts that share nothing.
_ALONE: Final = frozenset({"read", "page", "sent", "unsent", "walk"})
#: `append` is the hot one: only of a part does it bring along what moves its parent.
_OF_A_PART: Final = "_of_a_part"
_OF_PARENTS: Final = frozenset({f"append{_OF_A_PART}", "start", "intervene", "spread", "release", "tidy"})


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script with what it shares put before it."""

    name: str
    source: str
    sha: str

    @property
    def sharded(self) -> Script:
        """The same for a Cluster, where a channel belongs to a slot."""
        return script(self.name, "SPUBLISH")


@cache
def script(name: str, publish: str = "PUBLISH") -> Script:
    """The script of that name from `scripts/`; `publish` is the command by which it tells who listens."""
    folder = files(__package__) / "scripts"
    shared = [] if name in _ALONE else ["_control"]
    if name in _OF_PARENTS:
        shared.append("_parent")
    source = "".join((folder / f"{one}.lua").read_text() for one in (*shared, name.removesuffix(_OF_A_PART)))
    if name not in _ALONE:
        source = f"local PUBLISH = '{publish}'\n{source}"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One script call. `read` turns Redis' answer into a value, or raises a StoreError."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | bytes | int, ...]
    read: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """One plain command, or several sent as one pipeline."""

    lines: tuple[tuple[str | bytes | int | float, ...], ...]
    read: Callable[[list[Any]], T]
    #: Of several lines, what Redis refuses of one is handed to `read` as an exception, beside the answers of the others.
    lenient: bool = False
