"""One of many serving processes: what it does beside serving, and what its supervisor (`many.py`) knows of it.

The two speak over the pipe of uvicorn's own `Process`, which asks each child for a sign of life. It departs from that class on
purpose:
- A sign of life tells when the event loop turned last. uvicorn's is given by a thread, also for a loop that hangs.
- Asking never waits, for a supervisor that waits for one child is deaf to signals and to the others.
- A child that has been replaced stops accepting at once, and goes on to answer those who are connected. Its listening socket is
  the others' too: who comes is theirs.
- Signals that a terminal or a service manager sends to all processes are for the supervisor alone to understand: a child drains
  at SIGTERM, however often it comes.
- It drains, too, when its supervisor is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socket import socket
from types import FrameType
from typing import Any, Final, Literal, NamedTuple

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Process

from ..errors import ProgressStreamError
from ..settings import Settings
from .run import (
    DrainingServer,
    all_have_asked,
    allow_files,
    config_of,
    inside_of,
    leave_seconds,
    send_away_of,
    stop_accepting,
)

logger = logging.getLogger(__name__)

#: How often a child looks whether its supervisor lives.
_LOOK_SECONDS: Final = 1.0

#: Makes the application of these settings. It is called in the child, so it must be a function of a module.
Make = Callable[[Settings], Any]
#: What the supervisor says: how are you; others have taken your place; end now.
Word = Literal["ping", "retire", "now"]


class Pulse(NamedTuple):
    """A sign of life."""

    listens: bool
    ready: bool
    #: Seconds since the event loop turned.
    age: float


class Child(Process):
    """One process of this generation of settings."""

    def __init__(self, make: Make, settings: Settings, sockets: list[socket]) -> None:
        """`sockets` are the listening ones: the clients', and that of ADMIN_PORT where there is one."""
        self._make = make
        self._settings = settings
        self._supervisor = os.getpid()
        self._asked = False
        self.started_at = self.heard_at = time.monotonic()
        self.pulse = Pulse(listens=False, ready=False, age=0.0)
        super().__init__(uvicorn.Config("", workers=1, log_config=None), sockets)

    # In the supervisor.

    @property
    def leave_seconds(self) -> float:
        return leave_seconds(self._settings)

    @property
    def runs(self) -> bool:
        return self.exitcode is None

    @property
    def silent_seconds(self) -> float:
        """How long its event loop has not been heard to turn."""
        return time.monotonic() - self.heard_at

    def look(self) -> None:
        """Take its last answer and ask again."""
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            while self.parent_conn.poll():
                self.pulse = self.parent_conn.recv()
                self.heard_at = time.monotonic() - self.pulse.age
                self._asked = False
        if not self._asked:
            self._asked = True
            self.tell("ping")

    def tell(self, word: Word) -> None:
        with suppress(OSError):
            self.parent_conn.send(word)

    def drain(self) -> None:
        if self.runs and self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)

    def end(self) -> None:
        """Kill it if it still runs, and let go of all that was its."""
        if self.runs:
            self.kill()
        self.process.join()
        self.parent_conn.close()
        self.child_conn.close()

    # In the child.

    def target(self, sockets: list[socket] | None = None) -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        listener, *admin = sockets or []
        try:
            server = self._server_for(admin[0] if admin else None)
            threading.Thread(target=self._obey, args=(server,), name="supervisor", daemon=True).start()
            server.run(sockets=[listener])
        except ProgressStreamError as error:
            logger.error("this process cannot serve: %s", error)
            sys.exit(STARTUP_FAILURE)
        if not server.started:
            sys.exit(STARTUP_FAILURE)

    def _server_for(self, admin: socket | None) -> ReplaceableServer:
        app = self._make(self._settings)
        allow_files(self._settings)
        inside = inside_of(app, self._settings, admin) if admin is not None else None
        return ReplaceableServer(config_of(app, self._settings), self._settings, inside=inside)

    def _obey(self, server: ReplaceableServer) -> None:
        """In a thread, until the supervisor is gone."""
        self.parent_conn.close()
        while os.getppid() == self._supervisor:
            try:
                if self.child_conn.poll(_LOOK_SECONDS):
                    self._hear(server, self.child_conn.recv())
            except (OSError, EOFError):  # it has nothing more to say
                time.sleep(_LOOK_SECONDS)
        logger.warning("the supervisor is gone: draining")
        server.stop()

    def _hear(self, server: ReplaceableServer, word: Word) -> None:
        match word:
            case "ping":
                age = time.monotonic() - server.turned_at
                self.child_conn.send(Pulse(server.started, server.ready, age))
            case "retire":
                server.retire()
            case "now":
                server.stop()
                server.stop()


class ReplaceableServer(DrainingServer):
    """A server beside which others listen on the same socket."""

    _retired = False

    def retire(self) -> None:
        """Leave what comes to the others, what is open for its time, and then send it away. From any thread, at any time."""
        self._retired = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        signal.signal(signal.SIGTERM, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self._stops:
            super().handle_exit(sig, frame)

    @property
    def _is_awaited(self) -> bool:
        return True

    async def on_tick(self, counter: int) -> bool:
        if self._retired and self._drain is None:
            logger.info("replaced: draining")
            self._drain = asyncio.create_task(self._then_exit(self._give_way))
        return await super().on_tick(counter)

    async def _give_way(self) -> None:
        """Nobody is refused meanwhile, and `readyz` stays as it is: it speaks for the address, where others are ready."""
        self._stop_accepting()
        await asyncio.sleep(self._settings.ready_seconds)
        self._stop_accepting()  # once more, for who was being accepted meanwhile
        if (send_away := send_away_of(self.config.app)) is not None:
            await send_away()
        # Who was connected and has not asked yet would find the connection closed. Their own deadline for it ends this.
        await all_have_asked(self, self._settings.header_seconds)

    def _stop_accepting(self) -> None:
        stop_accepting(self)
        if self._inside is not None:
            self._inside.stop_accepting()
