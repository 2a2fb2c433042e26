"""Interrupt mode: stops an actor that never reports, by an exception raised in its thread. Asked for by `interrupt=True`.

An exception from another thread may land anywhere: in a `finally`, in a library that is not made for it. Hence only on request,
and only while the actor's own function runs; whatever was still on its way when that returns is taken back.
"""

from __future__ import annotations

import ctypes
import logging
import threading

from dramatiq.threading import Interrupt, is_gevent_active, raise_thread_exception

log = logging.getLogger(__name__)


class StopNow(Interrupt):
    """Raised in the middle of an actor whose job was cancelled or taken over. No `Exception`: a broad `except` lets it pass; an
    async actor sees it as CancelledError."""


class Gate:
    """Lets one StopNow through to a worker's thread, while the actor of one message runs in it and at no other time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        self._open = False
        self._wanted = False
        #: StopNow was raised.
        self.fired = False

    def stop(self) -> None:
        """From any thread: raise StopNow in the actor, now or as soon as it begins."""
        with self._lock:
            self._wanted = True
            if self._open:
                self._fire()

    def _fire(self) -> None:
        if self.fired:
            return
        if is_gevent_active():  # type: ignore[no-untyped-call]
            log.warning("interrupt mode does not work under gevent; the job is told at its next report")
            return
        self.fired = True
        raise_thread_exception(self._thread, StopNow)  # type: ignore[no-untyped-call]

    def open(self) -> bool:
        """By the worker's thread: the actor begins. False where it has begun: an actor that calls another one. Raises StopNow."""
        with self._lock:
            if self._open:
                return False
            if self._wanted and not self.fired:
                self.fired = True
                raise StopNow
            self._open = True
            return True

    def close(self) -> None:
        """By the worker's thread: the actor is through, and nothing will be raised in it after this."""
        with self._lock:
            self._open = False
            if self.fired:
                # Raised, but perhaps not yet arrived; none can follow.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
