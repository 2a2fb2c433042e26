"""What overlays and components build, once for all tests here."""

from __future__ import annotations

import os
from functools import cache

import pytest

from .building import MANIFESTS, Object, build, lacks_node


@cache
def overlay(name: str) -> list[Object]:
    """Its objects; shared, so a test that changes one copies it before."""
    return build(MANIFESTS / "overlays" / name)


@pytest.fixture
def node() -> None:
    """The test is skipped with its reason where there is none, and fails in CI."""
    reason = lacks_node()
    if reason is not None:
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
