"""A wall clock of a server under test that runs beside the machine's, and may be moved while it runs."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.support.shims import build


class MovingClock:
    """The clock of whatever is started with this `env`: as the machine's, until it is moved."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock.offset"
        self.move(0)
        library = build("clock", folder)
        if library is None:
            raise RuntimeError("no C compiler for the clock shim")
        self.env = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._file)}

    def move(self, seconds: int) -> None:
        """So many seconds beside the machine's clock from now on. In place: the process has the file mapped."""
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(struct.pack("@l", seconds))
