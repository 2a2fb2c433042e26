"""Writes docs/performance.md from runs of all benchmarks that it shows: `python -m benchmarks.document [--runs 3] [name…]`.

Where some are named, only their figures and sections are replaced, and it is said that these are of later runs.

Each question is its module's own first line, its caveats are the module's, its answer is what the module printed last: nothing is
written down by hand but docs/performance-notes.md, which follows as it is.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DOCUMENT: Final = ROOT / "docs" / "performance.md"
NOTES: Final = ROOT / "docs" / "performance-notes.md"
SHOWN: Final = (
    "flood", "many", "resume", "idle", "connect", "slow", "listed", "whole", "append", "track", "stored", "growth",
    "processes", "report", "shards",
)  # fmt: skip
LIMIT_SECONDS: Final = 300
HEAD: Final = """\
# Performance

Measured, never assumed. Times mean little from one machine to the next, so each figure stands beside a yardstick of the same run:
a `ratio` below 1 is less than the yardstick's. `goal` is what the ratio may be at most. `make bench` runs all of them again;
`python -m benchmarks.document` writes this page from such a run.

{runs} whole runs, one after the other: {cores} cores, {machine}, Python {python}; {load}. Below each figure's median, with the
least and the most.

"""
TABLE_HEAD: Final = ("| figure | value | ratio | goal | |", "|---|---|---|---|---|")
_FIGURE: Final = re.compile(
    r"^figure (?P<name>\S+) (?P<value>\S+) (?P<unit>\S+)(?: ratio (?P<ratio>\S+) vs (?P<yardstick>.+?))??"
    r"(?: goal (?P<goal>\S+) .*)?$",
    re.MULTILINE,
)


_NOTES_BEGIN: Final = "## How far to trust it"


@dataclass(frozen=True, slots=True)
class Figure:
    """One `figure` line of one run (`support.table`)."""

    name: str
    value: float
    unit: str
    ratio: float | None
    yardstick: str
    goal: float | None


def figures_of(output: str) -> list[Figure]:
    return [
        Figure(
            found["name"], float(found["value"]), found["unit"], None if found["ratio"] is None else float(found["ratio"]),
            found["yardstick"] or "", None if found["goal"] is None else float(found["goal"]),
        )
        for found in _FIGURE.finditer(output)
    ]  # fmt: skip


def rows(runs: Sequence[Sequence[Figure]]) -> list[str]:
    """The lines of a Markdown table: of each figure its median, least and most over the runs, judged by the median."""
    lines = []
    for of_one in zip(*runs, strict=True):
        first = of_one[0]
        values = [one.value for one in of_one]
        ratios = [one.ratio for one in of_one if one.ratio is not None]
        judged = ratios or values
        goal = "" if first.goal is None else f"{first.goal:.3g}"
        verdict = "" if first.goal is None else ("met" if median(judged) <= first.goal else "**missed**")
        ratio = f"{_spread(ratios)} of {first.yardstick}" if ratios else ""
        lines.append(f"| {first.name} | {_spread(values)} {first.unit} | {ratio} | {goal} | {verdict} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    head = HEAD.format(
        cores=os.cpu_count(), machine=platform.machine(), python=platform.python_version(), runs=options.runs,
        load="the server on one core, its clients and Redis on the other",
    )  # fmt: skip
    sections, lines = [], []
    outputs: dict[str, list[str]] = {name: [] for name in options.names or SHOWN}
    for number in range(options.runs):  # Whole runs, one after the other: a bad hour falls on all alike.
        for name, printed in outputs.items():
            print(f"run {number + 1}: {name}", file=sys.stderr)
            printed.append(_output_of(name))
    for name, printed in outputs.items():
        sections.append(_section(name, printed[-1]))
        lines += rows([figures_of(one) for one in printed])
    if options.names:
        DOCUMENT.write_text(_with_later(DOCUMENT.read_text(), options.names, options.runs, lines, sections))
        return
    notes = NOTES.read_text() if NOTES.exists() else ""
    table = "\n".join([*TABLE_HEAD, *lines])
    DOCUMENT.write_text(head + table + "\n\n" + "\n".join(sections) + (f"\n{notes}" if notes else ""))


def _with_later(
    document: str, names: Sequence[str], runs: int, lines: Sequence[str], sections: Sequence[str]
) -> str:
    """The document with these benchmarks' rows, sections and the notes as they are now."""
    for line in lines:
        row = re.compile(rf"^{re.escape(line.split(' | ')[0])} \|.*$", re.MULTILINE)
        document, found = row.subn(lambda _, line=line: line, document, count=1)
        if not found:  # a new one ends the table
            document = document.replace("|\n\n## ", f"|\n{line}\n\n## ", 1)
    for name, section in zip(names, sections, strict=True):
        old = re.compile(rf"^## {name}\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
        document, found = old.subn(lambda _, section=section: f"{section}\n", document, count=1)
        if not found:
            document = document.replace(_NOTES_BEGIN, f"{section}\n{_NOTES_BEGIN}", 1)
    later = f"Of {runs} later runs: {', '.join(names)}."
    head, _, rest = document.partition("\n| figure |")
    kept = [
        line
        for line in head.splitlines()
        if not (line.startswith("Of ") and line.endswith(f": {', '.join(names)}."))
    ]
    body, mark, _ = rest.partition(_NOTES_BEGIN)
    whole = "\n".join([*kept, later, ""]) + "\n| figure |" + body
    return whole + (NOTES.read_text() if mark else "")


def _output_of(name: str) -> str:
    words = [sys.executable, "-m", f"benchmarks.{name}"]
    done = subprocess.run(
        words, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=LIMIT_SECONDS, check=True
    )
    return done.stdout.strip()


def _section(name: str, printed: str) -> str:
    source = (ROOT / "benchmarks" / f"{name}.py").read_text()
    words = ast.get_docstring(ast.parse(source)) or ""
    question, _, rest = words.partition("\n\n")
    return f"## {name}\n\n**{' '.join(question.split())}**\n\n{rest}\n\nThe last run:\n\n```text\n{printed}\n```\n"


if __name__ == "__main__":
    main()
