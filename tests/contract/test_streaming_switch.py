"""Streaming switched off, by the setting or at run time: who asks is sent to poll, and comes back when it is on again."""

import time
from collections.abc import Callable

import pytest

from tests.cli.processes import run
from tests.support.server import PATIENCE_SECONDS, Site
from tests.support.streams import data_of, follow, follow_to_end

Serve = Callable[..., Site]
NOTICED_SECONDS = 3.0


def switch(site: Site, on: bool) -> None:
    site.store.send(site.store.commands.switch_streaming(on))


def is_on(site: Site) -> bool:
    with site.client(None) as client:
        return bool(client.get("/config.json").json()["streaming"])


def wait_for(site: Site, on: bool) -> float:
    """How long it took the server to notice."""
    began = time.monotonic()
    while is_on(site) is not on:
        assert time.monotonic() - began < PATIENCE_SECONDS
        time.sleep(0.02)
    return time.monotonic() - began


def check_off(site: Site) -> None:
    """What each kind of client is told."""
    stream = follow_to_end(site)
    assert (200, ["busy"], True) == (stream.status, stream.types, stream.ended)
    assert "streaming_off" == data_of(stream.frames[0])["reason"]
    assert 5_000 <= (stream.frames[0].retry or 0) <= 30_000
    assert b"id:" not in stream.body

    plain = follow_to_end(site, accept="*/*")
    assert (503, "application/problem+json") == (plain.status, plain.headers["content-type"])
    assert int(plain.headers["retry-after"]) >= 1
    assert '</jobs/job-1>; rel="alternate"' == plain.headers["link"]

    with site.client() as client:
        assert 200 == client.get("/jobs/job-1").status_code


@pytest.mark.contract("Streaming switched off", "STREAMING")
def test_the_setting_switches_it_off(serve: Serve) -> None:
    """Whatever the switch in Redis says."""
    site = serve(streaming=False)
    site.job().start()
    switch(site, True)

    assert not is_on(site)
    check_off(site)


@pytest.mark.contract("GET /config.json", "Streaming switched off")
def test_the_switch_is_noticed_in_time_and_both_ways(each_site: Site) -> None:
    """Off: open streams end with `busy`, new ones are refused. On: streams again, and nothing was lost between."""
    job = each_site.job()
    job.start()
    job.append(count=2)
    with follow(each_site) as stream, follow(each_site, accept="*/*") as curl:
        stream.until_number(4)
        curl.until_number(4)
        began = time.monotonic()
        switch(each_site, False)
        stream.to_end()
        curl.to_end()
        took = time.monotonic() - began

        assert took < NOTICED_SECONDS
        for ended in (stream, curl):
            assert ended.ended
            assert "busy" == ended.types[-1]
            assert "streaming_off" == data_of(ended.frames[-1])["reason"]
            assert ended.frames[-1].id == ended.frames[-2].id
    assert not is_on(each_site)
    check_off(each_site)

    job.append()
    switch(each_site, True)
    assert wait_for(each_site, True) < NOTICED_SECONDS
    with follow(each_site, position=stream.ids[-1]) as again:
        assert [5] == again.until_number(5).numbers


def test_an_ended_job_s_client_is_still_told_to_stop(site: Site) -> None:
    """204 for who has seen the end: it would else ask for as long as streaming is off."""
    job = site.job()
    job.start()
    job.succeed()
    last = follow_to_end(site).ids[-1]
    switch(site, False)
    wait_for(site, False)

    assert 204 == follow_to_end(site, position=last).status
    assert 404 == follow_to_end(site, "job-2").status


def test_a_poll_is_answered_and_a_wait_refused(site: Site) -> None:
    """Asking for what there is holds no connection open; waiting for more does."""
    site.job().start()
    switch(site, False)
    wait_for(site, False)
    with site.client() as client:
        json = {"Accept": "application/json"}
        there = client.get("/jobs/job-1/events", headers=json)
        last = there.json()["last_event_id"]
        waiting = client.get(f"/jobs/job-1/events?wait=5&last_event_id={last}", headers=json)

    assert (200, 2) == (there.status_code, len(there.json()["events"]))
    assert (503, '</jobs/job-1>; rel="alternate"') == (waiting.status_code, waiting.headers["Link"])


@pytest.mark.contract("Streaming switched off", "streaming")
def test_the_command_switches(site: Site) -> None:
    """`progress-stream streaming off`, then `on`."""
    env = {
        "PROGRESS_STREAM_REDIS_URL": site.settings.redis_url or "",
        "PROGRESS_STREAM_NAMESPACE": site.settings.namespace,
    }
    for word, on in (("off", False), ("on", True)):
        done = run("streaming", word, env=env)
        wait_for(site, on)

        assert (0, f"streaming: {word}\n") == (done.returncode, done.stdout)
    assert 2 == run("streaming", "maybe", env=env).returncode
    assert 2 == run("streaming", "off", env={}).returncode
