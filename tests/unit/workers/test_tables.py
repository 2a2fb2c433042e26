"""CSV files as people really export them (samples in tests/data/csv)."""

import bz2
import csv
import gzip
import io
import lzma
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers import tables
from workers.charsets import Charset
from workers.tables import Form, Record, Table, UnreadableTable, Writer, examine

SAMPLES = Path(__file__).parents[2] / "data" / "csv"


def sample(name: str) -> Table:
    return Table(io.BytesIO((SAMPLES / name).read_bytes()))


def table(content: bytes | str) -> Table:
    return Table(io.BytesIO(content.encode() if isinstance(content, str) else content))


def cells(read: Table) -> list[list[str]]:
    return [row.cells for row in read.rows()]


def copy(read: Table) -> bytes:
    target = io.BytesIO()
    writer = Writer(target, read.form)
    for row in (read.header, *cells(read)):
        writer.row(row)
    return target.getvalue()


PEOPLE = [
    ["José", "Café Ñandú", "jose@example.com"],
    ["Zoë", "Müller & Söhne, GmbH", "zoe@example.com"],
    ["François", "", "francois@example.com"],
]
PEOPLE_WITHOUT_COMMA = [[a, b.replace(", GmbH", ""), c] for a, b, c in PEOPLE]


@pytest.mark.parametrize(
    ("name", "label", "delimiter", "end"),
    [
        ("utf8.csv", "utf-8", ",", "\n"),
        ("utf8-bom-crlf.csv", "utf-8", ",", "\r\n"),
        ("utf16-le-tabs.txt", "utf-16", "\t", "\r\n"),
        ("utf16-be.csv", "utf-16", ",", "\r\n"),
        ("windows-1252-semicolons.csv", "windows-1252", ";", "\r\n"),
        ("pipes.csv", "utf-8", "|", "\n"),
        ("excel-sep-line.csv", "windows-1252", ";", "\r\n"),
    ],
)
def test_the_same_people_come_out_of_every_export(name: str, label: str, delimiter: str, end: str):
    """Whatever the program's charset, delimiter and line ends were; and copied, the file is the same to the byte."""
    read = sample(name)

    assert ["first_name", "company", "email"] == read.header
    assert cells(read) in (PEOPLE, PEOPLE_WITHOUT_COMMA)
    assert (label, delimiter, end) == (read.form.charset.label, read.form.delimiter, read.form.end)
    assert (SAMPLES / name).read_bytes() == copy(read)


@pytest.mark.parametrize(
    "name",
    ["quoted-newlines.csv", "all-quoted.csv", "nuls.csv", "cr-only.csv", "one-column.csv", "broken-utf8.csv",
     "windows-1251-semicolons.csv", "ragged.csv", "header-only.csv", "decimal-commas.csv", "duplicate-headers.csv"],
)  # fmt: skip
def test_a_copy_is_the_same_to_the_byte(name: str):
    """Nothing is repaired on the way, not even bytes that are in no charset."""
    assert (SAMPLES / name).read_bytes() == copy(sample(name))


def test_line_ends_within_quotes_belong_to_the_cell():
    """And a row's number is the one a spreadsheet shows."""
    rows = list(sample("quoted-newlines.csv").rows())

    assert 'met at fair\nsays "hello"\n\n- likes tea' == rows[0].cells[2]
    assert ["Bob", "Big\r\nCo", ""] == rows[1].cells
    assert [2, 3] == [row.number for row in rows]


def test_blank_lines_are_skipped_and_counted():
    """A line of delimiters alone is a row; an empty one is none."""
    rows = list(sample("blank-lines.csv").rows())

    assert [(4, ["Ann", "ACME"]), (5, ["", ""]), (6, ["Bob", ""])] == [
        (row.number, row.cells) for row in rows
    ]


def test_decimal_commas_are_no_delimiters():
    """What the header does not have does not part the rows."""
    assert [["Ann", "1,5", "2,5"], ["Bob", "3,0", "1,2"]] == cells(sample("decimal-commas.csv"))


def test_a_comma_in_each_row_does_not_win_over_the_real_delimiter():
    """Not even when header and rows all have one."""
    assert ["Name", "City, Country"] == table(
        "Name;City, Country\nAnn;Rome, Italy\nBob;Oslo, Norway\n"
    ).header


def test_another_script_is_recognised():
    """A template asks for a column by its name."""
    read = sample("windows-1251-semicolons.csv")

    assert ["имя", "компания"] == read.header
    assert "windows-1251" == read.form.charset.label


def test_utf16_without_a_mark_is_recognised():
    """Some programs leave the mark out."""
    for codec in ("utf-16-le", "utf-16-be"):
        content = "first_name;company\r\nJosé;Café\r\n".encode(codec)

        assert [["José", "Café"]] == cells(table(content))
        assert content == copy(table(content))


def test_one_broken_byte_does_not_make_a_file_windows_1252():
    """The letters around it are still read as what they are."""
    assert [["José", "Café"], ["Zoë", "Mül\udcffler"]] == cells(sample("broken-utf8.csv"))


def test_utf8_after_the_first_pages_is_seen():
    """The charset is that of the whole file, and not of its beginning."""
    content = "name\n" + "Ann\n" * 50_000 + "José\n"

    assert "José" == cells(table(content))[-1][0]
    assert "José" == cells(table(content.encode("cp1252")))[-1][0]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("empty.csv", "The CSV cannot be read: it is empty."),
        ("bom-only.csv", "The CSV cannot be read: it is empty."),
        ("unclosed-quote.csv", 'The CSV cannot be read: row 3 opens a quote (") that is never closed.'),
        (
            "workbook.xlsx.csv",
            "The CSV cannot be read: it is an Excel workbook or a zip archive; save it as CSV first.",
        ),
        ("cut-utf16.csv", "The CSV cannot be read: it ends or breaks off within a character of utf-16."),
        (
            b"\xd0\xcf\x11\xe0rest",
            "The CSV cannot be read: it is an old Excel workbook; save it as CSV first.",
        ),
        (b"\0" * 1000, "The CSV cannot be read: it is no text."),
        (random.Random(1).randbytes(4000), "The CSV cannot be read: it is no text."),
        (b" , ,\nAnn,b,c\n", "The CSV cannot be read: its first row names no column."),
        (
            b"a,b\n1," + b"x" * 10_000_001,
            "The CSV cannot be read: it has a line of more than 10,000,000 characters.",
        ),
        (
            b'a,b\n1,"' + b"x\n" * 5_000_001 + b'"\n',
            "The CSV cannot be read: row 2 has a cell of more than 10,000,000 characters.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(".csv") else "",
)
def test_what_cannot_be_read_is_refused_with_one_sentence(content: str | bytes, sentence: str):
    """For the person who sent it."""
    with pytest.raises(UnreadableTable) as caught:
        list((sample(content) if isinstance(content, str) else table(content)).rows())

    assert sentence == str(caught.value)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bz2.compress, lzma.compress])
def test_what_is_packed_is_no_table_and_is_not_unpacked(pack: Callable[[bytes], bytes]):
    """A few kilobytes may be many megabytes inside. (A workbook, which is a zip file, is among those above.)"""
    with pytest.raises(UnreadableTable):
        list(table(pack(b"name\n" + b"x\n" * 500_000)).rows())


def test_huge_cells_are_cells():
    """The limit of Python's csv module, 128 KiB, is not ours."""
    assert [["x" * 2_000_000, "1"]] == cells(table("a,b\n" + "x" * 2_000_000 + ",1\n"))


def test_a_header_larger_than_the_sample_is_read():
    """The sample then holds less than one row."""
    header = [f"column {n} " + "x" * 100 for n in range(2_000)]

    assert header == table(";".join(header) + "\n1;2\n").header


def test_doubled_carriage_returns_make_no_rows():
    """A text-mode bug of many programs: CR CR LF."""
    assert [["Ann", "ACME"]] == cells(table("a,b\r\r\nAnn,ACME\r\r\n"))


def test_fifty_thousand_rows_are_never_all_in_memory():
    """Reading a file of 5 MB takes less than 4 MB, most of it for guessing."""
    content = io.BytesIO(b"name,notes\n" + (b"Ann," + b"x" * 100 + b"\n") * 50_000)
    tracemalloc.start()
    read = Table(content)
    count = sum(1 for _ in read.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert 50_000 == count
    assert peak < 4_000_000


def test_what_a_charset_lacks_is_written_as_near_as_it_can_be():
    """Without its accent, else as a question mark; bytes that came from the file stay as they are."""
    charset = Charset("cp1252", "windows-1252")

    assert "Łódz – c ? €".replace("Ł", "?") == charset.fit("Łódź – č 😀 €")
    assert b"\x81" == charset.encode("\udc81")
    assert "Łódź 😀" == Charset("utf-16-le", "utf-16").fit("Łódź 😀")


#: Control characters apart: a few cells of nothing else look like no text.
TEXT = st.text(
    st.one_of(st.characters(blacklist_categories=["Cs", "Cc"]), st.sampled_from("\t\r\n\"',;|=-")),
    max_size=20,
)
#: Letters of which no two together are UTF-8 by chance.
LATIN = st.text(st.sampled_from("aZ09 éßÑ,;|\t\"'\r\n=-"), max_size=20)
CHARSETS = st.sampled_from(
    [
        (TEXT, Charset("utf-8", "utf-8")),
        (TEXT, Charset("utf-8", "utf-8", b"\xef\xbb\xbf")),
        (TEXT, Charset("utf-16-le", "utf-16", b"\xff\xfe")),
        (TEXT, Charset("utf-16-be", "utf-16", b"\xfe\xff")),
        (LATIN, Charset("cp1252", "windows-1252")),
    ]
)


@st.composite
def written(draw: st.DrawFn) -> tuple[list[list[str]], Form]:
    texts, charset = draw(CHARSETS)
    form = Form(
        charset,
        draw(st.sampled_from(tables.DELIMITERS)),
        draw(st.sampled_from(["\r\n", "\n", "\r"])),
        draw(st.booleans()),
    )
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(texts, min_size=width, max_size=width), min_size=1, max_size=5))
    return rows, form


@given(written())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_read_back(case: tuple[list[list[str]], Form]):
    """Any cells, in any form, when the form is known."""
    rows, form = case
    target = io.BytesIO()
    writer = Writer(target, form)
    for row in rows:
        writer.row(row)

    read = [record.cells for record in tables.records(target, form)]
    # A lone empty cell is written as "" and so is no blank line.
    assert rows == read


@given(written())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_table_with_names_is_recognised(case: tuple[list[list[str]], Form]):
    """From its bytes alone, whatever its cells hold."""
    rows, form = case
    header = ["first_name", "company", "city", "email"][: len(rows[0])]
    target = io.BytesIO()
    writer = Writer(target, form)
    for row in (header, *rows):
        writer.row(row)

    found = examine(target)
    if len(header) > 1:
        assert (form.delimiter, header) == (found.delimiter, Table(target).header)
        assert rows == cells(Table(target))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(content: bytes):
    """Never another error, and never a loop without an end."""
    try:
        read = table(content)
        for row in read.rows():
            assert isinstance(row, Record)
    except UnreadableTable as error:
        assert str(error).startswith("The CSV cannot be read: ")


@given(st.binary(max_size=400), st.sampled_from(["utf-8", "cp1252", "utf-16-le"]))
def test_csv_module_agrees(content: bytes, codec: str):
    """Rows are those that Python's own reader sees, blank lines left out."""
    text = content.decode(codec, "ignore").replace('"', "").replace("\0", "")
    try:
        read = table(text)
        ours = [read.header, *cells(read)]
    except UnreadableTable:
        return

    if read.form.hint == "" and read.form.charset.label == "utf-8" and not read.form.charset.mark:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=read.form.delimiter)
        assert [row for row in reader if row] == ours
