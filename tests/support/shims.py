"""Builds the LD_PRELOAD shims that lie to a server: about the time (`clock.c`), about the room on its disk (`disk.c`)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


def build(name: str, folder: Path) -> Path | None:
    """The library, or None where there is no compiler."""
    found = compiler()
    if found is None:
        return None
    library = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([found, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return library
