"""The worker program: `dramatiq workers` runs it. It declares the broker and the actors, and uses public names only."""

import dramatiq

from .broker import make_broker, settings_or_exit

broker = make_broker(settings_or_exit())
dramatiq.set_broker(broker)

# Actors join the broker that is set when they are imported.
from .countdown import countdown  # noqa: E402
from .personalize import personalize  # noqa: E402

__all__ = ["broker", "countdown", "personalize"]
