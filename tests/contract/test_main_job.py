"""The main job from outside: a file goes in over HTTP, a real worker works, its events are followed, a file comes out."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from progress_stream.settings import Settings
from tests.support.server import PATIENCE_SECONDS, Site


@pytest.fixture
def worker(settings: Settings) -> Iterator[None]:
    """`dramatiq workers` with the test's own settings, in its own process."""
    env = os.environ | {
        "PROGRESS_STREAM_REDIS_URL": str(settings.redis_url), "PROGRESS_STREAM_BROKER_URL": str(settings.broker_url),
        "PROGRESS_STREAM_NAMESPACE": settings.namespace, "PROGRESS_STREAM_DATA": str(settings.data),
    }  # fmt: skip
    command = [sys.executable, "-m", "dramatiq", "workers", "--processes", "1", "--threads", "2"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.contract("POST /jobs", "BROKER_URL")
def test_a_csv_goes_in_and_comes_out_personal(each_site: Site, worker: None) -> None:
    """By hand-over and by plain `send`: the stream ends by itself, in order and without a hole."""
    rows = "first_name,company\n" + "Ada,Engines\n" * 500
    with each_site.client() as client:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "personalize" not in client.get("/actors").text:
            assert time.monotonic() < deadline, "no worker announced itself"
            time.sleep(0.1)
        made = client.post(
            "/jobs",
            data={"actor": "personalize", "template": "Hi {{first_name}} of {{company|your firm}}"},
            files={"file": ("people.csv", rows, "text/csv")},
        )
        assert 201 == made.status_code, made.text
        with client.stream("GET", f"{made.headers['Location']}/events") as stream:
            lines = list(stream.iter_lines())
        state = client.get(made.headers["Location"]).json()
        result = client.get(f"{made.headers['Location']}/result")

    numbers = [
        int(line.rpartition("-")[2]) for line in lines if line.startswith("id: ") and line != "id: 0-0"
    ]
    names = [line[7:] for line in lines if line.startswith("event: ")]
    assert list(range(1, len(numbers) + 1)) == numbers
    assert ("queued", "started", "succeeded") == (names[1], names[2], names[-1])
    assert ("succeeded", 1) == (state["state"], state["attempt"])
    assert (200, 501) == (result.status_code, len(result.text.splitlines()))
    assert "Hi Ada of Engines" in result.text
    assert result.headers["Content-Disposition"].startswith("attachment;")
