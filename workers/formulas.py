"""Makes cells harmless that a spreadsheet would run as formulas, and leaves numbers alone.

OWASP "CSV Injection": a cell that begins with = + - @, TAB, CR or LF gets a leading apostrophe. Beyond that page,
since naive checks were bypassed so: blanks and invisible characters before the sign, the full-width signs, and a later
line of a cell, for programs that split there. Departures, for a list that comes back must still be usable as one: plain
numbers and telephone numbers stay as they are (no letters: they can name no function and no cell), and so does a
list's dash at the beginning of a later line. Not promised: anything for
a program that reads the file with another delimiter.
"""

from __future__ import annotations

import re
from typing import Final

#: Signs that begin a formula, in the forms that spreadsheets take for them.
_SIGNS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20\u2212"
#: Blanks, control characters and invisible marks, which spreadsheets skip; line ends apart.
_SKIPPED: Final = (
    "\x00-\x09\x0b\x0c\x0e-\x20\x7f-\xa0\xad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff"
)

_SUSPECT = re.compile(f"[{_SIGNS}\t\r\n]")
_FORMULA = re.compile(f"[\t\r\n]|[{_SKIPPED}\r\n]*[{_SIGNS}]")
_LATER = re.compile(f"(?<=[\r\n])(?=[{_SKIPPED}]*[{_SIGNS}])(?![{_SKIPPED}]*[-+][ \t])[^\r\n]+")

#: No number is longer, and it keeps the patterns below from going over a huge cell.
_NUMBER_CHARS: Final = 40
#: -5 · +1.5e-3 · -1 234,50 % · -$5.00 · and a dash, or several, for "nothing".
_NUMBER = re.compile(
    r"[-+\u2212]\s?[$€£¥]?\s?[0-9][0-9.,\s]*(?:[eE][-+]?[0-9]{1,3})?\s?[%$€£¥]?|[-+\u2212\s]+"
)
#: E.164 allows 15 digits; with fewer than 7, dashes between them are arithmetic and no telephone.
_TELEPHONE = re.compile(r"\+(?:[ ().\u00a0/-]*[0-9]){7,15}")


def harmless(cell: str) -> str:
    """The cell, with an apostrophe before whatever a spreadsheet would run. Done twice it changes nothing more."""
    if not _SUSPECT.search(cell):
        return cell
    begins = _FORMULA.match(cell) and not _is_number(cell)
    cell = _LATER.sub(lambda line: line[0] if _is_number(line[0]) else "'" + line[0], cell)
    return "'" + cell if begins else cell


def _is_number(text: str) -> bool:
    text = text.strip(" \xa0")
    return len(text) <= _NUMBER_CHARS and bool(_NUMBER.fullmatch(text) or _TELEPHONE.fullmatch(text))
