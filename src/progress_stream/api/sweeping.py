"""Takes a turn in the sweep beside the workers: a job whose workers are all gone must still be told of, and end.

A lease in Redis lets one process of a fleet sweep at a time; what a sweep does is the store's. Whether workers live is not
asked: their announcements outlive them by a minute, and `stalled` is promised sooner.
"""

from __future__ import annotations

import asyncio
import logging
import random

from anyio import to_thread

from ..errors import ProgressStreamError, StoreUnavailable
from ..store.sweep import EVERY_SECONDS, Sweeper

log = logging.getLogger(__name__)


async def sweep_in_turn(sweeper: Sweeper) -> None:
    """For as long as the process lives, half as often as a worker does; ends by being cancelled."""
    while True:
        await asyncio.sleep(2 * EVERY_SECONDS * random.uniform(0.8, 1.0))
        try:
            await to_thread.run_sync(sweeper.run_once)
        except StoreUnavailable as error:
            log.debug("the sweep waits: %s", error)
        except ProgressStreamError as error:
            log.warning("the sweep: %s", error)
        except Exception:
            log.exception("the sweep failed; it goes on")
