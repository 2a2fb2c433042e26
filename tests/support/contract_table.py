"""Which test proves which row of docs/contract.md: read from both, and written down nowhere else. Judges nothing.

A row is a line of one of the document's tables, or a paragraph that begins in bold, under the headings named here; a test names the
rows that it proves by `@pytest.mark.contract("…")`. `python -m tests.support.contract_table` writes docs/contract-tests.md.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final = ROOT / "docs" / "contract.md"
TABLE: Final = ROOT / "docs" / "contract-tests.md"
#: Headings whose tables hold rows, and what their rows' names begin with.
TABLES: Final = {
    "Requests": "", "POST /jobs": "POST /jobs: ", "Retrying": "Retrying: ", "The stream of a list": "The stream of a list: ",
    "Who may": "Who may: ", "Commands": "", "Settings": "",
}  # fmt: skip
#: Headings whose paragraphs in bold are rows.
PARAGRAPHS: Final = ("The stream", "The same events in other forms", "Who may")
#: Cells of a table's head.
_HEADS: Final = {"", "request", "frame", "setting", "command", "name", "field", "type"}


def rows() -> dict[str, list[str]]:
    """The names of the document's rows, by heading; what is not built yet is none."""
    found: dict[str, list[str]] = {}
    for heading, text in _sections():
        names = list(_paragraphs(text)) if heading in PARAGRAPHS else []
        if heading in TABLES:
            names += [TABLES[heading] + name for name in _cells(heading, text)]
        if names:
            found[heading] = names
    return found


def not_yet() -> list[str]:
    """Rows that are decided and not built."""
    lines = re.findall(r"^\| (.+?) \| \*not yet\* \|$", DOCUMENT.read_text(), re.MULTILINE)
    return [_plain(line) for line in lines]


def marks() -> dict[str, list[str]]:
    """The rows that tests say they prove, each with its tests (`file::name`)."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, row in _marks_of(ast.parse(path.read_text())):
            found.setdefault(row, []).append(f"{path.relative_to(ROOT).as_posix()}::{name}")
    return found


def table() -> str:
    """docs/contract-tests.md as it should be."""
    proved = marks()
    lines = [
        "# Which test proves what", "",
        "Each row of [the contract](contract.md) with the tests that prove it. Made from that page and the marks of the tests by",
        "`python -m tests.support.contract_table`; a test holds it to both.",
    ]  # fmt: skip
    for heading, names in rows().items():
        lines += ["", f"## {heading}", "", "| row | tests |", "|---|---|"]
        lines += [f"| {_shown(name)} | {'<br>'.join(map(_linked, proved.get(name, [])))} |" for name in names]
    return "\n".join([*lines, ""])


def _sections() -> Iterator[tuple[str, str]]:
    parts = re.split(r"^#{2,3} (.+)$", DOCUMENT.read_text(), flags=re.MULTILINE)
    return zip(parts[1::2], parts[2::2], strict=True)


def _short(heading: str, name: str) -> str:
    """A command without its options, an address without its parameters."""
    if heading == "Commands":
        return name.split(" ")[0]
    return name.partition("?")[0] if name.startswith("GET /jobs") else name


def _cells(heading: str, text: str) -> Iterator[str]:
    for line in text.splitlines():
        cells = line.split(" | ")
        if line.startswith("|") and not line.startswith("|-") and "*not yet*" not in line:
            name = _plain(cells[0].strip("| "))
            if name not in _HEADS:
                yield _short(heading, name)


def _paragraphs(text: str) -> Iterator[str]:
    for name in re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE):
        yield _plain(name).rstrip(".")


def _plain(text: str) -> str:
    return text.replace("`", "")


def _marks_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.contract":
                    yield from ((node.name, ast.literal_eval(row)) for row in mark.args)


def _shown(name: str) -> str:
    return name.replace("|", "\\|")


def _linked(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[{path.removeprefix('tests/')}](../{path}): `{name}`"


if __name__ == "__main__":
    TABLE.write_text(table())
