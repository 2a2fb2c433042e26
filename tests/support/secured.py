"""What a group of Redis servers has in common where nobody may listen in or come in: a certificate, and its own account."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.redis import make_certificate, tls_program

#: Of the account that replicas, Sentinels and tests have, and the product has not.
PASSWORD: Final = "only-the-group-has-it"


@dataclass(frozen=True, slots=True)
class Secured:
    """Ends the test where no server can speak TLS."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        make_certificate(self.folder)

    @property
    def program(self) -> Path:
        return tls_program()

    @property
    def account(self) -> str:
        return f":{PASSWORD}"

    @property
    def authority(self) -> Path:
        """Whom to believe."""
        return self.folder / "server.crt"

    def options(self) -> dict[str, str]:
        """For a server: also what goes between two of them is TLS, and by the group's account."""
        return {"requirepass": PASSWORD, "masterauth": PASSWORD, "tls-replication": "yes"}
