"""JSON objects from outside, read so that no two readers can disagree on them. Pure."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse_object(data: bytes) -> dict[str, Any]:
    """One JSON object in UTF-8. Raises ValueError for anything else, a name given twice, NaN, nesting without end."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_without_repeats, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 7519 §4 leaves the choice to refuse or to take the last; a proxy in front may have taken the first.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("names a member twice")
    return members


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"holds {constant}, which is no JSON")
