"""All deadlines of a process in one sweep a second, and the deadline for sockets that take nothing.

A `call_later` for each connection costs four times the memory, and twenty thousand of them are paid on every restart.
So a deadline here is a dictionary entry that exists only while there is something to wait for; it may be up to one
period late, which none of its uses minds.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import termios
from array import array
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

#: Seconds between two sweeps.
PERIOD: Final = 1.0

Overdue = Callable[[], None]


class Wheel:
    """Calls what was not forgotten in time. Runs a timer only while something waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop, period: float = PERIOD) -> None:
        self.loop = loop
        self._period = period
        self._deadlines: dict[Overdue, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, overdue: Overdue, seconds: float) -> None:
        """Call `overdue` once, `seconds` from now or up to one period later. Replaces its earlier deadline."""
        self._deadlines[overdue] = self.loop.time() + seconds
        if self._timer is None:
            self._timer = self.loop.call_later(self._period, self._sweep)

    def forget(self, overdue: Overdue) -> None:
        """What is forgotten is not called; to forget what was never watched is no fault."""
        self._deadlines.pop(overdue, None)

    def __contains__(self, overdue: Overdue) -> bool:
        return overdue in self._deadlines

    def _sweep(self) -> None:
        now = self.loop.time()
        for overdue in [overdue for overdue, deadline in self._deadlines.items() if deadline <= now]:
            # An earlier one may have forgotten or renewed it.
            if self._deadlines.get(overdue, now + 1) <= now:
                del self._deadlines[overdue]
                self._call(overdue)
        self._timer = self.loop.call_later(self._period, self._sweep) if self._deadlines else None

    def _call(self, overdue: Overdue) -> None:
        try:
            overdue()
        except Exception:
            logger.exception("A deadline could not be kept")


class Stall:
    """Cuts a transport whose client takes nothing for some seconds. Made when a pause begins, dropped when it ends.

    What counts is what the client acknowledged. Our own buffer would not do: the kernel may hold megabytes below it
    and takes no more until a third of them is gone, and under TLS its size may read 0 all along.
    """

    __slots__ = ("_seconds", "_size", "_transport", "_wheel")

    def __init__(self, wheel: Wheel, transport: asyncio.WriteTransport, seconds: float) -> None:
        self._wheel = wheel
        self._transport = transport
        self._seconds = seconds
        self._size = untaken(transport)
        wheel.watch(self._overdue, seconds)

    def drop(self) -> None:
        """The transport took something, or is gone."""
        self._wheel.forget(self._overdue)

    def _overdue(self) -> None:
        size = untaken(self._transport)
        if size < self._size:
            self._size = size
            self._wheel.watch(self._overdue, self._seconds)
        else:
            self._transport.abort()


def untaken(transport: asyncio.WriteTransport) -> int:
    """Bytes on their way that the client has not acknowledged; where the kernel does not say, those in our buffer."""
    queued = array("i", (0,))
    socket = transport.get_extra_info("socket")
    if socket is not None:
        with contextlib.suppress(
            OSError, ValueError
        ):  # closed, or a kernel that does not know it for sockets
            fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, queued)
    return transport.get_write_buffer_size() + queued[0]
