"""`track()` outside a worker: it gives what it was given, costs next to nothing, and never stops a plain call."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
import tqdm

from progress_stream import current_job, jobs, track
from progress_stream.errors import InvalidEvent
from progress_stream.reporting.buffer import Rates
from progress_stream.reporting.job import Job
from progress_stream.reporting.run import Run


def running() -> tuple[Job, Run]:
    """A job with an attempt, and nobody who sends."""
    run = Run(jobs.Header("job", "actor"), Rates(), lambda: None)
    run.attempt = 1
    return Job(run), run


def test_it_gives_every_item_unchanged() -> None:
    """Lists, generators, empty ones; outside a job it is only a loop."""
    assert [1, 2, 3] == list(track([1, 2, 3]))
    assert [0, 1] == list(track(number for number in range(2)))
    assert [] == list(track([]))


def test_it_gives_every_item_of_an_async_iterable() -> None:
    """In order, and ends as that ends."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def collect() -> list[int]:
        return [number async for number in track(numbers(), total=3)]

    assert [0, 1, 2] == asyncio.run(collect())


def test_the_count_is_exact_when_the_loop_is_left_early() -> None:
    """The item at hand is not done."""
    job, run = running()
    for number in track(range(100), job=job):
        if number == 41:
            break

    assert (41, 100) == (run.buffer.meter.done, run.buffer.meter.total)


def test_a_loop_that_slows_down_is_still_seen() -> None:
    """A million items in a blink, then one that takes long: whoever looks sees the true count."""
    job, run = running()
    items = track(range(2_000_000), job=job)
    for _ in range(1_000_001):
        next(items)
    run.take(time.monotonic() + 1)

    assert 1_000_000 == run.buffer.meter.done


def test_a_cancel_stops_the_loop_after_its_item() -> None:
    """The flag is seen without a clock and without a call in the loop."""
    job, run = running()
    seen = []
    with pytest.raises(Exception, match="cancelled"):
        for number in track(range(100), job=job):
            seen.append(number)
            if number == 10:
                run.request_cancel()

    assert list(range(11)) == seen


def test_a_stand_in_refuses_what_a_worker_would_refuse() -> None:
    """A plain test of an actor finds the mistakes that production would."""
    job = current_job()
    job.update(done=1, total=2, message="x")
    job.advance()
    with job.step("read"):
        job.log("x")
    with job.save("a.txt") as file:
        file.write(b"x")
    with pytest.raises(InvalidEvent):
        job.event("Succeeded", {})

    assert ("", None, False) == (job.id, job.attempt, job.cancel_requested)


def test_an_item_costs_at_most_what_tqdm_takes() -> None:
    """Best of several rounds in one run, both inside a running bar; a tenth is left for noise."""
    job, _ = running()
    items = range(300_000)

    def cost(wrap: Callable[[Iterable[int]], Iterable[Any]]) -> float:
        began = time.perf_counter()
        for _ in wrap(items):
            pass
        return time.perf_counter() - began

    with open("/dev/null", "w") as void:
        ours, theirs = [], []
        for _ in range(9):
            ours.append(cost(lambda it: track(it, job=job)))
            theirs.append(cost(lambda it: tqdm.tqdm(it, file=void)))

    assert min(ours) <= min(theirs) * 1.1, f"{statistics.median(ours)} against {statistics.median(theirs)}"
