"""What a job says when all goes as its actor wants it."""

import asyncio
import json
import threading
import time
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from progress_stream import ProgressMiddleware, current_job, track
from progress_stream.errors import InvalidEvent
from tests.worker.conftest import Stack, until


def test_a_job_tells_its_life_from_queued_to_succeeded(stack: Stack) -> None:
    """The id that `send` hands out can be watched at once; the return value becomes the result."""

    @stack.actor()
    def count(n: int) -> dict[str, int]:
        for _ in track(range(n), unit="rows"):
            time.sleep(0.001)
        return {"rows": n}

    message = count.send_with_options(args=(30,), owner="alice", title="March list")
    queued = stack.state(message.message_id)
    stack.work()
    state = stack.ended(message.message_id)

    assert ("queued", "alice", "March list", "count") == tuple(
        queued[k] for k in ("state", "owner", "title", "actor")
    )
    assert ["queued", "started", "succeeded"] == stack.types(message.message_id)
    assert ("succeeded", {"rows": 30}, 30, 30, "rows", 1) == tuple(
        state[k] for k in ("state", "result", "done", "total", "unit", "attempt")
    )


def test_no_warning_says_that_a_kept_result_was_discarded(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """Dramatiq's is for those without its own Results; of an actor without `progress` it is true."""

    @stack.actor()
    def kept() -> int:
        return 1

    @stack.actor(progress=False)
    def lost() -> int:
        return 2

    message = kept.send()
    lost.send()
    stack.work()
    until(lambda: "Actor 'lost' returned a value" in caplog.text)

    assert 1 == stack.ended(message.message_id)["result"]
    assert "Actor 'kept' returned a value" not in caplog.text


def test_the_message_is_confirmed_before_send_returns(stack: Stack) -> None:
    """A script that sends and exits leaves a job that the sweep does not take for one without a message."""

    @stack.actor()
    def idle() -> None: ...

    message = idle.send()
    record = stack.look(message.message_id).record

    assert record is not None
    assert record.confirmed


def test_an_actor_without_progress_is_left_alone(stack: Stack) -> None:
    """No job, no options in its message, and a silent stand-in inside."""
    seen: list[str] = []

    @stack.actor(progress=False)
    def plain() -> None:
        current_job().log("unheard")
        seen.append(current_job().id)

    message = plain.send()
    stack.work()
    until(lambda: seen)

    assert [""] == seen
    assert stack.look(message.message_id).record is None


def test_an_async_actor_reports_as_a_plain_one_does(stack: Stack) -> None:
    """The handle is found inside the event loop's task; `track` takes async iterables."""

    async def numbers() -> Any:
        for number in range(20):
            await asyncio.sleep(0.001)
            yield number

    @stack.actor()
    async def gather() -> int:
        async for _ in track(numbers(), total=20):
            pass
        current_job().log("through")
        return 20

    message = gather.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert (20, 20, 20) == (state["done"], state["total"], state["result"])
    assert ["queued", "started", "log", "succeeded"] == stack.types(message.message_id)


def test_steps_logs_and_own_events_keep_their_order(stack: Stack) -> None:
    """What is not progress is told in the order in which it was said."""

    @stack.actor()
    def steps() -> None:
        job = current_job()
        with job.step("read"):
            job.log("one", level="warning")
        job.event("preview", {"rows": [1, 2]})
        with job.step("write"):
            job.event("preview", {"rows": []})

    message = steps.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert [
        "queued",
        "started",
        "step",
        "log",
        "step",
        "preview",
        "step",
        "preview",
        "step",
        "succeeded",
    ] == stack.types(message.message_id)
    assert [("read", "finished"), ("write", "finished")] == [(s["name"], s["state"]) for s in state["steps"]]
    assert {"rows": [1, 2]} == stack.events(message.message_id, "preview")[0]["data"]


def test_own_events_leave_within_20_ms_and_are_never_coalesced(stack: Stack) -> None:
    """Measured by Redis' own ids would be vague; so: it is in the stream soon after it was said, where the machine had the time."""
    late: list[float] = []

    @stack.actor()
    def speak() -> None:
        job = current_job()
        for number in range(20):
            job.event("token", number)
            said = time.monotonic()
            until(lambda n=number: len(stack.events(job.id, "token")) == n + 1)
            late.append(time.monotonic() - said)

    message = speak.send()
    stack.work()
    stack.ended(message.message_id)

    assert list(range(20)) == [event["data"] for event in stack.events(message.message_id, "token")]
    assert min(late) < 0.02


def test_a_flood_of_own_events_arrives_complete(stack: Stack) -> None:
    """5,000 of them, in order, numbered without a hole."""

    @stack.actor()
    def flood() -> None:
        for number in range(5_000):
            current_job().event("line", number)

    message = flood.send()
    stack.work()
    stack.ended(message.message_id)

    assert list(range(5_000)) == [event["data"] for event in stack.events(message.message_id, "line")]


def test_progress_is_coalesced_and_its_last_value_always_sent(stack: Stack) -> None:
    """Ten a second, not one an item; and the end of the loop is exact."""

    @stack.actor()
    def fast() -> None:
        for _ in track(range(100_000)):
            pass

    message = fast.send()
    stack.work()
    stack.ended(message.message_id)
    progress = stack.events(message.message_id, "progress")

    assert len(progress) < 50
    assert (100_000, 100_000) == (progress[-1]["done"], progress[-1]["total"])


def test_one_loop_after_another_goes_on_where_the_bar_stands(stack: Stack) -> None:
    """A bar never falls within an attempt, so the second loop adds to the first; one inside another is not counted twice."""

    @stack.actor()
    def phases() -> None:
        for _ in track(range(3)):
            for _ in track(range(100)):
                pass
        for _ in track(range(2)):
            pass

    message = phases.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert (5, 5) == (state["done"], state["total"])


def test_a_handle_given_to_threads_reports_from_all_of_them(stack: Stack) -> None:
    """Nothing is lost between threads."""

    @stack.actor()
    def spread() -> None:
        job = current_job()
        job.update(total=4_000)

        def part() -> None:
            for _ in range(1_000):
                job.advance()
            job.event("part_done", None)

        threads = [threading.Thread(target=part) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

    message = spread.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert 4_000 == state["done"]
    assert 4 == len(stack.events(message.message_id, "part_done"))


def test_a_result_that_is_too_large_or_no_json_is_dropped_with_a_warning(stack: Stack) -> None:
    """The job succeeds all the same."""

    @stack.actor()
    def much(kind: str) -> Any:
        return "x" * 50_000 if kind == "large" else object()

    found = [much.send("large"), much.send("object")]
    stack.work()
    states = [stack.ended(message.message_id) for message in found]

    assert [("succeeded", None)] * 2 == [(state["state"], state["result"]) for state in states]
    for message in found:
        assert "warning" == stack.events(message.message_id, "log")[-1]["level"]
        assert stack.events(message.message_id, "succeeded")[0]["result_dropped"]


@pytest.mark.contract("EVENT_BYTES")
def test_an_event_that_cannot_be_sent_is_an_error_at_the_actor(stack: Stack) -> None:
    """It names the fault and what is allowed, and nothing of it is sent."""
    errors: list[str] = []

    @stack.actor()
    def wrong() -> None:
        job = current_job()
        for say in (
            lambda: job.event("big", "x" * 70_000),
            lambda: job.event("progress", {}),
            lambda: job.event("surrogate", "\ud800"),
            lambda: job.log("x", level="loud"),
            lambda: job.update(done=float("nan")),
            lambda: job.update(message="\udfff"),
            lambda: job.step("").__enter__(),
        ):
            with pytest.raises(InvalidEvent) as caught:
                say()
            errors.append(str(caught.value))

    message = wrong.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert "succeeded" == state["state"]
    assert 7 == len(errors)
    assert "EVENT_BYTES" in errors[0]
    assert ["queued", "started", "succeeded"] == stack.types(message.message_id, without=frozenset())


def test_a_job_made_by_an_actor_inherits_its_owner(stack: Stack) -> None:
    """Also the next step of a pipeline, which Dramatiq sends when the actor has returned."""
    made: list[str] = []

    @stack.actor()
    def child(*_: Any) -> None: ...

    @stack.actor()
    async def parent() -> None:
        made.append(child.send().message_id)

    pipe = dramatiq.pipeline(
        [parent.message_with_options(owner="alice"), child.message()], broker=stack.broker
    )
    pipe.run()
    stack.work()
    until(lambda: made)
    last = pipe.messages[-1].message_id
    stack.ended(last)

    assert ["alice", "alice"] == [stack.ended(id)["owner"] for id in (made[0], last)]


def test_a_delayed_message_is_queued_with_the_time_it_is_due(stack: Stack) -> None:
    """It passes the broker's delay queue and is one job with one `queued`."""

    @stack.actor()
    def later() -> None: ...

    message = later.send_with_options(delay=300)
    queued = stack.state(message.message_id)
    stack.work()
    stack.ended(message.message_id)

    assert queued["run_at"] is not None
    assert ["queued", "started", "succeeded"] == stack.types(message.message_id)


def test_actors_that_report_are_announced(stack: Stack) -> None:
    """As soon as a worker has booted; those that may be started from outside with the schema of their arguments."""

    @stack.actor(submit=True, title="Count it")
    def offered(n: int, label: str = "rows") -> None: ...

    @stack.actor()
    def quiet() -> None: ...

    @stack.actor(progress=False)
    def hidden() -> None: ...

    stack.work()
    names = until(lambda: stack.store.send(stack.store.commands.announced_names()))
    found = until(lambda: stack.store.send(stack.store.commands.announced(names)))

    assert {"offered": True, "quiet": False} == {
        name: json.loads(text)["schema"] is not None for name, text in found.items()
    }


def test_a_saved_file_becomes_the_result(stack: Stack) -> None:
    """Its reference goes with the `succeeded` event, in one step."""

    @stack.actor()
    def write() -> None:
        with current_job().save("out.csv", "text/csv") as file:
            file.write(b"a,b\n")

    message = write.send()
    stack.work()
    stack.ended(message.message_id)
    record = stack.look(message.message_id).record

    assert record is not None
    assert record.file is not None
    assert ("out.csv", "text/csv", 4) == (record.file["name"], record.file["media_type"], record.file["size"])
    assert b"a,b\n" == stack.middleware._files.open(record.file["key"]).read()


def test_with_a_stub_broker_nothing_needs_a_redis() -> None:
    """The actor runs, reports into the void, and its test fails only where it is wrong itself."""
    broker = StubBroker()
    broker.add_middleware(ProgressMiddleware(redis_url=None))
    seen: list[int] = []

    @dramatiq.actor(broker=broker, progress=True, submit=True, owner="alice")
    def count(n: int) -> None:
        for number in track(range(n)):
            seen.append(number)
        current_job().event("token", {})

    count.send(3)
    worker = dramatiq.Worker(broker, worker_timeout=50)
    worker.start()
    broker.join("default")
    worker.stop()

    assert [0, 1, 2] == seen
