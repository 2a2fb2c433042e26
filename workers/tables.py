"""Reads CSV files as people really export them, row by row, and writes them back in the same form.

Found by looking: charset, delimiter, line ends, whether all cells are quoted, Excel's `sep=;` line. Tolerated: ragged
rows, blank lines (skipped), stray quotes and line ends within rows. Refused, with one sentence: what is no text table.
Memory holds one row at a time. What the cells mean is not known here.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, Final

from .charsets import LINE_CHARS, SAMPLE_BYTES, Charset, charset_of

#: Where two fit equally well the earlier one wins: commas occur in ordinary text.
DELIMITERS: Final = ("\t", ";", "|", ",")
#: RFC 4180 §2, for a file of a single line.
DEFAULT_END: Final = "\r\n"
#: One cell. A larger one is a quote that was never closed.
CELL_CHARS: Final = LINE_CHARS
SAMPLE_ROWS: Final = 200

_FOREIGN: Final = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"%PDF-", "a PDF"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PAR1", "a Parquet file"),
)
_HINT = re.compile(r'"?sep=([\t,;|:^~#])"?(\r\n|\r|\n)', re.IGNORECASE)
_CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f]")


class UnreadableTable(Exception):
    """The file is no CSV that can be read; the text is a sentence for the person who sent it."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"The CSV cannot be read: {fault}.")


@dataclass(frozen=True, slots=True)
class Record:
    """One row. `number` is the one that a spreadsheet shows: the header is row 1, blank lines count."""

    number: int
    cells: list[str]
    end: str


@dataclass(frozen=True, slots=True)
class Form:
    """How a table is written down. `hint` is Excel's `sep=` line, its end included."""

    charset: Charset
    delimiter: str = ","
    end: str = DEFAULT_END
    quoted: bool = False
    hint: str = ""


class Table:
    """A CSV file that has been looked at. Each `rows()` reads the file again from its beginning."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.form = examine(file)
        self.header = self._header()

    def rows(self) -> Iterator[Record]:
        """The rows after the header."""
        return islice(records(self._file, self.form), 1, None)

    def _header(self) -> list[str]:
        with closing(records(self._file, self.form)) as rows:
            first = next(rows, None)
        if first is None:
            raise UnreadableTable("it is empty")
        if not any(name.strip() for name in first.cells):
            raise UnreadableTable("its first row names no column")
        return first.cells


class Writer:
    """Writes rows to a binary file in a given form; `begins` is False for a piece that comes after another."""

    def __init__(self, target: BinaryIO, form: Form, *, begins: bool = True) -> None:
        self._target = target
        self._form = form
        self._line = _LineMaker(form.delimiter, form.quoted)
        if begins:
            target.write(form.charset.mark + form.charset.encode(form.hint))

    def row(self, cells: Sequence[str]) -> None:
        self._target.write(self._form.charset.encode(self._line(cells) + self._form.end))


def examine(file: BinaryIO) -> Form:
    """Find out how a table is written down. Raises UnreadableTable for what is no text."""
    file.seek(0)
    head = file.read(SAMPLE_BYTES + 1)
    _refuse_foreign(head)
    charset = charset_of(file)
    text = charset.sample(head[:SAMPLE_BYTES])
    _refuse_binary(text)
    hint = _HINT.match(text)
    body = text[hint.end() :] if hint else text
    whole = len(head) <= SAMPLE_BYTES
    delimiter = hint[1] if hint else _delimiter_of(body, whole)
    sample = _sample(body, delimiter, whole)
    return Form(
        charset, delimiter, _end_of(sample), _is_quoted(body, sample, delimiter), hint[0] if hint else ""
    )


def records(file: BinaryIO, form: Form) -> Generator[Record, None, None]:
    """Every row with cells, the header first. Raises UnreadableTable where the file turns out to be broken."""
    text = form.charset.text(file)
    try:
        text.read(len(form.hint))
        yield from _parsed(_Lines(text), form.delimiter)
    except UnicodeDecodeError:
        raise UnreadableTable(f"it ends or breaks off within a character of {form.charset.label}") from None
    finally:
        text.detach()


class _Lines:
    """The lines of a text. csv.reader tells neither how a row's line ended nor that the text ended within a quote."""

    def __init__(self, text: io.TextIOBase) -> None:
        self._text = text
        self.last = ""
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LINE_CHARS)
        if not line:
            self.ended = True
            raise StopIteration
        if len(line) == LINE_CHARS and line[-1] not in "\r\n":
            raise UnreadableTable(f"it has a line of more than {LINE_CHARS:,} characters")
        self.last = line
        return line

    @property
    def end(self) -> str:
        """How the last line ended: with CR LF, CR, LF, or with the file."""
        return self.last[len(self.last.rstrip("\r\n")) :]


def _parsed(lines: _Lines, delimiter: str, whole: bool = True) -> Iterator[Record]:
    csv.field_size_limit(CELL_CHARS)
    number = 0
    try:
        for cells in csv.reader(lines, delimiter=delimiter):
            number += 1
            # The reader asks for more lines only within a quoted cell.
            if lines.ended and whole:
                raise UnreadableTable(f'row {number:,} opens a quote (") that is never closed')
            if cells:
                yield Record(number, cells, lines.end)
    except csv.Error:
        raise UnreadableTable(
            f"row {number + 1:,} has a cell of more than {CELL_CHARS:,} characters"
        ) from None


def _refuse_foreign(head: bytes) -> None:
    for beginning, kind in _FOREIGN:
        if head.startswith(beginning):
            raise UnreadableTable(f"it is {kind}; save it as CSV first")


def _refuse_binary(text: str) -> None:
    if text.count("\0") > len(text) / 2 or len(_CONTROL.findall(text)) > len(text) / 20:
        raise UnreadableTable("it is no text")


def _sample(body: str, delimiter: str, whole: bool) -> list[Record]:
    """The first rows; without the last one where the sample may have cut it."""
    parsed = _parsed(_Lines(io.StringIO(body, newline="")), delimiter, whole=False)
    rows = list(islice(parsed, SAMPLE_ROWS))
    return rows if whole or len(rows) < 2 else rows[:-1]


def _delimiter_of(body: str, whole: bool) -> str:
    best, score = ",", 0.0
    for delimiter in DELIMITERS:
        rows = _sample(body, delimiter, whole)
        if (points := _points(rows)) > score:
            best, score = delimiter, points
    return best


def _points(rows: Iterable[Record]) -> float:
    """Delimiters in the header, times the share of rows that have as many: text that merely contains commas has few."""
    widths = [len(row.cells) for row in rows]
    return (widths[0] - 1) * widths.count(widths[0]) / len(widths) if widths else 0.0


def _end_of(rows: Iterable[Record]) -> str:
    ends = Counter(row.end for row in rows if row.end in {"\r\n", "\n", "\r"})
    return ends.most_common(1)[0][0] if ends else DEFAULT_END


def _is_quoted(body: str, rows: Sequence[Record], delimiter: str) -> bool:
    """True if the header is written with a quote around every name, as many programs do with all cells."""
    if not rows:
        return False
    return body.lstrip("\r\n").startswith(_LineMaker(delimiter, True)(rows[0].cells) + rows[0].end)


class _Returned:
    """A file for csv.writer that gives back what it is given: `writerow` passes on what `write` returns."""

    def write(self, text: str) -> str:
        return text


class _LineMaker:
    """Turns cells into a line without its end."""

    def __init__(self, delimiter: str, quoted: bool) -> None:
        # The writer quotes only line ends that are in its own terminator, and a cell may hold either.
        self._writer = csv.writer(
            _Returned(),
            delimiter=delimiter,
            lineterminator="\r\n",
            quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL,
        )

    def __call__(self, cells: Sequence[str]) -> str:
        return str(self._writer.writerow(cells)).removesuffix("\r\n")
