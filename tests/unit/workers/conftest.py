"""Imports `workers` once: that makes its broker, which needs an address but connects to nothing, and sets it for all."""

import dramatiq.broker
import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("PROGRESS_STREAM_REDIS_URL", "redis://127.0.0.1:1/0")
    # Other tests of the same run have brokers of their own.
    patch.setattr(dramatiq.broker, "global_broker", None)
    import workers  # noqa: F401
