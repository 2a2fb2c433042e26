"""`?ping=event`: a heartbeat that JavaScript can see."""

from collections.abc import Callable

import pytest

from progress_stream import events
from tests.support.server import Site
from tests.support.streams import data_of, follow, only

Serve = Callable[..., Site]


@pytest.mark.contract("Idle")
def test_the_heartbeat_is_an_event_where_it_is_asked_for(serve: Serve) -> None:
    """With the server's time and no `id:`, so that it does not move the client's place; and nobody else gets one."""
    site = serve(heartbeat_seconds=1)
    job = site.job()
    job.start()
    with follow(site, query="ping=event") as asked, follow(site) as other:
        asked.until(lambda stream: stream.types.count("ping") >= 2)
        other.until(lambda stream: b"\n:\n" in stream.body)
        job.succeed()
        asked.to_end()
        other.to_end()

    ping = only(asked.frames, "ping")[0]
    assert b"\n:\n" not in asked.body
    assert {"at"} == set(data_of(ping))
    assert events.ms_of(data_of(ping)["at"]) > 0
    assert all(b"id:" not in frame for frame in asked.body.split(b"\n\n") if b"event: ping" in frame)
    assert ["queued", "started", "succeeded"] == [frame.event for frame in asked.events]
    assert "ping" not in other.types


def test_any_other_word_is_a_comment(serve: Serve) -> None:
    """Never an error: EventSource gives up for good at one."""
    site = serve(heartbeat_seconds=1)
    site.job().start()
    with follow(site, query="ping=comment") as stream:
        stream.until(lambda stream: stream.body.endswith(b"\n:\n"))

    assert 200 == stream.status
