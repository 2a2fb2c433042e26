"""Writes docs/performance.md from one run of the benchmarks named, or of all that docs/performance.md shows: `python -m
benchmarks.document [name…]`.

Each question is its module's own first line, its caveats are the module's, its answer is what the module printed: nothing is
written down by hand but docs/performance-notes.md, which follows as it is.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DOCUMENT: Final = ROOT / "docs" / "performance.md"
NOTES: Final = ROOT / "docs" / "performance-notes.md"
SHOWN: Final = (
    "flood", "many", "resume", "idle", "connect", "slow", "listed", "whole", "append", "track", "stored", "growth",
)  # fmt: skip
LIMIT_SECONDS: Final = 300
HEAD: Final = """\
# Performance

Measured, never assumed. Times mean little from one machine to the next, so each figure stands beside a yardstick of the same run:
a `ratio` below 1 is less than the yardstick's. `goal` is what the ratio may be at most. `make bench` runs all of them again;
`python -m benchmarks.document` writes this page from such a run.

This run: {cores} cores, {machine}, Python {python}; {load}.

"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name")
    names = parser.parse_args().names or SHOWN
    head = HEAD.format(
        cores=os.cpu_count(), machine=platform.machine(), python=platform.python_version(),
        load="the server on one core, its clients and Redis on the other",
    )  # fmt: skip
    parts = [_section(name) for name in names]
    notes = NOTES.read_text() if NOTES.exists() else ""
    DOCUMENT.write_text(head + "\n".join(parts) + (f"\n{notes}" if notes else ""))


def _section(name: str) -> str:
    source = (ROOT / "benchmarks" / f"{name}.py").read_text()
    words = ast.get_docstring(ast.parse(source)) or ""
    question, _, rest = words.partition("\n\n")
    print(f"{name}: {question}", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_SECONDS,
        check=True,
    )  # fmt: skip
    return f"## {name}\n\n**{' '.join(question.split())}**\n\n{rest}\n\n```text\n{done.stdout.strip()}\n```\n"


if __name__ == "__main__":
    main()
