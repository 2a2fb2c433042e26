"""What tests share: real servers with faults on demand, and clients."""

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Ends a test that needs what this machine lacks: a skip with its reason at home, a failure in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"needs {what}")
