"""A hook of schemathesis, which its own process loads: forms have no types, so that a number in place of a text is no fault."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Keeps a form only with values that are still of another kind when they have become text."""
    if case.media_type != "multipart/form-data" or not isinstance(case.body, dict):
        return True
    return all(map(_is_told_apart, case.body.values()))


def _is_told_apart(value: Any) -> bool:
    return not isinstance(value, bool | int | float | None)
