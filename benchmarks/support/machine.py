"""What a process costs, read from /proc, and where it may run."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

#: The server's core, and everybody else's.
SERVER_CORE: Final = 0
OTHER_CORE: Final = 1
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def pin(core: int) -> None:
    """Keep this process and its children to one core, where that is allowed and there is one."""
    with suppress(OSError, AttributeError):
        os.sched_setaffinity(0, {core})


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            todo += map(int, file.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree so far."""
    ticks = 0
    for one in tree(pid):
        # The name in parentheses may hold spaces.
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of the tree; what is shared counts once for each."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")
