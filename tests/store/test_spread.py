"""What Redis is asked for a job's parts, played by hand: what is shown of their reports, and when."""

import time
from collections.abc import Iterator

import pytest
import redis

from progress_stream import events, jobs
from progress_stream.settings import Settings, load
from progress_stream.store.spread_commands import Closing, Part
from tests.support.waiting import until
from tests.support.watching import Writer


@pytest.fixture
def settings(redis_url: str, broker_url: str, namespace: str) -> Settings:
    return load(redis_url=redis_url, broker_url=broker_url, namespace=namespace)


@pytest.fixture
def whole(redis_client: redis.Redis, settings: Settings) -> Iterator[Writer]:
    """A job that was spread over two parts of a hundred rows."""
    job = Writer(redis_client, settings, "job-1")
    job.create()
    job.start()
    commands = job.store.commands.spreads
    headers = [
        jobs.Header(f"job-1~{n}", "rows", parent="job-1", created_at=1_700_000_000_000) for n in (1, 2)
    ]
    parts = [Part(n, header, b"-", 100) for n, header in enumerate(headers, 1)]
    job.store.send(commands.put_by("job-1", job.attempt, job.nonce, 1, parts))
    job.store.send(commands.close("job-1", job.attempt, job.nonce, Closing(1, 2, 200, 2)))
    yield job


def part(whole: Writer, number: int) -> Writer:
    made = Writer(whole.store.client, whole.store.settings, f"job-1~{number}")
    made.header = jobs.Header(made.job, "rows", parent="job-1", created_at=1_700_000_000_000)
    made.start()
    return made


def shown(whole: Writer) -> list[int]:
    """What each event of the parent said is done."""
    look = whole.store.send(whole.store.commands.look("job-1", events.BEGINNING, 1_000))
    told = [events.decode(data) for _, kind, data in look.entries if kind in (b"progress", b"part")]
    return [one["done"] for one in told]


def sign(job: Writer) -> None:
    """A sign of life."""
    job.store.send(job.store.commands.append(job.job, job.attempt, job.nonce, job.sequence + 1, (), None))


def test_the_last_report_of_a_part_is_never_lost(whole: Writer) -> None:
    """Counted at once, shown with the next word of any part: also where that is only a sign of life."""
    first, second = part(whole, 1), part(whole, 2)
    first.append("progress", done=30, total=100)
    for done in (10, 20, 40):
        second.append("progress", done=done, total=100)
    before = shown(whole)
    time.sleep(0.11)
    sign(first)
    after = shown(whole)
    sign(second)

    assert 70 not in before
    assert 70 == after[-1]
    assert after == shown(whole)


def test_a_late_word_of_an_earlier_attempt_moves_nothing(whole: Writer) -> None:
    """What a part has done is counted as its highest, whoever says it."""
    first = part(whole, 1)
    first.append("progress", done=80, total=100)
    first.append("retrying", error={"type": "E", "message": "no"}, next_at=events.now_text())
    first.start("second")
    first.append("progress", done=10, total=100)
    until(lambda: shown(whole)[-1] == 80)
    time.sleep(0.11)
    first.append("progress", done=90, total=100)

    assert 90 == shown(whole)[-1]
    assert sorted(shown(whole)) == shown(whole)


def test_whoever_lost_the_attempt_stores_no_parts(whole: Writer) -> None:
    """A zombie of the parent is refused as with every other word."""
    from progress_stream.errors import StaleAttempt

    commands = whole.store.commands.spreads
    old = whole.nonce, whole.attempt
    whole.start("another")
    header = jobs.Header("job-1~3", "rows", parent="job-1", created_at=1_700_000_000_000)

    with pytest.raises(StaleAttempt):
        whole.store.send(commands.put_by("job-1", old[1], old[0], 2, [Part(3, header, b"-")]))
    with pytest.raises(StaleAttempt):
        whole.store.send(commands.close("job-1", old[1], old[0], Closing(2, 1)))
    with pytest.raises(StaleAttempt):
        whole.store.send(commands.release("job-1", old[1], old[0], {"result": None}))
