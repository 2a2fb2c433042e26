"""The actor `personalize`: a CSV and a template in, the same CSV with one more column out. `tables` reads and writes."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
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

#: A file with more rows is spread over pieces of so many: each is some seconds of work, far more than its message costs.
PIECE_ROWS: Final = 5_000

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
        if total > PIECE_ROWS and job.can_spread:
            return _spread(file, template, total)
        name, media_type = _named(file, table)
        with job.step("write"), job.save(name, media_type=media_type) as target:
            writer = Writer(target, table.form)
            writer.row(personalize_header(table.header))
            rows = track(table.rows(), total=total, unit="rows")
            for cells in personalize_rows(rows, merge, len(table.header), warnings):
                writer.row(cells)
    return {"rows": total, "warnings": warnings.count, "file": name}


def _spread(file: Upload, template: str, total: int) -> dict[str, Any]:
    """The same in pieces, on as many workers as there are. What is wrong with the whole file the first piece says for all."""
    pieces = [(first, min(PIECE_ROWS, total - first)) for first in range(0, total, PIECE_ROWS)]
    current_job().spread(
        (personalize_piece.message(file, template, first, count) for first, count in pieces),
        then=join_pieces.message(file, total),
        weights=[count for _, count in pieces],
        unit="rows",
    )
    return {"rows": total}


@dramatiq.actor(
    progress=True,
    title="Some rows of a CSV",
    max_retries=3,
    min_backoff=1_000,
    max_backoff=60_000,
    time_limit=TIME_LIMIT // timedelta(milliseconds=1),
    throws=(UnreadableTable, InvalidTemplate, FileNotFoundError),
)
def personalize_piece(file: Upload, template: str, first: int, count: int) -> int:
    """`count` rows from row `first` on (from 0), as they stand in the output; how many warnings they gave."""
    job = current_job()
    warnings = _Warnings(lambda text: job.log(text, level="warning"))
    of_the_file = warnings if first == 0 else lambda text: None
    with file.open() as source:
        table = Table(source)
        merge = _fitted(parse(template), table.form.charset, of_the_file).bind(table.header)
        if first > 0:
            merge = replace(merge, doubled=())
        name, media_type = _named(file, table)
        with job.save(name, media_type=media_type) as target:
            writer = Writer(target, table.form, begins=False)
            rows = track(islice(table.rows(), first, first + count), total=count, unit="rows")
            for cells in personalize_rows(rows, merge, len(table.header), warnings):
                writer.row(cells)
    return warnings.count


@dramatiq.actor(
    progress=True,
    title="The rows of a CSV, put together",
    max_retries=3,
    min_backoff=1_000,
    max_backoff=60_000,
    time_limit=TIME_LIMIT // timedelta(milliseconds=1),
)
def join_pieces(file: Upload, total: int) -> dict[str, Any]:
    """The header, and the pieces in their order: byte for byte what one worker alone would have written."""
    job = current_job()
    warnings = 0
    with file.open() as source:
        table = Table(source)
    name, media_type = _named(file, table)
    with job.save(name, media_type=media_type) as target:
        Writer(target, table.form).row(personalize_header(table.header))
        for piece in job.parts():
            if piece.file is None:
                raise FileNotFoundError(f"piece {piece.number} left no file")
            warnings += int(piece.result)
            with piece.file.open() as rows:
                shutil.copyfileobj(rows, target)
    return {"rows": total, "warnings": warnings, "file": name}


def _named(file: Upload, table: Table) -> tuple[str, str]:
    """The output's name and media type."""
    return personal_name(file.name), f"text/csv; charset={table.form.charset.label}"


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
