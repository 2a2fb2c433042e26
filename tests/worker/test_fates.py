"""Each way in which a message can end, and what becomes of its job. Every job ends, and none twice."""

import os
import signal
import time
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware, MiddlewareError, SkipMessage

from progress_stream import Cancelled, ProgressMiddleware, current_job, jobs, track, verdicts
from progress_stream.errors import ForkedHandle, InvalidInput
from progress_stream.settings import Settings
from tests.worker.conftest import Eyes, Stack, until

LIMITS = verdicts.Limits(stalled_ms=15_000, abandoned_ms=3_600_000)


def test_a_broker_that_refuses_leaves_a_job_that_the_sweep_ends(settings: Settings) -> None:
    """No hook tells of the refusal; the job stays unconfirmed, and is lost after a minute."""
    eyes = Eyes(settings)
    broker = RedisBroker(url="redis://127.0.0.1:1/0")
    broker.add_middleware(ProgressMiddleware(settings))

    @dramatiq.actor(broker=broker, progress=True)
    def never() -> None: ...

    message = never.message()
    with pytest.raises(Exception, match="refused"):
        broker.enqueue(message)
    record = eyes.look(message.message_id).record

    assert record is not None
    assert not record.confirmed
    assert isinstance(
        verdicts.verdict(record, eyes.look(message.message_id).now + 61_000, LIMITS), verdicts.Lose
    )


def test_a_failure_is_retried_and_the_last_one_final(stack: Stack) -> None:
    """`retrying` says why and when; `failed` comes when Retries gives up, and the message is dead-lettered."""

    @stack.actor(max_retries=1)
    def fail() -> None:
        raise ValueError(f"attempt {current_job().attempt}")

    message = fail.send()
    stack.work()
    state = stack.ended(message.message_id)
    until(stack.dead_letters)

    assert ["queued", "started", "retrying", "started", "failed"] == stack.types(message.message_id)
    assert {"type": "ValueError", "message": "attempt 1"} == stack.events(message.message_id, "retrying")[0][
        "error"
    ]
    assert stack.events(message.message_id, "retrying")[0]["next_at"]
    assert ({"type": "ValueError", "message": "attempt 2"}, 2, 2) == (
        state["error"],
        state["attempt"],
        state["max_attempts"],
    )


def test_the_count_at_the_failure_is_exact(stack: Stack) -> None:
    """The bar stops at the item that failed, although nobody looked at the clock in the loop."""

    @stack.actor()
    def fail() -> None:
        for number in track(range(1_000)):
            if number == 777:
                raise ValueError("here")

    message = fail.send()
    stack.work()

    assert 777 == stack.ended(message.message_id)["done"]


class Veto(Middleware):
    """Stands for a broker that fails while Retries enqueues: Dramatiq swallows that, and the retry is lost."""

    def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
        if message.options.get("retries"):
            raise MiddlewareError("no")


def test_a_retry_that_was_not_enqueued_ends_the_job(settings: Settings, broker_url: str) -> None:
    """`retrying` was said already; `failed` follows at once instead of a wait for ever."""
    stack = Stack(settings, broker_url, [Veto()])

    @stack.actor(max_retries=3)
    def fail() -> None:
        raise ValueError("no")

    message = fail.send()
    stack.work()
    stack.ended(message.message_id)
    stack.stop()

    assert ["queued", "started", "retrying", "failed"] == stack.types(message.message_id)


def test_a_message_for_an_actor_that_no_worker_has_fails(stack: Stack) -> None:
    """Only the dead-letter hooks fire for it."""
    stack.broker.declare_queue("default")
    message: dramatiq.Message[Any] = dramatiq.Message("default", "ghost", (), {}, {"progress": True})
    stack.broker.enqueue(message)
    stack.work()

    assert "ActorNotFound" == stack.ended(message.message_id)["error"]["type"]


def test_a_message_over_its_age_limit_fails(stack: Stack) -> None:
    """AgeLimit stands before us in the list: our start never sees the message."""

    @stack.actor(max_age=1)
    def old() -> None: ...

    message = old.send()
    time.sleep(0.05)
    stack.work()
    state = stack.ended(message.message_id)

    assert ("failed", "Message age limit exceeded") == (state["state"], state["error"]["message"])
    assert ["queued", "failed"] == stack.types(message.message_id)


def test_a_skip_by_the_actor_ends_as_cancelled_with_its_reason(stack: Stack) -> None:
    """It is acknowledged, neither retried nor dead-lettered."""

    @stack.actor(max_retries=3)
    def skip() -> None:
        raise SkipMessage("nothing to do")

    message = skip.send()
    stack.work()
    stack.ended(message.message_id)

    assert "nothing to do" == stack.events(message.message_id, "cancelled")[0]["reason"]
    assert 0 == stack.dead_letters()


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_cancelled_job_stops_at_its_next_report(stack: Stack, kind: str) -> None:
    """Raised again at every further report, so that a broad `except` cannot swallow it; never retried, never dead-lettered."""
    raised: list[str] = []

    def stubborn() -> None:
        job = current_job()
        job.event("ready", None)
        for _ in range(3):
            try:
                for _ in track(iter(int, 1)):
                    time.sleep(0.001)
            except Exception as error:
                raised.append(type(error).__name__)
        job.log("not heard")

    async def stubborn_async() -> None:
        stubborn()

    actor = stack.actor(max_retries=3)(stubborn if kind == "plain" else stubborn_async)
    message = actor.send()
    stack.work()
    until(lambda: stack.events(message.message_id, "ready"))
    stack.cancel(message.message_id)
    stack.ended(message.message_id)

    assert ["Cancelled"] * 3 == raised
    assert ["queued", "started", "ready", "cancelling", "cancelled"] == stack.types(message.message_id)
    assert 0 == stack.dead_letters()


def test_an_error_that_a_cancel_caused_is_not_retried(stack: Stack) -> None:
    """An actor that turns Cancelled into an error of its own ends as cancelled all the same."""

    @stack.actor(max_retries=3)
    def translate() -> None:
        job = current_job()
        job.event("ready", None)
        try:
            while True:
                time.sleep(0.01)
                job.advance()
        except Cancelled:
            raise RuntimeError("translated") from None

    message = translate.send()
    stack.work()
    until(lambda: stack.events(message.message_id, "ready"))
    stack.cancel(message.message_id)
    stack.ended(message.message_id)
    time.sleep(0.2)

    assert ["queued", "started", "ready", "cancelling", "cancelled"] == stack.types(message.message_id)
    assert 0 == stack.dead_letters()


def test_a_redelivery_of_an_ended_job_runs_muted(stack: Stack) -> None:
    """A worker was killed between the last event and the ack: the actor runs again, so that a pipeline goes on, unheard."""
    runs: list[int] = []

    @stack.actor()
    def once() -> None:
        runs.append(1)
        current_job().log("heard once")

    message = once.send()
    stack.work()
    stack.ended(message.message_id)
    before = stack.events(message.message_id)
    stack.broker.enqueue(message)
    until(lambda: len(runs) == 2)
    stack.broker.join("default")

    assert before == stack.events(message.message_id)


def test_a_redelivery_of_a_cancelled_job_is_skipped(stack: Stack) -> None:
    """Nobody wants it any more."""
    runs: list[int] = []

    @stack.actor()
    def unwanted() -> None:
        runs.append(1)
        raise SkipMessage("not now")

    message = unwanted.send()
    stack.work()
    stack.ended(message.message_id)
    stack.broker.enqueue(message)
    time.sleep(0.3)
    stack.broker.join("default")

    assert [1] == runs
    assert 0 == stack.dead_letters()


@pytest.mark.contract("MAX_STARTS")
def test_a_message_that_keeps_killing_its_workers_ends(settings: Settings, broker_url: str) -> None:
    """After MAX_STARTS starts without an end it fails and is dead-lettered; retries that come to an end do not count."""
    stack = Stack(settings.model_copy(update={"max_starts": 3}), broker_url)
    runs: list[int] = []

    @stack.actor(max_retries=5)
    def deadly() -> None:
        runs.append(1)

    message = deadly.send()
    header = jobs.Header(message.message_id, "deadly", created_at=message.message_timestamp)
    for number in range(3):
        event = {"job": message.message_id, "type": "started", "at": "2026-01-01T00:00:00.000Z"}
        stack.store.send(stack.store.commands.start(header, event, f"dead {number}", may_create=False))
    stack.work()
    state = stack.ended(message.message_id)
    until(stack.dead_letters)
    stack.stop()

    assert [] == runs
    assert "MAX_STARTS" in state["error"]["message"]


def test_a_handle_refuses_work_in_a_forked_child(stack: Stack) -> None:
    """The child has no flusher thread: what it reported would be lost in silence."""
    statuses: list[int] = []

    @stack.actor()
    def fork() -> None:
        job = current_job()
        child = os.fork()
        if child == 0:
            try:
                job.log("from the child")
            except ForkedHandle:
                os._exit(42)
            os._exit(1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        job.log("from the parent")

    message = fork.send()
    stack.work()
    stack.ended(message.message_id)

    assert [42] == statuses
    assert ["from the parent"] == [event["message"] for event in stack.events(message.message_id, "log")]


def test_a_forked_process_that_sends_begins_its_own_flusher(stack: Stack) -> None:
    """As in a web server that forks its workers after it has loaded the application."""

    @stack.actor()
    def idle() -> None: ...

    idle.send()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        os.write(write, idle.send().message_id.encode())
        os._exit(0)
    os.waitpid(child, 0)
    job = os.read(read, 100).decode()

    assert "queued" == stack.state(job)["state"]


def test_an_id_that_no_job_can_have_is_refused_at_send(stack: Stack) -> None:
    """The error reaches the sender, and no message is sent."""

    @stack.actor()
    def idle() -> None: ...

    with pytest.raises(InvalidInput, match="job id"):
        stack.broker.enqueue(idle.message().copy(message_id="a b"))
    with pytest.raises(InvalidInput, match="title"):
        idle.send_with_options(title="two\nlines")

    assert 0 == stack.broker.do_qsize("default")


def test_an_attempt_taken_over_is_told_at_every_report(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """What it says after that is not kept; its failure is not retried, for a retry would oust the healthy attempt."""
    raised: list[str] = []

    @stack.actor(max_retries=3)
    def zombie() -> None:
        job = current_job()
        job.event("ready", None)
        for _ in range(2):
            try:
                while True:
                    time.sleep(0.01)
                    job.event("tick", None)
            except Exception as error:
                raised.append(type(error).__name__)
        raise RuntimeError("something else")

    message = zombie.send()
    stack.work()
    until(lambda: stack.events(message.message_id, "ready"))
    header = jobs.Header(message.message_id, "zombie", created_at=message.message_timestamp)
    event = {"job": message.message_id, "type": "started", "at": "2026-01-01T00:00:00.000Z"}
    stack.store.send(stack.store.commands.start(header, event, "another worker", may_create=False))
    count = len(stack.events(message.message_id))
    until(lambda: len(raised) == 2)
    time.sleep(0.3)

    assert ["Superseded", "Superseded"] == raised
    assert count == len(stack.events(message.message_id))
    assert "running" == stack.state(message.message_id)["state"]
    assert 0 == stack.dead_letters()
    assert 1 == sum("superseded by a later attempt" in line for line in caplog.messages)
