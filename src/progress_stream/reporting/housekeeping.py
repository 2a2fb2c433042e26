"""What a worker process does for all: announces its actors, takes its turn in the sweep, shows its numbers. A thread of its own.

A sweep may take long where many jobs are due, and must not hold up the reports of the process' own jobs.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping
from typing import Final

from ..errors import AccountRefused, ProgressStreamError, StoreUnavailable
from ..settings import Settings
from ..store.connect import sync_client
from ..store.files import Files
from ..store.sweep import EVERY_SECONDS, Sweeper
from ..store.sync import SyncStore
from ..store.trouble import Trouble
from .showing import Shown

log = logging.getLogger(__name__)

#: An announcement is renewed so often, and forgotten after three misses.
ANNOUNCE_SECONDS: Final = 20.0
FORGET_SECONDS: Final = 60
#: A Redis that is restarted or fails over is away for so long without a word.
QUIET_SECONDS: Final = 5.0
#: Some rounds: what is refused only to the worker whose turn it is to sweep is not over in between.
CALM_SECONDS: Final = 20.0


class Housekeeper:
    """Begins with `start`, ends with `stop`. `send` gives the broker an encoded message; `is_told` says whether the reports of
    this process' own jobs have told by now that Redis is away, and have not told yet that it is back.
    """

    def __init__(
        self,
        settings: Settings,
        actors: Callable[[], Mapping[str, bytes]],
        send: Callable[[bytes], None] | None = None,
        is_told: Callable[[], bool] = lambda: False,
    ) -> None:
        self._send = send
        self._is_told = is_told
        self._trouble = Trouble(log, calm_seconds=CALM_SECONDS)
        client = sync_client(settings.redis_url or "", connections=1, retries=1)
        self._store = SyncStore(client, settings)
        self._settings = settings
        self._actors = actors
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="progress-stream-housekeeper", daemon=True)
        self._announced: frozenset[str] = frozenset()
        self._since_announced = ANNOUNCE_SECONDS
        self.shown = None if settings.admin_port is None else Shown(settings.admin_port)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """End it; waits no longer for a sweep that is under way."""
        self._stopping.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        files = Files(self._settings.effective_files_url)
        sweeper = Sweeper(self._store, self._settings, files.delete_job, self._send)
        while not self._stopping.is_set():
            if self.shown is not None:
                self._try(self.shown.open)
            self._try(self._announce)
            self._try(sweeper.run_once)
            self._trouble.over("housekeeping goes on")
            # Drawn anew each time, so that the processes of a fleet do not all ask for the lease at once.
            pause = EVERY_SECONDS * random.uniform(0.5, 1.0)
            self._since_announced += pause
            self._stopping.wait(pause)
        self._store.close()
        if self.shown is not None:
            self.shown.close()

    def _announce(self) -> None:
        """At once when actors were declared since, else every so often."""
        actors = self._actors()
        if not actors or (self._since_announced < ANNOUNCE_SECONDS and self._announced == frozenset(actors)):
            return
        self._store.send(self._store.commands.announce(actors, FORGET_SECONDS))
        self._announced = frozenset(actors)
        self._since_announced = 0.0

    def _try(self, what: Callable[[], object]) -> None:
        try:
            what()
        except StoreUnavailable as error:
            self._note(error)
        except ProgressStreamError as error:
            log.warning("housekeeping: %s", error)
        except Exception:
            log.exception("housekeeping failed; it goes on")

    def _note(self, error: StoreUnavailable) -> None:
        if self._is_told():
            self._trouble.forget()
            return
        patience = 0.0 if isinstance(error, AccountRefused) else QUIET_SECONDS
        self._trouble.note(f"housekeeping waits: {error}", patience=patience)
