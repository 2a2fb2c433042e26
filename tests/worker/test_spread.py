"""One job over many messages: one bar that is exact, whatever is retried, doubled, failed or cancelled."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import dramatiq
import pytest

from progress_stream import current_job, events, jobs, verdicts
from progress_stream.errors import InvalidInput
from progress_stream.store.spread_commands import AT_ONCE
from progress_stream.store.sweep import Sweeper
from tests.worker.conftest import Stack, until

COUNTS = ("total", "queued", "running", "succeeded", "failed", "cancelled")


def parts(state: dict[str, Any]) -> tuple[int, ...]:
    return tuple(state["parts"][name] for name in COUNTS)


def folded(stack: Stack, job: str) -> dict[str, Any]:
    """What a watcher makes of the whole stream."""
    record = stack.look(job).record
    assert record is not None
    state = jobs.new(jobs.Header(job, record.packed["actor"], created_at=0))
    for event in stack.events(job):
        state = jobs.fold(state, event)
    return state


def never_back(told: list[dict[str, Any]]) -> bool:
    """Within one attempt neither the count nor the share of the bar ever falls."""
    bars = [event for event in told if event["type"] in {"progress", "part"} and "done" in event]
    pairs = [(one, two) for one, two in itertools.pairwise(bars) if one["attempt"] == two["attempt"]]
    return all(
        one["done"] <= two["done"] and one["done"] / one["total"] <= two["done"] / two["total"] + 1e-9
        for one, two in pairs
    )


def test_parts_end_their_job_and_what_follows_gives_its_result(stack: Stack) -> None:
    """The actor returns at once; the job runs until its parts have ended, then `then`, whose return is the result."""

    @stack.actor()
    def rows(count: int) -> int:
        for n in range(count):
            current_job().update(done=n + 1, total=count, unit="rows")
        return count

    @stack.actor()
    def merge() -> str:
        return "merged"

    @stack.actor()
    def whole() -> str:
        current_job().spread([rows.message(10 * n) for n in (1, 2, 3)], then=merge.message())
        return "not this"

    message = whole.send_with_options(args=(), owner="alice")
    stack.work()
    state = stack.ended(message.message_id)

    assert ("succeeded", "merged", 60, 60, "rows") == tuple(
        state[name] for name in ("state", "result", "done", "total", "unit")
    )
    assert (3, 0, 0, 3, 0, 0) == parts(state)
    assert never_back(stack.events(message.message_id))
    assert {"parent": message.message_id, "owner": "alice", "state": "succeeded"} == {
        name: stack.state(f"{message.message_id}~2")[name] for name in ("parent", "owner", "state")
    }


def test_a_watcher_sees_the_whole_before_the_first_part_is_sent(stack: Stack) -> None:
    """Ids and count are written first; with weights the bar counts rows from the beginning."""
    gate = threading.Event()

    @stack.actor()
    def rows(count: int) -> None:
        gate.wait(20)
        current_job().update(done=count, total=count, unit="rows")

    @stack.actor()
    def whole() -> None:
        current_job().spread((rows.message(5) for _ in range(4)), weights=[5] * 4)

    message = whole.send()
    stack.work(threads=1)
    until(lambda: stack.events(message.message_id, "part"))
    first = stack.events(message.message_id, "progress")[0]
    states = [stack.state(f"{message.message_id}~{n}")["state"] for n in range(1, 5)]
    gate.set()
    state = stack.ended(message.message_id)

    assert (0, 20, "rows", 4) == (first["done"], first["total"], first["unit"], first["parts"]["total"])
    assert 3 == states.count("queued")
    assert (20, 20, None) == (state["done"], state["total"], state["result"])


def test_a_retried_part_counts_once_and_takes_nothing_back(stack: Stack) -> None:
    """Its second attempt begins at nothing; the sum stays where it was."""
    tries: list[int] = []

    @stack.actor(max_retries=2)
    def rows() -> None:
        job = current_job()
        tries.append(job.attempt or 0)
        job.update(done=6, total=10, unit="rows")
        if len(tries) == 1:
            raise RuntimeError("once")
        job.update(done=10, total=10)

    @stack.actor()
    def whole() -> None:
        current_job().spread([rows.message()])

    message = whole.send()
    stack.work()
    state = stack.ended(message.message_id)
    told = stack.events(message.message_id, "part")

    assert [1, 2] == tries
    assert ["running", "retrying", "running", "succeeded"] == [event["state"] for event in told]
    assert [6, 6, 10] == [event["done"] for event in told[1:]]
    assert (1, 0, 0, 1, 0, 0) == parts(state)
    assert never_back(stack.events(message.message_id))


@pytest.mark.parametrize(("on_failure", "ends"), [("fail", "failed"), ("continue", "succeeded")])
def test_a_part_that_fails_for_good_fails_the_job_or_is_counted(
    stack: Stack, on_failure: Any, ends: str
) -> None:
    """The others run in both cases; what follows runs only where failures may be."""
    ran: list[str] = []

    @stack.actor()
    def rows(fails: bool) -> None:
        if fails:
            raise ValueError("no such column")
        ran.append("part")

    @stack.actor()
    def merge() -> str:
        ran.append("then")
        return "merged"

    @stack.actor()
    def whole() -> None:
        current_job().spread(
            [rows.message(n == 2) for n in range(5)], then=merge.message(), on_failure=on_failure
        )

    message = whole.send()
    stack.work()
    state = stack.ended(message.message_id)
    failed = [event for event in stack.events(message.message_id, "part") if event["state"] == "failed"]

    assert ends == state["state"]
    assert (5, 0, 0, 4, 1, 0) == parts(state)
    assert 4 == ran.count("part")
    assert (ends == "succeeded") == ("then" in ran)
    assert [(3, {"type": "ValueError", "message": "no such column"})] == [
        (event["part"], event["error"]) for event in failed
    ]
    if ends == "failed":
        assert {"type": "PartFailed", "message": "1 of 5 parts failed"} == state["error"]


def test_many_quick_parts_move_the_bar_ten_times_a_second_at_most(stack: Stack) -> None:
    """Each part's reports are counted at once and shown together; the last one is never lost."""

    @stack.actor()
    def rows() -> None:
        for n in range(100):
            current_job().update(done=n + 1, total=100, unit="rows")
            time.sleep(0.01)

    @stack.actor()
    def whole() -> None:
        current_job().spread([rows.message() for _ in range(8)])

    message = whole.send()
    stack.work(threads=8)
    state = stack.ended(message.message_id)
    shown = [events.ms_of(event["at"]) for event in stack.events(message.message_id, "progress")]
    from_parts = sum(len(stack.events(f"{message.message_id}~{n}", "progress")) for n in range(1, 9))

    assert (800, 800, "rows") == (state["done"], state["total"], state["unit"])
    assert all(two - one >= 100 for one, two in itertools.pairwise(shown[2:]))
    assert from_parts > 2 * len(shown)


def test_the_state_is_what_a_watcher_folds(stack: Stack) -> None:
    """At every moment: what is laid over the actor's own state is what its stream has told."""

    @stack.actor()
    def rows(count: int) -> None:
        for n in range(count):
            current_job().update(done=n + 1, total=count, unit="rows")
            time.sleep(0.005)

    @stack.actor()
    def whole() -> None:
        job = current_job()
        job.update(done=3, total=3, message="reading")
        job.spread([rows.message(30), rows.message(20)])
        job.update(done=1, message="handed out")

    message = whole.send()
    stack.work(threads=3)
    state = stack.ended(message.message_id)
    told = folded(stack, message.message_id)
    names = ("state", "done", "total", "unit", "rate", "eta", "parts", "message", "result", "attempt")

    assert {name: told[name] for name in names} == {name: state[name] for name in names}


def test_another_attempt_sends_what_was_stored_and_makes_no_part_anew(stack: Stack) -> None:
    """The actor died between two messages: the next attempt sends the rest, and no part runs twice."""
    ran: list[str] = []
    made: list[int] = []
    broken = itertools.count()
    enqueue = stack.broker.enqueue

    def fragile(message: Any, *, delay: Any = None) -> Any:
        if "~" in message.message_id and next(broken) == 3:
            raise ConnectionError("the broker is away")
        return enqueue(message, delay=delay)

    stack.broker.enqueue = fragile  # type: ignore[method-assign]

    @stack.actor()
    def rows(name: str) -> None:
        ran.append(name)

    @stack.actor(max_retries=1)
    def whole() -> None:
        attempt = current_job().attempt or 0
        made.append(attempt)
        current_job().spread(rows.message(f"{attempt}.{n}") for n in range(6))

    message = whole.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert [1, 2] == made
    assert [f"1.{n}" for n in range(6)] == sorted(ran)
    assert (6, 0, 0, 6, 0, 0) == parts(state)


def test_a_message_that_came_twice_runs_its_part_once(stack: Stack) -> None:
    """While somebody works on the part the second one waits; after its end it is let go."""
    gate, ran = threading.Event(), []

    @stack.actor()
    def rows() -> None:
        ran.append(current_job().attempt)
        gate.wait(20)

    @stack.actor()
    def whole() -> None:
        current_job().spread([rows.message()])

    message = whole.send()
    stack.work(threads=4)
    until(lambda: ran)
    doubled = stack.store.send(stack.store.commands.spreads.unsent(message.message_id, 1, 1))
    outbox = stack.store.client.hget(stack.store.commands.keys.outbox(message.message_id), "1")
    stack.broker.enqueue(dramatiq.Message.decode(outbox))
    # Not the list: the worker takes a delayed message out of it at once.
    until(lambda: stack.broker.client.hlen("dramatiq:default.DQ.msgs") == 1)
    gate.set()
    state = stack.ended(message.message_id)
    stack.broker.enqueue(dramatiq.Message.decode(outbox))
    until(lambda: stack.broker.client.llen("dramatiq:default") == 0)

    assert [] == doubled
    assert [1] == ran
    assert (1, 0, 0, 1, 0, 0) == parts(state)


def test_a_cancel_reaches_what_is_queued_and_what_runs(stack: Stack) -> None:
    """Queued parts never begin, running ones stop at their next report, and then the job is cancelled."""
    began: list[int] = []

    @stack.actor()
    def rows(n: int) -> None:
        began.append(n)
        for done in range(10_000):
            current_job().update(done=done, total=10_000)
            time.sleep(0.005)

    @stack.actor()
    def whole() -> None:
        current_job().spread(rows.message(n) for n in range(10))

    message = whole.send()
    stack.work(threads=2)
    until(lambda: len(began) == 2)
    until(
        lambda: (record := stack.look(message.message_id).record) and record.spread and record.spread.released
    )
    stack.cancel(message.message_id)
    sweep(stack)
    state = stack.ended(message.message_id)

    assert "cancelled" == state["state"]
    assert (10, 0, 0, 0, 0, 10) == parts(state)
    assert 2 == len(began)


def test_what_follows_is_sent_by_the_sweep_where_its_sender_died(stack: Stack) -> None:
    """Killed between the decision and the message: the job goes on all the same."""

    @stack.actor()
    def rows() -> None: ...

    @stack.actor()
    def merge() -> str:
        return "merged"

    @stack.actor()
    def whole() -> None:
        current_job().spread([rows.message()], then=merge.message())

    enqueue = stack.broker.enqueue

    def forgetful(message: Any, *, delay: Any = None) -> Any:
        return message if message.message_id.endswith("~0") else enqueue(message, delay=delay)

    def never_noted(*_: Any) -> Any:
        raise ConnectionError("died here")

    stack.broker.enqueue = forgetful  # type: ignore[method-assign]
    noted, stack.middleware.flusher.store.commands.spreads.__class__.follow_up = (  # type: ignore[union-attr]
        stack.middleware.flusher.store.commands.spreads.__class__.follow_up,  # type: ignore[union-attr]
        never_noted,
    )
    message = whole.send()
    stack.work()
    try:
        until(
            lambda: (r := stack.look(message.message_id).record) and r.spread and r.spread.follow_up == "due"
        )
    finally:
        stack.middleware.flusher.store.commands.spreads.__class__.follow_up = noted  # type: ignore[union-attr,method-assign]
        stack.broker.enqueue = enqueue  # type: ignore[method-assign]
    state = stack.ended(message.message_id)

    assert ("succeeded", "merged") == (state["state"], state["result"])


def test_parts_live_as_long_as_their_job(stack: Stack) -> None:
    """None expires before it, each does with it."""

    @stack.actor()
    def rows() -> None: ...

    @stack.actor()
    def whole() -> None:
        current_job().spread([rows.message(), rows.message()])

    message = whole.send()
    stack.work()
    stack.ended(message.message_id)
    keys = stack.store.commands.keys
    before = stack.store.client.ttl(keys.state(f"{message.message_id}~1"))
    until(lambda: stack.store.client.ttl(keys.parts(message.message_id)) > 0)
    lives = [stack.store.client.ttl(keys.state(name)) for name in _family(message.message_id, 2)]

    assert -1 == before
    assert all(0 < life <= stack.settings.state_seconds for life in lives)


def test_a_sealed_job_without_a_worker_of_its_own_is_never_stalled(stack: Stack) -> None:
    """Its actor is through; its parts are watched, each for itself."""
    gate = threading.Event()

    @stack.actor()
    def rows() -> None:
        gate.wait(20)

    @stack.actor()
    def whole() -> None:
        current_job().spread([rows.message()])

    message = whole.send()
    stack.work()
    until(lambda: (r := stack.look(message.message_id).record) and r.spread and r.spread.released)
    record = stack.look(message.message_id).record
    assert record is not None
    later = stack.look(message.message_id).now + 7_200_000
    verdict = verdicts.verdict(record, later, verdicts.Limits(15_000, 3_600_000))
    gate.set()

    assert verdicts.Wait(None) == verdict
    assert "succeeded" == stack.ended(message.message_id)["state"]


def test_a_pipeline_is_shown_as_the_steps_of_one_job(stack: Stack) -> None:
    """One after another, each with the result of the one before; the last one's end is the job's."""

    @stack.actor()
    def add(one: int, other: int) -> int:
        return one + other

    @stack.actor()
    def whole() -> None:
        current_job().spread(
            dramatiq.pipeline([add.message(1, 2), add.message(10), add.message(100)], broker=stack.broker)
        )

    message = whole.send()
    stack.work(threads=4)
    state = stack.ended(message.message_id)
    told = [(event["part"], event["state"]) for event in stack.events(message.message_id, "part")]

    assert [(n, how) for n in (1, 2, 3) for how in ("running", "succeeded")] == told
    assert ("succeeded", (3, 0, 0, 3, 0, 0)) == (state["state"], parts(state))
    assert [3, 13, 113] == [stack.state(f"{message.message_id}~{n}")["result"] for n in (1, 2, 3)]


def test_a_step_that_fails_ends_those_that_wait_for_it(stack: Stack) -> None:
    """They never come: nobody waits for them, and the job fails."""

    @stack.actor()
    def step(fails: bool, *before: object) -> None:
        if fails:
            raise ValueError("no")

    @stack.actor()
    def whole() -> None:
        steps = [step.message(False), step.message(True), step.message(False), step.message(False)]
        current_job().spread(dramatiq.pipeline(steps, broker=stack.broker))

    message = whole.send()
    stack.work(threads=4)
    state = stack.ended(message.message_id)

    assert ("failed", (4, 0, 0, 1, 1, 2)) == (state["state"], parts(state))
    assert ["succeeded", "failed", "cancelled", "cancelled"] == [
        stack.state(f"{message.message_id}~{n}")["state"] for n in (1, 2, 3, 4)
    ]


def test_a_group_is_spread_as_its_messages_are(stack: Stack) -> None:
    """Dramatiq's own way of saying so."""

    @stack.actor()
    def rows(n: int) -> int:
        return n

    @stack.actor()
    def whole() -> int:
        return current_job().spread(dramatiq.group([rows.message(n) for n in range(3)], broker=stack.broker))

    message = whole.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert (3, (3, 0, 0, 3, 0, 0)) == (state["result"], parts(state))


def test_what_another_attempt_put_by_and_never_closed_is_no_part(stack: Stack) -> None:
    """It died with six parts stored; the next one has two."""
    commands = stack.store.commands
    made: list[int] = []

    @stack.actor()
    def rows() -> None: ...

    @stack.actor(max_retries=1)
    def whole() -> None:
        job = current_job()
        made.append(job.attempt or 0)

        def messages() -> Any:
            yield from (rows.message() for _ in range(2 if job.attempt == 2 else AT_ONCE + 3))
            if job.attempt == 1:
                raise RuntimeError("died here")

        job.spread(messages())

    message = whole.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert [1, 2] == made
    assert (2, 0, 0, 2, 0, 0) == parts(state)
    assert 2 == stack.store.client.hlen(commands.keys.parts(message.message_id))
    assert None is stack.look(f"{message.message_id}~3").record


def test_more_parts_may_come_until_the_spread_is_sealed(stack: Stack) -> None:
    """The numbers go on; the actor's return seals."""

    @stack.actor()
    def rows(n: int) -> None: ...

    @stack.actor()
    def whole() -> int:
        job = current_job()
        return job.spread([rows.message(1)], seal=False) + 10 * job.spread(rows.message(n) for n in range(2))

    message = whole.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert (31, (3, 0, 0, 3, 0, 0)) == (state["result"], parts(state))


def test_what_cannot_be_spread_is_refused_before_anything_is_stored(stack: Stack) -> None:
    """The error names the fault and what is allowed."""
    said: list[str] = []

    @stack.actor()
    def rows() -> None: ...

    @stack.actor()
    def whole() -> None:
        job = current_job()
        for wrong in (
            {"messages": ["no message"]},
            {"messages": [rows.message()], "weights": [1, 2]},
            {"messages": [rows.message()], "weights": [float("nan")]},
            {"messages": [rows.message()], "on_failure": "ignore"},
        ):
            with pytest.raises(InvalidInput) as error:
                job.spread(**wrong)  # type: ignore[arg-type]
            said.append(str(error.value))

    message = whole.send()
    stack.work()
    state = stack.ended(message.message_id)

    assert ("succeeded", None) == (state["state"], state["parts"])
    assert ["messages", "weights", "weights", "on_failure"] == [text.split(":")[0] for text in said]


def sweep(stack: Stack) -> None:
    """One whole sweep, now."""
    sweeper = Sweeper(stack.store, stack.settings)
    until(lambda: sweeper.run_once() or stack.store.client.exists(stack.store.commands.keys.sweeper()))


def _family(job: str, count: int) -> list[str]:
    return [job, *(f"{job}~{n}" for n in range(1, count + 1))]
