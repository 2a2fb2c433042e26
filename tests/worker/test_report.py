"""`report()`: a job without Dramatiq."""

import subprocess
import sys
import time

import pytest

from progress_stream import Cancelled, current_job, report, track
from progress_stream.errors import InvalidInput
from progress_stream.settings import Settings
from tests.worker.conftest import Eyes


def test_each_run_is_a_job_of_its_own(settings: Settings) -> None:
    """One name, another id each time; inside, `current_job` is it."""
    eyes = Eyes(settings)
    ids = []
    for _ in range(2):
        with report("nightly-etl", owner="alice", title="Night", settings=settings) as job:
            ids.append(job.id)
            assert current_job() is job
            for _ in track(range(7)):
                pass
    state = eyes.state(ids[0])

    assert 2 == len(set(ids))
    assert ("succeeded", "nightly-etl", "alice", "Night", 7) == tuple(
        state[k] for k in ("state", "actor", "owner", "title", "done")
    )
    assert "" == current_job().id


def test_an_exception_fails_the_job_and_goes_on(settings: Settings) -> None:
    """Its type and message are told, its traceback is not."""
    with pytest.raises(ValueError, match="broken"), report("etl", settings=settings) as job:
        raise ValueError("broken")
    state = Eyes(settings).state(job.id)

    assert ("failed", {"type": "ValueError", "message": "broken"}) == (state["state"], state["error"])


def test_ctrl_c_cancels_the_job(settings: Settings) -> None:
    """It goes on to the program, as it would without us."""
    with pytest.raises(KeyboardInterrupt), report("etl", settings=settings) as job:
        raise KeyboardInterrupt

    assert "cancelled" == Eyes(settings).state(job.id)["state"]


def test_a_cancel_reaches_the_script(settings: Settings) -> None:
    """As in an actor: at its next report."""
    eyes = Eyes(settings)
    with pytest.raises(Cancelled), report("etl", settings=settings) as job:
        eyes.cancel(job.id)
        while True:
            job.advance()
            time.sleep(0.005)

    assert "cancelled" == eyes.state(job.id)["state"]


def test_without_a_redis_url_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that nobody can see is a mistake."""
    monkeypatch.delenv("PROGRESS_STREAM_REDIS_URL", raising=False)
    with pytest.raises(InvalidInput, match="PROGRESS_STREAM_REDIS_URL"), report("etl"):
        pass


def test_it_loads_neither_dramatiq_nor_the_web_stack(settings: Settings) -> None:
    """A script that reports pays for neither."""
    code = (
        "import sys; from progress_stream import report, track\n"
        "with report('etl') as job:\n    [None for _ in track(range(3))]\n"
        "print(job.id, sorted({'dramatiq', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    env = {
        "PROGRESS_STREAM_REDIS_URL": settings.redis_url or "",
        "PROGRESS_STREAM_NAMESPACE": settings.namespace,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    job, loaded = done.stdout.strip().split(" ", 1)

    assert "[]" == loaded
    assert "succeeded" == Eyes(settings).state(job)["state"]
