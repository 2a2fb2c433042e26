"""The actor, called plainly: no Redis, no broker, but the real store of files."""

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import workers
from progress_stream import Upload
from progress_stream.store.files import Files
from workers import personalize as the_actor
from workers.personalize import personal_name, personalize_header, personalize_rows
from workers.tables import Record, Table, UnreadableTable
from workers.template import InvalidTemplate, parse

SAMPLES = Path(__file__).parents[2] / "data" / "csv"
TEMPLATE = "Hi {{first_name}}, I saw that {{company|your firm}} grows."


class Watched:
    """A job's handle that keeps what it is told, with the real one's signatures."""

    #: As outside a worker: the actor does all of it by itself.
    can_spread = False

    def __init__(self) -> None:
        self.logs: list[str] = []
        self.steps: list[str] = []
        self.saved = b""
        self.saved_as = ("", "")

    @contextmanager
    def step(self, name: str):
        self.steps.append(name)
        yield

    def log(self, text: str, level: str = "info") -> None:
        assert "warning" == level
        self.logs.append(text)

    @contextmanager
    def save(self, name: str, media_type: str = ""):
        target = io.BytesIO()
        yield target
        self.saved, self.saved_as = target.getvalue(), (name, media_type)


Run = Callable[..., tuple[dict[str, Any], Watched]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the actor on a sample, or on bytes."""
    files = Files(str(tmp_path))

    def call(content: str | bytes, template: str = TEMPLATE, name: str = "leads.csv"):
        data = (SAMPLES / content).read_bytes() if isinstance(content, str) else content
        job = Watched()
        monkeypatch.setattr(sys.modules["workers.personalize"], "current_job", lambda: job)
        upload = Upload(files.save("j", name, "text/csv", [data]), files)
        return the_actor.fn(upload, template), job

    return call


def test_every_row_gets_its_line(run: Run):
    """A value, or the fallback; the file is otherwise the same."""
    result, job = run("utf8.csv")

    assert {"rows": 3, "warnings": 0, "file": "leads-personal.csv"} == result
    assert (
        "first_name,company,email,personal_line\n"
        'José,Café Ñandú,jose@example.com,"Hi José, I saw that Café Ñandú grows."\n'
        'Zoë,"Müller & Söhne, GmbH",zoe@example.com,"Hi Zoë, I saw that Müller & Söhne, GmbH grows."\n'
        'François,,francois@example.com,"Hi François, I saw that your firm grows."\n'
    ) == job.saved.decode()
    assert ["read", "write"] == job.steps


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("utf8-bom-crlf.csv", "text/csv; charset=utf-8"),
        ("utf16-le-tabs.txt", "text/csv; charset=utf-16"),
        ("utf16-be.csv", "text/csv; charset=utf-16"),
        ("windows-1252-semicolons.csv", "text/csv; charset=windows-1252"),
        ("pipes.csv", "text/csv; charset=utf-8"),
        ("all-quoted.csv", "text/csv; charset=utf-8"),
        ("excel-sep-line.csv", "text/csv; charset=windows-1252"),
    ],
)
def test_the_output_is_in_the_form_that_the_input_came_in(run: Run, name: str, media_type: str):
    """Charset, mark, delimiter, line ends and quotes; and but for the new column the cells are the same."""
    _, job = run(name)
    before, after = (Table(io.BytesIO(data)) for data in ((SAMPLES / name).read_bytes(), job.saved))

    assert before.form == after.form
    assert before.header == after.header[:-1]
    assert [row.cells for row in before.rows()] == [row.cells[:-1] for row in after.rows()]
    assert next(after.rows()).cells[-1] in {
        "Hi José, I saw that Café Ñandú grows.",
        "Hi Ann, I saw that ACME grows.",
    }
    assert ("leads-personal.csv", media_type) == job.saved_as


def test_a_missing_value_without_a_fallback_leaves_the_line_empty(run: Run):
    """And the log says which row, as a spreadsheet counts."""
    result, job = run("utf8.csv", "Hi {{company}}")

    assert ["row 4: no value for company and no fallback, so the line is left empty"] == job.logs
    assert 1 == result["warnings"]
    assert b"francois@example.com,\n" in job.saved


def test_ragged_rows_keep_all_cells_and_are_logged(run: Run):
    """The line stands under its name; what is beyond the header comes after it."""
    result, job = run("ragged.csv", "Hi {{first_name}} in {{city|town}}")

    assert [
        "first_name,company,city,personal_line",
        "Ann,,,Hi Ann in town",
        "Bob,ACME,Rome,Hi Bob in Rome,extra,more",
        "Cy,Widgets,Oslo,Hi Cy in Oslo",
    ] == job.saved.decode().splitlines()
    assert ["row 2: 1 cells, where the header has 3", "row 3: 5 cells, where the header has 3"] == job.logs
    assert {"rows": 3, "warnings": 2} == {key: result[key] for key in ("rows", "warnings")}


def test_an_empty_row_stays_and_is_no_problem(run: Run):
    """Spreadsheets leave rows of mere delimiters at the end."""
    result, job = run("blank-lines.csv", "Hi {{first_name}}")

    assert b"first_name;company;personal_line\r\nAnn;ACME;Hi Ann\r\n;;\r\nBob;;Hi Bob\r\n" == job.saved
    assert (3, []) == (result["rows"], job.logs)


def test_a_file_of_a_header_alone_gets_the_column(run: Run):
    """Nobody on the list is no error."""
    result, job = run("header-only.csv")

    assert b"first_name,company,personal_line\r\n" == job.saved
    assert 0 == result["rows"]


def test_formulas_are_made_harmless_in_every_cell(run: Run):
    """Those that came, and those that the template would make."""
    _, job = run("formulas.csv", "={{first_name}}")

    assert [
        "first_name,company,phone,change,personal_line",
        "Ann,'=cmd|'/C calc'!A0,+49 123 4567890,-5,'=Ann",
        "'=1+1,'@SUM(1),'+1+1,\"-1,5\",'==1+1",
    ] == job.saved.decode().splitlines()


def test_a_name_that_is_taken_gets_a_number():
    """The old column stays as it is."""
    assert ["Personal_Line ", "personal_line_2"] == personalize_header(["Personal_Line "])
    assert "personal_line_3" == personalize_header(["personal_line", "personal_line_2"])[-1]


def test_two_columns_of_one_name_are_said_once(run: Run):
    """The first is read."""
    _, job = run("duplicate-headers.csv")

    assert ["the file has more than one column 'company'; the first is used"] == job.logs
    assert b'ACME,Other,"Hi Ann, I saw that ACME grows."\n' in job.saved


def test_what_the_charset_lacks_is_said_once_and_written_without(run: Run):
    """A Windows-1252 file cannot hold every character of a template."""
    result, job = run("windows-1252-semicolons.csv", "Hi {{first_name}} 🎉 – č")

    assert [
        "the file's charset windows-1252 lacks characters of the template, written without: č 🎉"
    ] == job.logs
    assert "José;Café Ñandú;jose@example.com;Hi José ? – c\r\n".encode("cp1252") in job.saved
    assert 1 == result["warnings"]


def test_broken_bytes_pass_through_into_the_line_too(run: Run):
    """They are the person's name, in whatever charset that may be."""
    _, job = run("broken-utf8.csv", "Hi {{company}}")

    assert "Zoë,Mül".encode() + b"\xffler," + "Hi Mül".encode() + b"\xffler\n" in job.saved


def test_zeros_in_cells_stay_and_do_not_get_into_the_line(run: Run):
    """A cell of zeros alone is no value."""
    _, job = run("nuls.csv", "Hi {{first_name}} of {{company|your firm}}")

    assert (
        b"first_name,company,personal_line\nAn\0n,ACME,Hi Ann of ACME\nBob,\0,Hi Bob of your firm\n"
        == job.saved
    )


def test_the_same_input_gives_the_same_output(run: Run):
    """A retry begins again, and ends the same."""
    assert run("ragged.csv", "{{first_name}}")[1].saved == run("ragged.csv", "{{first_name}}")[1].saved


def test_fifty_thousand_rows(run: Run):
    """Each with its own line."""
    content = b"id,first_name\n" + b"".join(b"%d,Ann%d\n" % (n, n) for n in range(50_000))
    result, job = run(content, "Hi {{first_name}}")

    assert 50_000 == result["rows"]
    assert b"49999,Ann49999,Hi Ann49999" == job.saved.splitlines()[-1]


def test_fifty_thousand_problems_do_not_stop_the_job(run: Run):
    """Each is logged; how many a watcher sees is the log's own limit."""
    result, job = run(b"id,first_name\n" + b"1,\n" * 50_000, "Hi {{first_name}}")

    assert (50_000, 50_000) == (result["warnings"], len(job.logs))


@pytest.mark.parametrize(
    "name", ["empty.csv", "bom-only.csv", "unclosed-quote.csv", "workbook.xlsx.csv", "cut-utf16.csv"]
)
def test_what_cannot_be_read_fails_the_job_with_one_sentence(run: Run, name: str):
    """And is not tried again."""
    with pytest.raises(UnreadableTable, match=r"^The CSV cannot be read: [^\n]+\.$"):
        run(name)

    assert UnreadableTable in the_actor.options["throws"]


def test_a_column_that_the_file_lacks_fails_the_job_with_one_sentence(run: Run):
    """And is not tried again."""
    with pytest.raises(
        InvalidTemplate, match=r"character 31 for the column 'company', .* it has: first_name, email\.$"
    ):
        run("missing-column.csv")

    assert InvalidTemplate in the_actor.options["throws"]


def test_a_file_that_is_gone_fails_the_job(tmp_path: Path):
    """With a sentence that names no path."""
    files = Files(str(tmp_path))
    upload = Upload(files.save("j", "a.csv", "text/csv", [b"a\n"]), files)
    files.delete_job("j")

    with pytest.raises(FileNotFoundError, match="the file is no longer there"):
        the_actor.fn(upload, "{{a}}")

    assert FileNotFoundError in the_actor.options["throws"]


def test_rows_are_pure_values():
    """No file, no job: rows and a template in, rows out."""
    warnings: list[str] = []
    rows = [Record(2, ["Ann"], "\n"), Record(3, [], "\n"), Record(4, ["", "x"], "\n")]
    merge = parse("Hi {{name}}").bind(["name"])

    assert [["Ann", "Hi Ann"], ["", ""], ["", "", "x"]] == list(
        personalize_rows(rows, merge, 1, warnings.append)
    )
    assert [
        "row 4: 2 cells, where the header has 1",
        "row 4: no value for name and no fallback, so the line is left empty",
    ] == warnings


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("leads.csv", "leads-personal.csv"),
        ("leads.2026.tsv", "leads.2026-personal.csv"),
        ("C:\\fakepath\\leads.csv", "leads-personal.csv"),
        ("../../etc/leads.csv", "leads-personal.csv"),
        ("leads", "leads-personal.csv"),
        ("/", "table-personal.csv"),
        ("x" * 255, "x" * 200 + "-personal.csv"),
    ],
)
def test_the_result_is_named_after_the_input(name: str, expected: str):
    """Its last part alone."""
    assert expected == personal_name(name)


def test_the_program_declares_both_actors_as_submittable():
    """`dramatiq workers` finds the broker and the actors."""
    assert {"countdown", "personalize"} <= workers.broker.actors.keys()
    assert all(workers.broker.actors[name].options["submit"] for name in ("countdown", "personalize"))


@pytest.mark.parametrize("seconds", [-1, 3_601])
def test_a_countdown_has_bounds(seconds: int):
    """A worker is not for sleeping."""
    with pytest.raises(ValueError, match=r"allowed: 0 to 3600"):
        workers.countdown.fn(seconds)

    assert {"seconds": 0} == workers.countdown.fn(0)


def test_without_a_redis_the_program_says_one_line(tmp_path: Path):
    """And no traceback."""
    done = subprocess.run(
        [sys.executable, "-c", "import workers"],
        env={"PATH": "", "PYTHONPATH": str(Path(workers.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    expected = "workers: PROGRESS_STREAM_REDIS_URL: is not set (allowed: such as redis://localhost:6379/0)\n"
    assert expected == done.stderr
