"""Hooks of schemathesis, which its own process loads: what of our rules no schema can say.

Forms have no types, so that a number in place of a text is no fault. Which characters can be shown is for Unicode to say:
schemathesis reads `\\p{L}` as Latin letters alone, and written out as ranges they make it four times as slow.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

_SHOWN = st.characters(categories=("L", "M", "N", "P", "S", "Zs"), include_characters="\u200c\u200d")
schemathesis.openapi.format("words", st.text(_SHOWN, max_size=100))


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Keeps a form only with values that are still of another kind when they have become text."""
    if case.media_type != "multipart/form-data" or not isinstance(case.body, dict):
        return True
    return all(map(_is_told_apart, case.body.values()))


def _is_told_apart(value: Any) -> bool:
    return not isinstance(value, bool | int | float | None)
