"""Settings that no environment reaches, and a server of keys."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from progress_stream.auth.verify import Verifier
from progress_stream.settings import load

from .issuer import KeyServer, key_server


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET", "ISSUER", "AUDIENCE", "ALGORITHMS"):
        monkeypatch.delenv(f"PROGRESS_STREAM_JWT_{name}", raising=False)
    monkeypatch.delenv("PROGRESS_STREAM_JWKS", raising=False)


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server() as place:
        yield place


@pytest.fixture
def verifier() -> Callable[..., Verifier]:
    """Makes a verifier of these settings."""

    def make(**settings: Any) -> Verifier:
        return Verifier(load(**settings))

    return make
