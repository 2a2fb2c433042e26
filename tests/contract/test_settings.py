"""Settings whose effect is seen from outside, and nowhere else tried."""

import pytest
import redis

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.contract.test_list_stream import look, shown
from tests.support.server import Site, serving
from tests.support.streams import follow


@pytest.mark.contract("NAMESPACE")
def test_two_installations_share_a_server_and_nothing_else(
    settings: Settings, redis_client: redis.Redis
) -> None:
    """The same id in both is two jobs: neither a state, nor a list, nor a live event passes from one to the other."""
    other = settings.model_copy(update={"namespace": settings.namespace + "-2"})
    with serving(create_app(settings), settings) as url, serving(create_app(other), other) as other_url:
        here, there = Site(url, settings, redis_client), Site(other_url, other, redis_client)
        ours, theirs = here.job("job-1"), there.job("job-1")
        here.job("only-here")
        ours.start()
        with follow(here) as stream, follow(there) as their_stream, look(there) as page:
            stream.until_number(2)
            their_stream.until_number(1)
            ours.append(count=3)
            stream.until_number(5)
            theirs.start()
            their_stream.until_number(2)
            page.for_seconds(0.5)
        with there.client() as client:
            assert 404 == client.get("/jobs/only-here").status_code
            assert "running" == client.get("/jobs/job-1").json()["state"]

    assert ["queued", "started"] == [frame.event for frame in their_stream.events]
    assert "only-here" not in shown(page)


@pytest.mark.contract("POLL_SECONDS")
def test_pages_are_told_how_often_to_poll(settings: Settings, redis_client: redis.Redis) -> None:
    """By /config.json, which they read before anything else."""
    changed = settings.model_copy(update={"poll_seconds": 7.5})
    with (
        serving(create_app(changed), changed) as url,
        Site(url, changed, redis_client).client(None) as client,
    ):
        assert 7.5 == client.get("/config.json").json()["poll_seconds"]
