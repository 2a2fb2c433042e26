"""Sessions without a server: who they speak for, until when, and under which name their cookie travels."""

import pytest

from progress_stream.auth import sessions
from progress_stream.auth.bearer import bearer_of
from progress_stream.errors import NotAuthenticated, TokenExpired

NOW = 1_800_000_000.0
SCOPES = frozenset({"jobs:read", "jobs:write"})


def test_a_session_speaks_for_whoever_signed_in_until_it_is_over() -> None:
    """Then it is told from one that never was."""
    session = sessions.begin("alice", SCOPES, 60, NOW, "an id token")
    who = sessions.open_record(session.record, session.key, NOW + 59)

    assert ("alice", SCOPES, NOW + 60) == (who.subject, who.scopes, who.expires_at)
    with pytest.raises(TokenExpired):
        sessions.open_record(session.record, session.key, NOW + 60)
    with pytest.raises(NotAuthenticated):
        sessions.open_record(None, "", NOW)


def test_the_session_itself_is_in_no_record_and_in_no_text() -> None:
    """Redis and a log hold nothing that signs anybody in."""
    session = sessions.begin("alice", SCOPES, 60, NOW)

    assert sessions.is_session(session.token)
    assert session.token not in session.record.decode() + session.key + repr(session)
    assert session.key == sessions.key_of(session.token)


def test_an_ended_session_is_over_and_gives_its_id_token_once() -> None:
    """It is not forgotten: a stream must be told `expired`."""
    session = sessions.begin("alice", SCOPES, 60, NOW, "an id token")
    closed, id_token = sessions.ended(session.record, NOW + 1)

    assert "an id token" == id_token
    assert b"an id token" not in closed
    with pytest.raises(TokenExpired):
        sessions.open_record(closed, "", NOW + 1)


@pytest.mark.parametrize(
    "record", [b"", b"[]", b"{}", b'{"subject":1,"scopes":[],"expires_at":1,"id_token":""}', b"\xff"]
)
def test_a_record_that_is_none_opens_nothing(record: bytes) -> None:
    """And raises nothing else."""
    with pytest.raises(NotAuthenticated):
        sessions.open_record(record, "", NOW)


@pytest.mark.parametrize(
    ("scheme", "host", "name"),
    [
        ("https", "progress.example", sessions.HOST_COOKIE), ("https", "127.0.0.1:8443", sessions.HOST_COOKIE),
        ("http", "127.0.0.1:8000", sessions.PLAIN_COOKIE), ("http", "localhost", sessions.PLAIN_COOKIE),
        ("http", "[::1]:8000", sessions.PLAIN_COOKIE), ("http", "progress.example", None), ("http", "127.0.0.1.evil.example", None),
        ("http", "", None),
    ],
)  # fmt: skip
def test_no_session_travels_in_the_clear(scheme: str, host: str, name: str | None) -> None:
    """But on this machine itself."""
    assert name == sessions.cookie_for(scheme, host)


@pytest.mark.parametrize(
    ("claims", "rule", "expected"),
    [
        ({"groups": ["a", "ops"]}, "groups=ops", True), ({"groups": "ops"}, "groups=ops", True),
        ({"groups": ["dev"]}, "groups=ops", False),
        ({"admin": True}, "admin=true", True), ({"admin": "no"}, "admin=true", False), ({}, "groups=ops", False),
        ({"groups": ["operators"]}, "groups=ops", False), ({"groups": ["ops"]}, None, False), ({"level": 3}, "level=3", True),
    ],
)  # fmt: skip
def test_an_administrator_has_the_claim_that_was_configured(
    claims: dict[str, object], rule: str | None, expected: bool
) -> None:
    """Whole values, in a list or alone, as JSON writes them."""
    assert expected == sessions.is_admin(claims, rule)
    assert expected == ("jobs:admin" in sessions.granted(claims, SCOPES, rule))


@pytest.mark.parametrize(
    ("cookies", "name", "expected"),
    [
        ("progress_stream=t; __Host-progress_stream_session=s", sessions.HOST_COOKIE, "s"),
        ("progress_stream_session=planted; progress_stream=t", sessions.HOST_COOKIE, "t"),
        ("progress_stream_session=s; progress_stream=t", sessions.PLAIN_COOKIE, "s"),
        ("progress_stream_session=s; progress_stream=t", None, "t"),
    ],
)
def test_over_https_only_the_cookie_that_nobody_else_can_set_counts(
    cookies: str, name: str | None, expected: str
) -> None:
    """A sibling host may plant one of the plain name; where nobody signs in, none counts."""
    found = bearer_of({"cookie": cookies}, {}, method="GET", path="/jobs", session_cookie=name)

    assert found is not None and (expected, "cookie") == (found.token, found.source)
