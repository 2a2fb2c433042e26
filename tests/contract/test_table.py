"""Every row of the contract has a test that says it proves it, and no test says so of a row that is not there."""

from progress_stream.cli.main import app
from tests.support import contract_table


def test_every_row_has_its_test_and_every_mark_its_row() -> None:
    """A row without a test is a promise that nobody keeps."""
    rows = {name for names in contract_table.rows().values() for name in names}
    marks = contract_table.marks()

    assert len(rows) > 90
    assert set() == rows - marks.keys()
    assert set() == marks.keys() - rows


def test_the_table_is_the_one_that_the_marks_give() -> None:
    """python -m tests.support.contract_table writes it."""
    assert contract_table.table() == contract_table.TABLE.read_text()


def test_every_command_is_a_row() -> None:
    """As every route and every setting is."""
    commands = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    groups = {group.name for group in app.registered_groups}

    assert commands | groups == set(contract_table.rows()["Commands"])


def test_what_is_not_built_yet_is_said() -> None:
    """So that it is not forgotten."""
    assert [] == contract_table.not_yet()
