"""The actor `personalize`: a CSV and a template in, the same CSV with one more column out. `tables` reads and writes."""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, Final

import dramatiq

from progress_stream import Upload, current_job, track

from .charsets import Charset
from .formulas import harmless
from .tables import Record, Table, UnreadableTable, Writer
from .template import InvalidTemplate, Merge, Template, parse

COLUMN: Final = "personal_line"
#: Far above what the largest upload needs: it ends a worker that hangs, not one that works.
TIME_LIMIT: Final = timedelta(minutes=30)

Warn = Callable[[str], None]


@dramatiq.actor(
    progress=True,
    submit=True,
    title="A personal line for every row of a CSV",
    max_retries=3,
    min_backoff=1_000,
    max_backoff=60_000,
    time_limit=TIME_LIMIT // timedelta(milliseconds=1),
    # A second try would read the same file and the same template.
    throws=(UnreadableTable, InvalidTemplate, FileNotFoundError),
)
def personalize(file: Upload, template: str) -> dict[str, Any]:
    """Write a personal line for every row of a CSV.

    `template` is a line such as "Hi {{first_name}}, I saw that {{company|your firm}} …". What is wrong with single rows
    becomes a warning in the job's log. A retry begins again from the input and ends with the same output.
    """
    job = current_job()
    warnings = _Warnings(lambda text: job.log(text, level="warning"))
    blanks = parse(template)
    with file.open() as source:
        with job.step("read"):
            table = Table(source)
            merge = _fitted(blanks, table.form.charset, warnings).bind(table.header)
            total = sum(1 for _ in table.rows())
        name = personal_name(file.name)
        media_type = f"text/csv; charset={table.form.charset.label}"
        with job.step("write"), job.save(name, media_type=media_type) as target:
            writer = Writer(target, table.form)
            writer.row(personalize_header(table.header))
            rows = track(table.rows(), total=total, unit="rows")
            for cells in personalize_rows(rows, merge, len(table.header), warnings):
                writer.row(cells)
    return {"rows": total, "warnings": warnings.count, "file": name}


def personalize_header(header: list[str]) -> list[str]:
    """The header with the new column's name at its end, numbered where the name is taken."""
    taken = {name.strip().casefold() for name in header}
    name, number = COLUMN, 1
    while name in taken:
        number += 1
        name = f"{COLUMN}_{number}"
    return [*map(harmless, header), name]


def personalize_rows(rows: Iterable[Record], merge: Merge, width: int, warn: Warn) -> Iterator[list[str]]:
    """Each row with its line in column `width`; cells beyond the header come after it, so that nothing is lost."""
    for name in merge.doubled:
        warn(f"the file has more than one column {name!r}; the first is used")
    for row in rows:
        line = _line(row, merge, width, warn) if any(cell.strip() for cell in row.cells) else ""
        padded = row.cells[:width] + [""] * (width - len(row.cells))
        yield [harmless(cell) for cell in (*padded, line, *row.cells[width:])]


def personal_name(name: str) -> str:
    """`leads.csv` becomes `leads-personal.csv`, whatever folder the browser put before it."""
    stem = PurePosixPath(name.replace("\\", "/")).stem[:200]
    return f"{stem or 'table'}-personal.csv"


class _Warnings:
    """Passes warnings on and counts them."""

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self.count = 0

    def __call__(self, text: str) -> None:
        self.count += 1
        self._warn(text)


def _line(row: Record, merge: Merge, width: int, warn: Warn) -> str:
    if len(row.cells) != width:
        warn(f"row {row.number}: {len(row.cells)} cells, where the header has {width}")
    line = merge.line(row.cells)
    for problem in line.problems:
        warn(f"row {row.number}: {problem}")
    return line.text


def _fitted(template: Template, charset: Charset, warn: Warn) -> Template:
    """The template in the file's characters: said once, and not for every row."""
    lost = sorted({char for text in template.literals() for char in text if charset.fit(char) != char})
    if lost:
        shown = " ".join(lost[:20])
        warn(f"the file's charset {charset.label} lacks characters of the template, written without: {shown}")
    return template.map_literals(charset.fit)
