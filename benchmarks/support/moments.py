"""What the benchmark `whole` and its worker agree on."""

from __future__ import annotations

from typing import Final

EVENTS: Final = 600
SPACING_SECONDS: Final = 0.01
#: Where the bare moments are published.
CHANNEL: Final = "bench-bare"
#: The environment variable that tells the worker its Redis.
URL: Final = "BENCH_REDIS_URL"
