"""What a proved caller may do."""

import pytest

from progress_stream.auth.who import ADMIN, READ, WRITE, Who
from progress_stream.errors import MissingScope

ALICE = Who("alice", frozenset({READ}))
ROOT = Who("root", frozenset({READ, ADMIN}))


def test_a_scope_that_was_granted_is_enough_and_another_is_named() -> None:
    """The refusal says which scope is missing."""
    ALICE.require(READ)

    with pytest.raises(MissingScope) as refused:
        ALICE.require(WRITE)

    assert WRITE == refused.value.scope


@pytest.mark.contract("Scopes")
def test_administering_alone_grants_neither_reading_nor_writing() -> None:
    """It widens what else was granted, so that an auditor's token can be read-only."""
    for scope in (READ, WRITE):
        with pytest.raises(MissingScope):
            Who("root", frozenset({ADMIN})).require(scope)


@pytest.mark.parametrize(
    ("who", "owner", "expected"),
    [
        (ALICE, "alice", True),
        (ALICE, "bob", False),
        (ALICE, "Alice", False),
        (ALICE, None, False),
        (ROOT, "bob", True),
        (ROOT, None, True),
        (Who("alice", frozenset({READ}), jobs=frozenset({"j1"})), "alice", True),
        (Who("alice", frozenset({READ}), jobs=frozenset({"j1"})), "bob", False),
        (Who("alice", frozenset({READ}), jobs=frozenset({"j2"})), "alice", False),
        (Who("root", frozenset({READ}), jobs=frozenset({"j1"}), any_owner=True), "bob", True),
        (Who("root", frozenset({READ}), jobs=frozenset({"j2"}), any_owner=True), "bob", False),
    ],
)
def test_a_job_is_there_for_its_owner_and_for_administrators(
    who: Who, owner: str | None, expected: bool
) -> None:
    """One without an owner is for administrators alone, and a ticket never reaches beyond its jobs."""
    assert expected == who.may_see(owner, "j1")


def test_a_time_that_has_come_is_over() -> None:
    """A stream ends in the second of `exp`; a caller of the host application's has no such second."""
    who = Who("alice", expires_at=100.0)

    assert (False, True, False) == (who.has_expired(99.9), who.has_expired(100), ALICE.has_expired(1e12))
