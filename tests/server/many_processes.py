"""Many serving processes of a small application, for real signals: `python -m tests.server.many_processes COUNT [broken|flawed]`.

Each process names itself at `/whoami`, and hangs for good at `/hang`; `broken` ones cannot be made, `flawed` ones end at once.
READY_SECONDS and DRAIN_SECONDS come from the environment, as does the file whose text is a setting (`/setting`), and that which
makes all `flawed` as long as it is there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from progress_stream.errors import InvalidInput, InvalidSetting
from progress_stream.server.many import serve_many
from progress_stream.settings import Settings, load

from .application import Application

HEALTH_SECONDS = 3.0


class Named(Application):
    """Says which process answers, and with which setting."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self.state.drain = self.drain
        self.state.send_away = self.send_away
        self.draining = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/whoami":
            await self.reply(b"%d" % os.getpid(), send)
        elif scope["type"] == "http" and scope["path"] == "/setting":
            await self.reply(self._settings.namespace.encode(), send)
        elif scope["type"] == "http" and scope["path"] == "/hang":
            signal.pause()  # what a loop does that hangs
        else:
            await super().__call__(scope, receive, send)

    async def drain(self) -> None:
        await asyncio.sleep(self._settings.ready_seconds)
        await self.send_away()

    async def send_away(self) -> None:
        await asyncio.sleep(self._settings.drain_seconds)
        for stream in self.streams:
            stream.sink.write(b"event: draining\ndata: {}\n\n")
            stream.sink.end()


def make(settings: Settings) -> Application:
    if Path(os.environ.get("FLAW_FILE", "no such file")).exists():
        sys.exit(9)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return Named(settings)


def make_broken(settings: Settings) -> Application:
    raise InvalidSetting("BROKEN", "cannot be made", "another one")


def make_flawed(settings: Settings) -> Application:
    sys.exit(9)


def reread() -> Settings:
    file = os.environ.get("SETTING_FILE")
    if file is None:
        return load()
    if not Path(file).exists():
        raise InvalidInput("SETTING_FILE", "is gone", "a file")
    return load(namespace=Path(file).read_text())


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    makers = {"broken": make_broken, "flawed": make_flawed}
    served = serve_many(
        int(sys.argv[1]), makers.get(sys.argv[-1], make), reread, "127.0.0.1", 0,
        on_listening=lambda url: print(url, flush=True), health_seconds=HEALTH_SECONDS,
    )  # fmt: skip
    print("served" if served else "failed", flush=True)


if __name__ == "__main__":
    main()
