"""How figures are printed: a table for people, and lines that a program can compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they must be; the first two to the left."""
    cells = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(padded).rstrip())


def figure(
    name: str, value: float, unit: str, yardstick_value: float, yardstick: str, goal: float | None = None
) -> None:
    """One measured value beside that of a yardstick of the same run; with what the ratio may be at most."""
    ratio = value / yardstick_value if yardstick_value else float("inf")
    judged = "" if goal is None else f" goal {goal:g} {'met' if ratio <= goal else 'missed'}"
    print(f"figure {name} {value:.3g} {unit} ratio {ratio:.3g} vs {yardstick}{judged}", flush=True)


def absolute(name: str, value: float, unit: str, goal: float | None = None) -> None:
    """One measured value that stands by itself: a count, or bytes; with what it may be at most."""
    judged = "" if goal is None else f" goal {goal:g} {'met' if value <= goal else 'missed'}"
    print(f"figure {name} {value:.3g} {unit}{judged}", flush=True)
