"""docs/contract.md names what there is: nobody can build on what is not written down."""

import re
from pathlib import Path

from progress_stream import errors, events, jobs
from progress_stream.api import app, problems
from progress_stream.settings import Settings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()


def test_every_setting_and_no_other_is_in_the_table() -> None:
    """With its default and its reason."""
    table = DOCUMENT.partition("## Settings")[2]

    assert [name.upper() for name in Settings.model_fields] == re.findall(r"^\| `([A-Z_]+)` \|", table, re.M)


def test_every_route_is_named() -> None:
    """Under the method that it takes."""
    for route in app.routes():
        methods = set(route.methods or ()) - {"HEAD"}
        path = route.path.replace("{path:path}", "…")

        assert any(f"{method} {path}" in DOCUMENT for method in methods), route.path


def test_every_problem_type_is_named() -> None:
    """A program may tell them apart by it."""
    raised = [
        errors.NotAuthenticated("x"), errors.TokenExpired("x"), errors.MissingScope("x"), errors.AccessError("x"),
        errors.NoSuchJob("x"), errors.Tombstoned("x"), errors.IdempotencyConflict("x"), errors.AlreadyEnded("x", "y"),
        errors.TooLarge("X", 1), errors.InvalidInput("x", "y"), errors.UnknownActor("x", ()), errors.BrokerRefused("x"),
        errors.StoreUnavailable("x"),
    ]  # fmt: skip
    for error in raised:
        problem = problems.of(error)

        assert f"`{problem.kind}`" in DOCUMENT, error
        assert 500 > problem.status or problem.headers["Retry-After"]


def test_every_field_of_the_state_and_every_event_type_is_named() -> None:
    """The words that a client reads."""
    state = DOCUMENT.partition("### The state object")[2].partition("`waiting_for` says")[0]

    assert list(jobs.FIELDS) == re.findall(r"\w+", state.split("`")[1])
    for name in events.RESERVED:
        assert f"`{name}`" in DOCUMENT, name
