"""What a worker's thread has in hand from one hook to the next: the message it works on, and the function of its actor, guarded.

Which hook takes it up and which lets it go is the middleware's.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from dramatiq.broker import MessageProxy

from .. import tracing
from ..jobs import Header
from .job import interruption
from .run import Run
from .stopping import Gate, StopNow


class Work:
    """A message that this thread is working on."""

    def __init__(self, run: Run, message: MessageProxy, *, interrupt: bool = False) -> None:
        self.run = run
        self.message = message
        self.gate = Gate() if interrupt else None
        self.retries = message.options.get("retries", 0)
        self.retry_enqueued = False
        self.entered = False
        self.finished = False
        run.on_stop = self._stop
        if run.stopped:
            self._stop()

    def _stop(self) -> None:
        # Retries asks for `throws` first, and then neither counts nor enqueues; what it marks as failed is unmarked afterwards.
        self.message.options["throws"] = (BaseException,)
        if self.gate is not None:
            self.gate.stop()
            self.run.interrupted = self.run.interrupted or self.gate.fired

    @property
    def is_unwanted(self) -> bool:
        """What the actor comes back with is no success: nobody wants it any more, or a later attempt sees to it."""
        return self.run.superseded or self.run.ended == "cancelled" or self.run.gave_in

    def end_pipeline(self) -> None:
        """What was to follow this message does not."""
        for name in ("pipe_target", "on_success"):
            self.message.options.pop(name, None)


class PerThread(threading.local):
    """Each thread sees its own."""

    work: Work | None = None
    creating: Header | None = None
    deadline: float = 0.0
    settled: str | None = None
    span: tracing.Attempt | None = None


def guard(function: Callable[..., Any], here: PerThread) -> Callable[..., Any]:
    """An actor's function of which all that it raises and returns goes through our hands."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        work = here.work
        if work is None or work.entered:
            # Called plainly, or by the actor whose message it is: that one is told.
            return function(*args, **kwargs)
        work.entered = True
        try:
            result = _through(work.gate, function, *args, **kwargs)
        except StopNow:
            # As a report would have said it: neither retried nor a failure to anybody's callback.
            raise interruption(work.run) from None
        if work.is_unwanted:
            # Swallowed, or never heard. Raised once more, for a success would have its actor's `on_success` sent.
            raise interruption(work.run)
        return result

    guarded.is_guarded = True  # type: ignore[attr-defined]
    return guarded


def _through(gate: Gate | None, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if gate is None or not gate.open():
        return function(*args, **kwargs)
    try:
        return function(*args, **kwargs)
    finally:
        gate.close()
