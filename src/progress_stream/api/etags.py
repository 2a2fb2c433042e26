"""Entity tags (RFC 9110 §8.8.3, §13.1.2). Pure."""

from __future__ import annotations

import hashlib


def of(content: bytes) -> str:
    """A strong tag of these bytes."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def match(header: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names this tag. Weak comparison, as §13.1.2 wants: a proxy that compresses makes tags weak."""
    if header is None:
        return False
    return header.strip() == "*" or tag in (item.strip().removeprefix("W/") for item in header.split(","))
