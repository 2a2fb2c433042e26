"""Steps in for the workers where none is seen: a job whose workers are all gone must still end.

A lease in Redis lets one process of a fleet sweep at a time; what a sweep does is the store's.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from anyio import to_thread

from ..errors import ProgressStreamError, StoreUnavailable
from ..store.sweep import EVERY_SECONDS, Sweeper

log = logging.getLogger(__name__)


async def sweep_alone(sweeper: Sweeper, sees_workers: Callable[[], Awaitable[bool]]) -> None:
    """For as long as the process lives; ends by being cancelled."""
    while True:
        await asyncio.sleep(EVERY_SECONDS * random.uniform(0.8, 1.2))
        try:
            if not await sees_workers():
                await to_thread.run_sync(sweeper.run_once)
        except StoreUnavailable as error:
            log.debug("the sweep waits: %s", error)
        except ProgressStreamError as error:
            log.warning("the sweep: %s", error)
        except Exception:
            log.exception("the sweep failed; it goes on")
