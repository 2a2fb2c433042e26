"""A line with blanks, `Hi {{first_name}}, I saw {{company|your firm}}`: `{{name}}`, `{{name|fallback}}`, nothing else.

No template engine, on purpose: none can be stopped in time. This one has no loops and no calls, so its work is bounded
by its length. It reads no table; `bind` only needs the names of the columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

#: Ten pages: more is a mistake, or an attack.
TEMPLATE_CHARS: Final = 10_000
BLANKS: Final = 100
#: One value in a line. A cell may hold a novel, and a hundred blanks may ask for it.
VALUE_CHARS: Final = 1_000

_BRACES = re.compile(r"\{\{([^{}]*)\}\}|[{}]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class InvalidTemplate(Exception):
    """The template cannot be used; the text is a sentence for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Blank:
    """One `{{…}}`; `position` counts characters from 1."""

    column: str
    fallback: str | None
    position: int


@dataclass(frozen=True, slots=True)
class Line:
    """A filled-in template: empty where a value was missing, since a line with a hole must not be sent to anyone."""

    text: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and blanks, in order."""

    parts: tuple[str | Blank, ...]

    def literals(self) -> list[str]:
        """All text that does not come from the table."""
        texts = [part if isinstance(part, str) else part.fallback for part in self.parts]
        return [text for text in texts if text is not None]

    def map_literals(self, change: Callable[[str], str]) -> Template:
        """The same template with its own text changed."""
        return Template(tuple(_changed(part, change) for part in self.parts))

    def bind(self, header: Sequence[str]) -> Merge:
        """Tie each blank to its column. Raises InvalidTemplate for a column that the table does not have."""
        columns = _Columns(header)
        blanks = [part for part in self.parts if isinstance(part, Blank)]
        indexes = {blank.position: columns.index(blank) for blank in blanks}
        doubled = [shown(header[i]) for i in dict.fromkeys(indexes.values()) if columns.is_doubled(i)]
        return Merge(self.parts, indexes, tuple(doubled))


@dataclass(frozen=True, slots=True)
class Merge:
    """A template that knows where its values are. `doubled` names the columns of which only the first is read."""

    parts: tuple[str | Blank, ...]
    indexes: dict[int, int]
    doubled: tuple[str, ...] = ()

    def line(self, cells: Sequence[str]) -> Line:
        """The line of one row."""
        problems: list[str] = []
        texts = [part if isinstance(part, str) else self._value(part, cells, problems) for part in self.parts]
        return Line("" if None in texts else "".join(text or "" for text in texts), tuple(problems))

    def _value(self, blank: Blank, cells: Sequence[str], problems: list[str]) -> str | None:
        index = self.indexes[blank.position]
        value = one_line(cells[index], VALUE_CHARS + 1) if index < len(cells) else ""
        if len(value) > VALUE_CHARS:
            problems.append(f"{shown(blank.column)} was cut after {VALUE_CHARS:,} characters")
            return value[:VALUE_CHARS] + "…"
        if not value and blank.fallback is None:
            problems.append(f"no value for {shown(blank.column)} and no fallback, so the line is left empty")
        return value or blank.fallback


def parse(text: str) -> Template:
    """Read a template. Raises InvalidTemplate with what is wrong, where, and what is allowed."""
    _check_text(text)
    parts: list[str | Blank] = []
    end = 0
    for match in _BRACES.finditer(text):
        parts += [text[end : match.start()], _blank(match)]
        end = match.end()
    parts.append(text[end:])
    if len(parts) > 2 * BLANKS + 1:
        raise InvalidTemplate(f"The template has more than {BLANKS} blanks.")
    return Template(tuple(part for part in parts if part != ""))


def one_line(text: str, limit: int) -> str:
    """A value as it fits into a line: blanks and breaks become one space, control characters go."""
    # A cell may be huge: only a part of it can end up in the line, so no more is looked at.
    words = " ".join(text.lstrip()[: limit * 4].split())
    return _CONTROL.sub("", words)[:limit]


def shown(name: str) -> str:
    """A name from the file as it may stand in a message: short, on one line, encodable."""
    short = one_line(name, 61)
    short = short if len(short) <= 60 else short[:60] + "…"
    return _LONE_SURROGATE.sub("\ufffd", short)


class _Columns:
    """Finds a column by its name: exactly, else without regard to capitals."""

    def __init__(self, header: Sequence[str]) -> None:
        self._names = [name.replace("\ufeff", "").strip() for name in header]
        self._exact = _first_of(self._names)
        self._folded = _first_of([name.casefold() for name in self._names])

    def index(self, blank: Blank) -> int:
        index = self._exact.get(blank.column, self._folded.get(blank.column.casefold()))
        if index is None:
            raise InvalidTemplate(
                f"The template asks at character {blank.position} for the column {shown(blank.column)!r}, "
                f"which the file does not have; it has: {self._listed()}."
            )
        return index

    def is_doubled(self, index: int) -> bool:
        return self._names.count(self._names[index]) > 1

    def _listed(self) -> str:
        names = [shown(name) for name in self._exact]
        return ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")


def _first_of(names: Sequence[str]) -> dict[str, int]:
    indexes: dict[str, int] = {}
    for index, name in enumerate(names):
        if name:
            indexes.setdefault(name, index)
    return indexes


def _check_text(text: str) -> None:
    if not text.strip():
        raise InvalidTemplate("The template is empty: write a line such as Hi {{first_name|there}}!")
    if len(text) > TEMPLATE_CHARS:
        raise InvalidTemplate(f"The template has {len(text):,} characters; {TEMPLATE_CHARS:,} are allowed.")
    if match := _LONE_SURROGATE.search(text):
        raise InvalidTemplate(
            f"The template has half a character (a lone surrogate) at character {match.start() + 1}."
        )


def _blank(match: re.Match[str]) -> Blank:
    position = match.start() + 1
    if match[1] is None:
        raise InvalidTemplate(
            f"The template has {match[0][:4]!r} at character {position} that is no part of a whole blank; "
            "allowed are {{column}} and {{column|fallback}}, and no other braces."
        )
    column, bar, fallback = match[1].partition("|")
    if not column.strip():
        raise InvalidTemplate(f"The blank at character {position} of the template names no column.")
    if "|" in fallback:
        raise InvalidTemplate(
            f"The blank at character {position} of the template has more than one fallback."
        )
    return Blank(column.strip(), fallback.strip() if bar else None, position)


def _changed(part: str | Blank, change: Callable[[str], str]) -> str | Blank:
    if isinstance(part, str):
        return change(part)
    return Blank(part.column, None if part.fallback is None else change(part.fallback), part.position)
