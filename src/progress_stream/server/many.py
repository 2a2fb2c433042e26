"""Several serving processes on one port, and who looks after them: starts, replaces, reloads and ends them, and tells systemd.

uvicorn's own supervisor, as far as it goes: its spawned processes, pipes, signals and loop. What is done in each turn of that loop
is ours, because there:
- a child whose answer is late is killed after 5 seconds, with all of its streams; here it has half a minute;
- a reload replaces one child after the other and waits for each drain, deaf meanwhile to signals and deaths; here all new ones
  start at once, all old ones leave together, and each stream moves once;
- a second signal has no effect;
- SIGTTIN and SIGTTOU change the number of processes; here nothing does.

What a child does is `child.py`'s.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from .. import metrics
from ..errors import InvalidInput, ProgressStreamError
from ..settings import Settings
from .child import Child, Make
from .notify import Systemd
from .run import PATIENCE_SECONDS, Listening, listen, listen_inside, tune, url_of

logger = logging.getLogger(__name__)

#: Seconds without a turn of its event loop after which a child is killed. A busy one is late by a few; when none has turned for so
#: long, its clients have given it up.
HEALTH_SECONDS: Final = 30.0
#: Seconds for a child to import everything, listen and become ready.
START_SECONDS: Final = 60.0
#: A child that ends sooner after its start is one that cannot run: the next start waits, longer each time.
QUICK_SECONDS: Final = 10.0
LONGEST_PAUSE_SECONDS: Final = 10.0
#: Seconds that a child which drains may take longer than it should.
SLACK_SECONDS: Final = 30.0
#: Seconds between "end now" and the kill.
NOW_SECONDS: Final = 5.0
#: How often to look whether children have ended, once they are to end.
_LOOK_SECONDS: Final = 0.05

Reread = Callable[[], Settings]


def serve_many(
    count: int,
    make: Make,
    reread: Reread,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    on_listening: Listening | None = None,
    health_seconds: float = HEALTH_SECONDS,
) -> bool:
    """Serve with so many processes until SIGTERM or SIGINT, then drain all of them; a second signal cuts short.

    SIGHUP replaces all processes by new ones, with the settings that `reread` gives then. `make` is called in each process, so it
    must be a function of a module. False where a process could not even start. Raises InvalidInput where the address cannot be
    listened on, and what `reread` raises at the start.
    """
    systemd = Systemd.here()
    settings = reread()
    sockets = [listen(host, port, settings)]
    if settings.admin_port is not None:
        sockets.append(listen_inside(host, settings))
    with _shared_metrics():
        supervisor = Supervisor(count, make, reread, settings, sockets, systemd, on_listening, health_seconds)
        supervisor.run()
    return not supervisor.failed


class Supervisor(Multiprocess):
    """Does nothing but look: whatever takes time is waited for in later turns."""

    handle_ttin = handle_ttou = None  # type: ignore[assignment]

    def __init__(
        self,
        count: int,
        make: Make,
        reread: Reread,
        settings: Settings,
        sockets: list[socket],
        systemd: Systemd,
        on_listening: Listening | None,
        health_seconds: float,
    ) -> None:
        super().__init__(uvicorn.Config("", workers=count, log_config=None), sockets)
        #: Whether none could be brought to serve.
        self.failed = False
        self._make = make
        self._reread = reread
        self._settings = settings
        self._systemd = systemd
        self._on_listening = on_listening
        self._health_seconds = health_seconds
        self._serving: list[Child] = []
        #: Of a reload: the new ones until all are ready, with their settings, and the old ones until they are gone.
        self._coming: list[Child] = []
        self._new_settings = settings
        self._going: dict[Child, float] = {}
        self._reload_wanted = False
        self._listened = self._ready = False
        self._began_at = time.monotonic()
        self._not_before = 0.0
        self._pause = 0.0
        self._kill_at = float("inf")

    # One turn, twice a second.

    def init_processes(self) -> None:
        self._fill()

    def keep_subprocess_alive(self) -> None:
        for child in self._all():
            child.look()
        self._replace_dead()
        self._let_go()
        if self.should_exit.is_set():
            return
        self._fill()
        self._announce()
        self._go_on_with_reload()
        self._tell_alive()

    def _all(self) -> list[Child]:
        return [*self._serving, *self._coming, *self._going]

    def _fill(self) -> None:
        """Start what is missing, unless it was tried a moment ago."""
        missing = self.processes_num - len(self._serving)
        if missing > 0 and time.monotonic() >= self._not_before:
            self._serving += [self._start(self._settings) for _ in range(missing)]

    def _start(self, settings: Settings) -> Child:
        child = Child(self._make, settings, self.sockets)
        child.start()
        return child

    def _replace_dead(self) -> None:
        for child in list(self._serving):
            if fault := self._fault_of(child):
                self._serving.remove(child)
                _end(child)
                logger.warning("process %s %s", child.pid, fault)
                self._wait_before_next(child)
                if not self._listened and (child.exitcode or 0) > 0:
                    # It said why. All would fail alike, as often as they were started.
                    self.failed = True
                    self.should_exit.set()

    def _fault_of(self, child: Child) -> str | None:
        """Why it serves no more; None while it does, or may yet."""
        if not child.runs:
            code = child.exitcode or 0
            return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        allowed = self._health_seconds if child.pulse.listens else START_SECONDS
        if child.silent_seconds > allowed:
            return f"gave no sign of life for {allowed:g} seconds and was killed"
        return None

    def _wait_before_next(self, child: Child) -> None:
        quick = time.monotonic() - child.started_at < QUICK_SECONDS
        # The first time at once: somebody may have killed it.
        self._not_before = time.monotonic() + (self._pause if quick else 0)
        self._pause = min(max(self._pause * 2, 0.5), LONGEST_PAUSE_SECONDS) if quick else 0.0

    def _let_go(self) -> None:
        """Of replaced ones that are gone, or should be."""
        for child, until in list(self._going.items()):
            if child.runs and time.monotonic() < until:
                continue
            if child.runs:
                logger.warning("process %s was replaced and did not go: killed", child.pid)
            del self._going[child]
            _end(child)

    def _announce(self) -> None:
        whole = len(self._serving) == self.processes_num
        if not self._listened and whole and all(child.pulse.listens for child in self._serving):
            self._listened = True
            if self._on_listening is not None:
                self._on_listening(url_of(self.sockets[0]))
        if self._ready or not self._listened:
            return
        if whole and all(child.pulse.ready for child in self._serving):
            self._ready = True
            self._systemd.ready(self._status())
        elif time.monotonic() - self._began_at > PATIENCE_SECONDS:
            self._ready = True
            self._systemd.ready("not ready yet: /readyz says why")

    def _tell_alive(self) -> None:
        """As long as one serves: the others are seen to here."""
        silent = [child.silent_seconds for child in self._serving if child.runs]
        if silent and min(silent) < self._health_seconds:
            self._systemd.alive()

    def _status(self) -> str:
        return f"serving with {self.processes_num} processes"

    # A reload.

    def handle_hup(self) -> None:
        if not self.should_exit.is_set():
            logger.info("SIGHUP: reloading")
            self._systemd.reloading()
            self._reload_wanted = True

    def _go_on_with_reload(self) -> None:
        if self._coming:
            self._look_at_new()
        elif self._reload_wanted and self._listened and not self._going:
            self._reload_wanted = False
            self._begin_reload()

    def _begin_reload(self) -> None:
        try:
            self._new_settings = self._reread()
        except ProgressStreamError as error:
            self._give_up_reload(str(error))
            return
        if self._new_settings.admin_port != self._settings.admin_port:
            logger.warning("ADMIN_PORT changes at a restart alone")
            self._new_settings = self._new_settings.model_copy(
                update={"admin_port": self._settings.admin_port}
            )
        self._coming = [self._start(self._new_settings) for _ in range(self.processes_num)]

    def _look_at_new(self) -> None:
        faults = [fault for child in self._coming if (fault := self._fault_of(child))]
        if faults:
            self._give_up_reload(f"a new process {faults[0]}")
        elif all(child.pulse.ready for child in self._coming):
            self._change_over()
        elif time.monotonic() - self._coming[0].started_at > START_SECONDS:
            self._give_up_reload(f"the new processes are not ready after {START_SECONDS:g} seconds")

    def _change_over(self) -> None:
        for child in self._serving:
            child.tell("retire")
            self._going[child] = time.monotonic() + child.leave_seconds + SLACK_SECONDS
        self._serving, self._coming = self._coming, []
        self._settings = self._new_settings
        self._not_before = self._pause = 0.0
        for listener in self.sockets:
            tune(listener, self._settings)
        logger.info("reloaded: %d processes replaced", self.processes_num)
        self._systemd.ready(self._status())

    def _give_up_reload(self, why: str) -> None:
        logger.error("not reloaded, all is as it was: %s", why)
        for child in self._coming:
            _end(child)
        self._coming = []
        self._systemd.ready(f"{self._status()}; not reloaded: {why}")

    # The end.

    def handle_int(self) -> None:
        self._stop("SIGINT")

    def handle_term(self) -> None:
        self._stop("SIGTERM")

    def _stop(self, name: str) -> None:
        if self.should_exit.is_set():
            logger.info("%s: exiting now", name)
            self._kill_at = min(self._kill_at, time.monotonic() + NOW_SECONDS)
            for child in self._all():
                child.tell("now")
        else:
            logger.info("%s: draining all processes", name)
            self.should_exit.set()

    def terminate_all(self) -> None:
        self._systemd.stopping(max((child.leave_seconds for child in self._all()), default=0.0))
        # Theirs alone now: when the last one stops listening, nobody waits in vain.
        for listener in self.sockets:
            listener.close()
        for child in self._all():
            child.drain()

    def join_all(self) -> None:
        while left := [child for child in self._all() if child.runs]:
            self.handle_signals()
            if time.monotonic() > self._kill_at:
                for child in left:
                    child.process.kill()
            time.sleep(_LOOK_SECONDS)
        for child in self._all():
            _end(child)


def _end(child: Child) -> None:
    child.end()
    metrics.bury_dead()


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """A folder in which the processes' numbers become one, unless the environment names one that more share."""
    if metrics.FOLDER in os.environ:
        yield
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix="progress-stream-metrics-"))
    except OSError as error:
        raise InvalidInput(
            metrics.FOLDER, f"is not set, and no folder can be made: {error.strerror}", "an empty folder"
        ) from None
    os.environ[metrics.FOLDER] = str(folder)
    try:
        yield
    finally:
        del os.environ[metrics.FOLDER]
        shutil.rmtree(folder, ignore_errors=True)
