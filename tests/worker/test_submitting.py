"""Starting an actor without its code: what is announced, which arguments pass, and that nothing is sent twice or left behind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker

from progress_stream import ProgressMiddleware, Upload
from progress_stream.accepting import Announced, arguments, file_argument, from_form
from progress_stream.errors import BrokerRefused, IdempotencyConflict, InvalidInput, UnknownActor
from progress_stream.reporting.announcing import announcements
from progress_stream.settings import Settings
from progress_stream.submitting import Submission, Submitter, job_id_for
from tests.worker.conftest import Stack, until

FILE = {"key": "job/" + "0" * 32, "name": "a.csv", "media_type": "text/csv", "size": 3}


@pytest.fixture
def submitter(stack: Stack, settings: Settings) -> Iterator[Submitter]:
    """An actor is announced, and nobody works yet."""

    @stack.actor(submit=True, title="Write letters")
    def letters(
        file: Upload,
        template: str,
        most: int = 10,
        share: float = 0.5,
        dry: bool = False,
        tag: str | None = None,
    ) -> Any:
        return [file.name, file.bytes().decode(), template, most]

    @stack.actor(submit=True)
    def add(a: int, b: int) -> int:
        return a + b

    commands = stack.store.commands
    stack.store.send(commands.announce(announcements(stack.broker.actors, None), 60))
    made = Submitter(settings, stack.store)
    yield made
    made.close()


def test_an_announced_actor_is_started_by_name(stack: Stack, submitter: Submitter) -> None:
    """With the caller as owner; the worker runs it as any other message."""
    submitted = submitter.submit(Submission("add", {"a": 1, "b": 2}, owner="alice", title="Sum"))
    queued = stack.state(submitted.job)
    stack.work()
    state = stack.ended(submitted.job)

    assert submitted.created
    assert ("queued", "alice", "Sum") == (queued["state"], queued["owner"], queued["title"])
    assert 3 == state["result"]


def test_how_often_it_is_tried_at_most_is_known_once_it_starts(stack: Stack, settings: Settings) -> None:
    """The server that sent it has none of the actor's code, and a job that is run once more none of the old one's options."""

    @stack.actor(submit=True, max_retries=2)
    def add(a: int, b: int) -> int:
        return a + b

    stack.store.send(stack.store.commands.announce(announcements(stack.broker.actors, None), 60))
    old = add.send_with_options(args=(1, 2), max_retries=5)
    stack.work()
    submitter = Submitter(settings, stack.store)
    sent = submitter.submit(Submission("add", {"a": 1, "b": 2}))
    repeated = submitter.repeat(
        submitter.actor("add"), stack.ended(old.message_id), job_id_for(None, None), (1, 2), {}
    )
    submitter.close()

    most = [stack.ended(job)["max_attempts"] for job in (old.message_id, sent.job, repeated.job)]
    assert [6, 3, 3] == most


def test_a_file_reaches_the_actor_as_an_upload(stack: Stack, submitter: Submitter) -> None:
    """Also in a retry, for the message keeps the plain reference."""
    job = job_id_for(None, None)
    ref = stack.middleware._files.save(job, "people.csv", "text/csv", [b"a,b"])
    submission = Submission("letters", {"template": "Hi"}, owner="alice", files={"file": ref}, job=job)
    submitter.submit(submission)
    stack.work()

    assert ["people.csv", "a,b", "Hi", 10] == stack.ended(job)["result"]


def test_an_unknown_actor_is_refused_with_the_known_ones(submitter: Submitter) -> None:
    """Whoever asks sees what there is."""
    with pytest.raises(UnknownActor, match=r"add, letters"):
        submitter.submit(Submission("remove", {}))
    assert ["add", "letters"] == [actor.name for actor in submitter.actors()]


def test_the_same_key_gives_the_same_job(stack: Stack, submitter: Submitter) -> None:
    """One message, whoever repeats the request; another caller's key is another job."""
    wanted = Submission("add", {"a": 1, "b": 2}, owner="alice", idempotency_key="k1")
    first, again = submitter.submit(wanted), submitter.submit(wanted)
    other = submitter.submit(Submission("add", {"a": 1, "b": 2}, owner="bob", idempotency_key="k1"))

    assert (True, False) == (first.created, again.created)
    assert first.job == again.job != other.job
    assert 2 == stack.broker.do_qsize("default")


def test_the_same_key_with_other_content_is_a_conflict(submitter: Submitter) -> None:
    """Arguments, actor, title and the bytes of a file are the content."""
    submitter.submit(Submission("add", {"a": 1, "b": 2}, idempotency_key="k"))

    with pytest.raises(IdempotencyConflict):
        submitter.submit(Submission("add", {"a": 1, "b": 3}, idempotency_key="k"))


def test_a_broker_that_refuses_leaves_no_ghost(
    stack: Stack, submitter: Submitter, settings: Settings
) -> None:
    """And the same key works as soon as the broker is back."""
    wanted = Submission("add", {"a": 1, "b": 2}, owner="alice", idempotency_key="again")
    refusing = Submitter(settings, stack.store, RedisBroker(url="redis://127.0.0.1:1/0", middleware=[]))
    with pytest.raises(BrokerRefused):
        refusing.submit(wanted)
    look = stack.look(job_id_for("alice", "again"))
    submitted = submitter.submit(wanted)

    assert look.record is None
    assert not look.tombstone
    assert submitted.created


def test_a_job_whose_first_message_was_never_sent_is_enqueued_again(
    stack: Stack, submitter: Submitter, settings: Settings
) -> None:
    """The web server died between making the job and sending its message: the repeat sends it, when nobody claims to any more."""
    wanted = Submission("add", {"a": 2, "b": 2}, owner="alice", idempotency_key="died")
    dying = Submitter(settings, stack.store, stack.broker, claim_seconds=0.2)
    dying._enqueue = lambda *_: (_ for _ in ()).throw(SystemExit)  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        dying.submit(wanted)
    submitted = submitter.submit(wanted)
    stack.work()

    assert not submitted.created
    assert 4 == stack.ended(submitted.job)["result"]


@pytest.mark.parametrize(
    ("args", "files", "field"),
    [
        ({"template": "x"}, {}, "file"),
        ({"file": "text", "template": "x"}, {}, "file"),
        ({"file": FILE, "template": "x"}, {}, "file"),
        ({}, {"file": FILE}, "template"),
        ({"template": 3}, {"file": FILE}, "template"),
        ({"template": "x", "most": "many"}, {"file": FILE}, "most"),
        ({"template": "x", "most": 1.5}, {"file": FILE}, "most"),
        ({"template": "x", "other": 1}, {"file": FILE}, "other"),
        ({"template": "x"}, {"file": FILE, "template": FILE}, "template"),
    ],
)
def test_a_wrong_argument_is_named(
    submitter: Submitter, args: dict[str, Any], files: dict[str, Any], field: str
) -> None:
    """A file reference in JSON is refused: it could name another job's file."""
    with pytest.raises(InvalidInput) as caught:
        arguments(submitter.actor("letters"), args, files)

    assert field == caught.value.field
    assert caught.value.allowed


def test_a_form_is_read_by_the_schema(submitter: Submitter) -> None:
    """A form knows only text; what is no number is refused, and never guessed."""
    actor = submitter.actor("letters")
    fields = {"template": "12", "most": "12", "share": "0.25", "dry": "on", "tag": ""}

    assert {"template": "12", "most": 12, "share": 0.25, "dry": True, "tag": None} == from_form(actor, fields)
    assert "file" == file_argument(actor)
    for name, text in (("most", "1e3"), ("most", "1_0"), ("share", "nan"), ("dry", "maybe")):
        with pytest.raises(InvalidInput) as caught:
            from_form(actor, {name: text})
        assert name == caught.value.field


def test_an_announcement_of_another_kind_is_passed_over(stack: Stack, submitter: Submitter) -> None:
    """A newer worker may say what this server does not understand."""
    stack.store.send(
        stack.store.commands.announce({"odd": json.dumps([1]).encode(), "older": b"not json"}, 60)
    )

    assert ["add", "letters"] == [actor.name for actor in submitter.actors()]


def test_nothing_is_announced_for_queues_that_are_not_consumed(stack: Stack, submitter: Submitter) -> None:
    """A worker started with `-Q` offers what it would run."""
    assert {} == announcements(stack.broker.actors, frozenset({"other"}))
    assert {"add", "letters"} == set(announcements(stack.broker.actors, frozenset({"default"})))
    assert "default" == Announced.parse(announcements(stack.broker.actors, None)["add"]).queue


def test_a_worker_that_goes_is_forgotten(stack: Stack, tmp_path: Path) -> None:
    """An announcement is renewed; one that is not runs out."""
    commands = stack.store.commands
    stack.store.send(commands.announce({"gone": b"{}"}, 1))

    until(lambda: not stack.store.send(commands.announced(["gone"])), 5)


def test_a_reference_that_is_no_file_fails_the_job_before_it_begins(
    stack: Stack, submitter: Submitter
) -> None:
    """The actor never meets a dict where it expects an Upload."""
    message = stack.broker.actors["letters"].send({"key": "../../etc/passwd"}, "x")
    stack.work()
    state = stack.ended(message.message_id)

    assert "failed" == state["state"]
    assert "file" in state["error"]["message"]


def test_an_actor_that_only_reports_is_announced_and_cannot_be_started_from_outside() -> None:
    """Its queued jobs are known to be served; without `submit=` HTTP cannot start it."""

    @dramatiq.actor(broker=StubBroker(middleware=[ProgressMiddleware()]), progress=True)
    def quiet() -> None:
        """Reports, and is sent by its own application."""

    (announced,) = announcements({"quiet": quiet}, None).values()

    with pytest.raises(ValueError, match="outside"):
        Announced.parse(announced)
