"""Tickets read what they were made for, for a while, and do nothing else."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progress_stream.auth.tickets import (
    MAX_JOBS,
    REMEMBERED_SECONDS,
    is_ticket,
    issue,
    keep_seconds,
    key_of,
    open_record,
)
from progress_stream.auth.who import ADMIN, READ, WRITE, Who
from progress_stream.errors import InvalidInput, MissingScope, NotAuthenticated, TokenExpired

NOW = 1_800_000_000.0
ALICE = Who("alice", frozenset({READ, WRITE}), NOW + 600)
ROOT = Who("root", frozenset({READ, WRITE, ADMIN}), NOW + 600)


def test_a_ticket_reads_its_jobs_and_nothing_else() -> None:
    """It has its maker's name, and of its maker's scopes only reading."""
    ticket = issue(ALICE, ["j1", "j2"], 60, NOW)
    who = open_record(ticket.record, NOW)

    expected = Who("alice", frozenset({READ}), NOW + 60, frozenset({"j1", "j2"}), "ticket")
    assert expected == who
    assert (True, False, False) == tuple(
        who.may_see(owner, job) for owner, job in (("alice", "j1"), ("bob", "j1"), ("alice", "j3"))
    )


def test_a_ticket_for_all_reads_all_of_the_callers_jobs() -> None:
    """Those made later too."""
    who = open_record(issue(ALICE, None, 60, NOW).record, NOW)

    assert (True, False, False) == (
        who.may_see("alice", "j9"),
        who.may_see("bob", "j9"),
        who.may_see(None, "j9"),
    )


def test_an_administrators_ticket_reads_the_jobs_it_names_whoever_owns_them() -> None:
    """But no others, and it administers nothing."""
    who = open_record(issue(ROOT, ["j1"], 60, NOW).record, NOW)

    assert (True, True, False) == (
        who.may_see("bob", "j1"),
        who.may_see(None, "j1"),
        who.may_see("bob", "j2"),
    )
    assert frozenset({READ}) == who.scopes


def test_an_administrators_ticket_for_all_is_for_the_administrators_own() -> None:
    """A URL that leaks does not open every owner's jobs."""
    who = open_record(issue(ROOT, None, 60, NOW).record, NOW)

    assert (True, False) == (who.may_see("root", "j1"), who.may_see("bob", "j1"))


@pytest.mark.parametrize(
    ("own", "expected"), [(NOW + 600, NOW + 60), (NOW + 10.5, NOW + 10.5), (None, NOW + 60)]
)
def test_a_ticket_never_lives_longer_than_its_makers_token(own: float | None, expected: float) -> None:
    """A caller whom the host application knows has no such end."""
    ticket = issue(Who("alice", frozenset({READ}), own), None, 60, NOW)

    assert expected == ticket.expires_at == open_record(ticket.record, NOW).expires_at


def test_a_ticket_that_has_run_out_is_told_from_a_forged_one() -> None:
    """For a day, so that a page that was left open is told to sign in again instead of being refused."""
    ticket = issue(ALICE, ["j1"], 60, NOW)

    with pytest.raises(TokenExpired) as refused:
        open_record(ticket.record, NOW + 60)
    assert "alice" == refused.value.who.subject
    with pytest.raises(NotAuthenticated) as forged:
        open_record(None, NOW)
    assert not isinstance(forged.value, TokenExpired)
    assert (60 + REMEMBERED_SECONDS, 1 + REMEMBERED_SECONDS, REMEMBERED_SECONDS) == (
        keep_seconds(ticket.expires_at, NOW),
        keep_seconds(NOW + 0.2, NOW),
        keep_seconds(NOW - 5, NOW),
    )


def test_who_may_not_read_gets_no_ticket() -> None:
    """Nor does a token that has run out, though a request may still pass by the leeway."""
    with pytest.raises(MissingScope):
        issue(Who("alice", frozenset({WRITE, ADMIN}), NOW + 600), None, 60, NOW)
    with pytest.raises(TokenExpired):
        issue(Who("alice", frozenset({READ}), NOW - 10), None, 60, NOW)


def test_a_ticket_makes_no_tickets() -> None:
    """Else it could be renewed for ever, or widened."""
    with pytest.raises(NotAuthenticated):
        issue(open_record(issue(ALICE, ["j1"], 60, NOW).record, NOW), ["j1"], 60, NOW)


@pytest.mark.parametrize(
    "jobs",
    [
        [],
        "j1",
        {"j1": 1},
        7,
        [7],
        ["../x"],
        ["a b"],
        [""],
        ["events"],
        ["j"] * (MAX_JOBS + 1),
        [["j1"]],
        [None],
    ],
)
def test_what_is_no_list_of_jobs_is_refused(jobs: object) -> None:
    """The field is named; an empty list is not taken for all."""
    with pytest.raises(InvalidInput) as refused:
        issue(ALICE, jobs, 60, NOW)  # type: ignore[arg-type]

    assert "jobs" == refused.value.field


def test_parts_of_a_job_can_be_named() -> None:
    """Ids come as the server gave them; one given twice counts once."""
    who = open_record(issue(ALICE, ["j1~3", "j1~3"], 60, NOW).record, NOW)

    assert frozenset({"j1~3"}) == who.jobs


def test_the_token_is_opaque_and_the_record_does_not_hold_it() -> None:
    """A copy of Redis gives no ticket away, a log of the value gives none either, and no two are the same."""
    tickets = [issue(ALICE, ["j1"], 60, NOW) for _ in range(50)]

    assert 50 == len({ticket.token for ticket in tickets})
    for ticket in tickets:
        assert re.fullmatch(r"pst_[A-Za-z0-9_-]{43}", ticket.token) and is_ticket(ticket.token)
        assert re.fullmatch("[0-9a-f]{64}", ticket.key) and ticket.key == key_of(ticket.token)
        assert ticket.token not in f"{ticket.key} {ticket.record!r} {ticket!r}"
        assert ticket.token[4:] not in f"{ticket.key} {ticket.record!r} {ticket!r}"


@pytest.mark.parametrize(
    "text", ["", "pst_", "pst_" + "a" * 42, "pst_" + "a" * 44, "PST_" + "a" * 43, "pst_" + "ä" * 43]
)
def test_only_what_has_the_form_is_a_ticket(text: str) -> None:
    """No other text costs a look into Redis."""
    assert not is_ticket(text)
    assert not is_ticket("pst_" + "a" * 43 + "\n")


GOOD = {"subject": "alice", "jobs": None, "any_owner": False, "expires_at": NOW + 60, "session": None}


@pytest.mark.parametrize(
    "change",
    [
        {"subject": 1},
        {"session": 1},
        {"jobs": "j1"},
        {"jobs": [[1]]},
        {"any_owner": 1},
        {"expires_at": "x"},
        {"expires_at": None},
    ],
)
def test_a_record_that_is_not_ours_opens_nothing(change: dict[str, object]) -> None:
    """Whatever was written there."""
    with pytest.raises(NotAuthenticated):
        open_record(json.dumps({**GOOD, **change}).encode(), NOW)
    for name in GOOD:
        with pytest.raises(NotAuthenticated):
            open_record(json.dumps({key: GOOD[key] for key in GOOD if key != name}).encode(), NOW)


def test_a_record_cannot_widen_a_ticket_for_all() -> None:
    """Though it says so."""
    who = open_record(json.dumps({**GOOD, "any_owner": True}).encode(), NOW)

    assert not who.may_see("bob", "j1")


@given(st.binary(max_size=100))
def test_garbage_opens_nothing(record: bytes) -> None:
    """And raises nothing else."""
    with pytest.raises(NotAuthenticated):
        open_record(record, NOW)
