"""Who may follow, asked at every connect and until the token's end."""

import re
import time
from collections.abc import Callable

import httpx
import pytest

from progress_stream.auth.verify import sign
from tests.support.server import SECRET, Site
from tests.support.streams import Stream, data_of, follow, follow_to_end

Serve = Callable[..., Site]

#: An answer to a browser with a token that ran out, and no other byte.
EXPIRED = re.compile(rb'retry: (\d+)\nevent: expired\ndata: (\{"reason":"token_expired"\})\n\n')


def ask_with_ticket(site: Site, ticket: str, accept: str = "text/event-stream") -> Stream:
    return Stream(site.url, f"/jobs/job-1/events?token={ticket}", {"Accept": accept})


def ticket_of(site: Site) -> str:
    with site.client() as client:
        return str(client.post("/tickets", json={"jobs": ["job-1"]}).json()["token"])


@pytest.mark.contract("Who may: a stream whose token runs out while it is open")
def test_a_stream_ends_with_expired_at_its_token_s_end(each_site: Site) -> None:
    """Whoever asked for it, browser or curl; without an `id:`, so that the place is kept for a new token."""
    each_site.job().start()
    ends_at = int(time.time()) + 3
    token = sign(SECRET, "alice", "jobs:read", 3, now=ends_at - 3)
    with (
        follow(each_site, token=token) as browser,
        follow(each_site, token=token, accept=None) as curl,
        follow(each_site) as other,
    ):
        for stream in (browser, curl):
            stream.to_end()

            assert stream.ended
            assert ["position", "queued", "started", "expired"] == stream.types
            assert stream.ids[-1] == stream.frames[-1].id, "no id of its own"
            assert b"id:" not in stream.body.rpartition(b"\nretry:")[2]
            assert (stream.frames[-1].retry or 0) >= 30_000
        assert -1.5 < time.time() - ends_at < 2.5
        # Nobody else's end.
        other.until_number(2)
        assert not other.ended


@pytest.mark.contract("TICKET_SECONDS")
def test_a_stream_ends_with_expired_at_its_ticket_s_end(serve: Serve) -> None:
    """A ticket is a token too."""
    site = serve(ticket_seconds=2)
    site.job().start()
    with ask_with_ticket(site, ticket_of(site)) as stream:
        stream.to_end()

    assert ["position", "queued", "started", "expired"] == stream.types
    assert stream.ended


@pytest.mark.contract(
    "Who may: a stream asked for (Accept: text/event-stream) with a genuine token or ticket that has run out"
)
def test_a_browser_with_a_token_that_has_run_out_is_told_so_and_nothing_else(serve: Serve) -> None:
    """With 200, for at an error it would be silent for good. Any other client gets the 401 that it can see."""
    site = serve(ticket_seconds=1)
    site.job().start()
    ticket = ticket_of(site)
    time.sleep(1.2)
    asked = {
        "token": (follow(site, token=site.expired_token()), follow(site, token=site.expired_token(), accept=None)),
        "foreign": (follow(site, token=site.expired_token("bob")), follow(site, token=site.expired_token("bob"), accept=None)),
        "ticket": (ask_with_ticket(site, ticket), ask_with_ticket(site, ticket, "*/*")),
    }  # fmt: skip
    for name, (browser, other) in asked.items():
        with browser, other:
            browser.to_end()
            other.to_end()
            told = EXPIRED.fullmatch(browser.body)

            assert (200, "text/event-stream") == (browser.status, browser.headers["content-type"]), name
            assert told is not None and int(told[1]) >= 30_000
            assert "no-store, no-transform" == browser.headers["cache-control"]
            assert browser.ended
            assert (401, "application/problem+json") == (other.status, other.headers["content-type"])
            assert "www-authenticate" in other.headers


@pytest.mark.contract(
    "Who may: a stream asked for (Accept: text/event-stream) with a genuine token or ticket that has run out"
)
def test_a_forged_token_is_401_for_browsers_too(each_site: Site) -> None:
    """Also one that claims to have run out: only what is genuine is told so."""
    each_site.job().start()
    forged = sign("another secret, which is long enough as well", "alice", "jobs:read", 600)
    stale = sign(
        "another secret, which is long enough as well", "alice", "jobs:read", 60, now=time.time() - 9_999
    )
    for token in (forged, stale, each_site.expired_token()[:-4] + "AAAA", "pst_" + "a" * 43):
        stream = follow_to_end(each_site, token=token)

        assert (401, "application/problem+json") == (stream.status, stream.headers["content-type"])
        assert "www-authenticate" in stream.headers


@pytest.mark.contract("Who may: another owner's job, on any route and at every reconnect")
def test_a_foreign_owner_gets_404_at_every_reconnect(each_site: Site) -> None:
    """Exactly as for a job that never was, with whatever position: one is no permission."""
    job = each_site.job()
    job.start()
    job.succeed()
    ids = follow_to_end(each_site).ids
    for position in (None, "0-0", "$", "x", *ids, "1-1"):
        for query in ("", "replay=snapshot", "last_event_id=0-0"):
            theirs, nobodys = (
                follow_to_end(each_site, name, query, position=position, subject="bob")
                for name in ("job-1", "job-9")
            )

            assert (404, "application/problem+json") == (theirs.status, theirs.headers["content-type"])
            assert nobodys.body == theirs.body


def test_a_browser_may_carry_a_ticket_in_the_url_and_a_cookie(each_site: Site) -> None:
    """For it can set no header; a whole token in the URL is refused."""
    job = each_site.job()
    job.start()
    job.succeed()
    cookie = {"Accept": "text/event-stream", "Cookie": f"progress_stream={each_site.token()}"}
    with ask_with_ticket(each_site, ticket_of(each_site)) as by_ticket:
        assert [1, 2, 3] == by_ticket.to_end().numbers
    with Stream(each_site.url, "/jobs/job-1/events", cookie) as by_cookie:
        assert [1, 2, 3] == by_cookie.to_end().numbers
    with ask_with_ticket(each_site, each_site.token()) as by_token:
        assert 401 == by_token.to_end().status


def test_a_missing_scope_is_403(each_site: Site) -> None:
    """Before anything is said of the job."""
    each_site.job().start()
    stream = follow_to_end(each_site, token=each_site.token(scopes="jobs:write"))

    assert (403, "application/problem+json") == (stream.status, stream.headers["content-type"])


def test_an_id_that_no_job_can_have_is_404(each_site: Site) -> None:
    """As one that never was."""
    for name in ("%2E", "events", "a%2Fb", "a b".replace(" ", "%20"), "x" * 129, "~1", "a~01", "%C3%A9"):
        assert (
            404 == httpx.get(f"{each_site.url}/jobs/{name}/events", headers=each_site.headers()).status_code
        )


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
def test_a_watcher_of_everything_may_follow_what_is_not_hers(each_site: Site, accept: str) -> None:
    """`jobs:admin` sees every owner's, and what nobody owns."""
    each_site.job("orphan", owner=None).start()
    each_site.job("hers", owner="carol").start()
    admin = each_site.token("root", "jobs:read jobs:admin")
    for name in ("orphan", "hers"):
        with follow(each_site, name, token=admin, accept=accept) as stream:
            assert [1, 2] == stream.until_number(2).numbers
        assert 404 == follow_to_end(each_site, name, accept=accept).status


def test_what_expired_says_is_json(each_site: Site) -> None:
    """As the data of everything that the server adds."""
    each_site.job().start()
    stream = follow_to_end(each_site, token=each_site.expired_token())

    assert {"reason": "token_expired"} == data_of(stream.frames[0])
