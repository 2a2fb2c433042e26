"""The event that is delivered, the same for every way."""

from __future__ import annotations

from typing import Any, Final

#: With the frame around it an event of about 230 bytes of JSON.
DATA: Final[dict[str, Any]] = {
    "row": 1_234,
    "name": "Ada Lovelace",
    "text": "I saw that you build engines. " * 2,
}
TYPE: Final = "row"
SECRET: Final = "a secret that is only for benchmarks, long enough"
OWNER: Final = "bench"
