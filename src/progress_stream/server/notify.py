"""What systemd is told of a service's life (sd_notify(3)): ready, reloading, alive, stopping. Nothing where it does not listen.

The protocol is one datagram of lines to a socket that the environment names, which systemd promises to keep so; a library for it
would be larger than what stands here. When what is said is the servers' affair.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Final

logger = logging.getLogger(__name__)

#: Seconds for systemd to take a message. It reads as long as it lives; a server must not wait for one that does not.
_SEND_SECONDS: Final = 1.0


class Systemd:
    """The manager that started this process; by default nobody, to whom everything may be said."""

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self._address = address
        self._every = None if watchdog_seconds is None else watchdog_seconds / 2
        self._alive_at = float("-inf")

    @classmethod
    def here(cls) -> Systemd:
        """The one of the environment, from which its variables go: what this process starts is not meant."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        meant = os.environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = meant and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address or None, int(microseconds) / 1e6 if watched else None)

    @property
    def listens(self) -> bool:
        return self._address is not None

    def ready(self, status: str) -> None:
        """The start, or a reload, is over. `status` is for people."""
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """`ready` must follow. systemd tells an answer to its own signal from an older one by the time."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")

    def stopping(self, seconds: float) -> None:
        """The end has begun, and takes so long at most: for that long TimeoutStopSec= is not counted."""
        self._say("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", "STATUS=draining")

    def alive(self) -> None:
        """Call it as often as you like, for as long as the work goes on: it is said twice in WATCHDOG_USEC."""
        now = time.monotonic()
        if self._every is not None and now - self._alive_at >= self._every:
            self._alive_at = now
            self._say("WATCHDOG=1")

    def _say(self, *lines: str) -> None:
        if self._address is None:
            return
        # Where it begins with @ the name lies in no folder: Linux' abstract sockets begin with a zero byte.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_SECONDS)
                sender.connect(address)
                sender.send("\n".join(lines).encode())
        except OSError as error:
            logger.warning("systemd could not be told %s: %s", lines[0], error.strerror or error)
