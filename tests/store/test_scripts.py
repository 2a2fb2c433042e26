"""Each script's promise against a real Redis: all of a call or nothing of it, and only the newest attempt writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from progress_stream import events, jobs
from progress_stream.errors import AlreadyEnded, NoSuchJob, SequenceHole, StaleAttempt, Tombstoned
from progress_stream.events import BEGINNING, EventId
from progress_stream.jobs import Header
from progress_stream.settings import Settings, load
from progress_stream.store.answers import Look, Started, Worn
from progress_stream.store.keys import STATES
from progress_stream.store.sync import SyncStore
from tests.support.redis import RedisServer
from tests.support.watching import Writer


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    return load(redis_url=redis_url, namespace=namespace, max_starts=3)


@pytest.fixture
def writer(redis_client: redis.Redis, settings: Settings) -> Writer:
    writer = Writer(redis_client, settings, "job")
    writer.create()
    writer.start()
    return writer


@pytest.fixture
def look(writer: Writer) -> Callable[[], Look]:
    return lambda: writer.store.send(writer.store.commands.look("job", BEGINNING, 100))


def start(
    writer: Writer, nonce: str, *, may_create: bool = True, header: Header | None = None
) -> Started | Worn:
    event = events.make(writer.job, "started", at=events.now_text())
    call = writer.store.commands.start(header or writer.header, event, nonce, may_create=may_create)
    return writer.store.send(call)


def test_a_job_is_created_once(writer: Writer, look: Callable[[], Look]) -> None:
    """A second create says what is there and adds nothing."""
    event = events.make("job", "queued", at=events.now_text())
    again = writer.store.send(writer.store.commands.create(writer.header, event))

    assert again.id is None
    assert "running" == again.status
    assert [b"queued", b"started"] == [type for _, type, _ in look().entries]


def test_numbers_are_dense_and_epochs_do_not_change_by_themselves(
    writer: Writer, look: Callable[[], Look]
) -> None:
    """n counts 1, 2, 3 … in one epoch of about the time of creation."""
    writer.append(count=5)
    writer.append(count=2)
    found = look()

    assert list(range(1, 10)) == [id.n for id, _, _ in found.entries]
    assert 1 == len({id.epoch for id, _, _ in found.entries})
    assert abs(found.now - found.entries[0][0].epoch) < 70_000


def test_an_append_whose_answer_was_lost_is_not_doubled(writer: Writer, look: Callable[[], Look]) -> None:
    """The repeated call keeps its sequence numbers, so it gets the stored answer."""
    first = writer.append(count=3)
    again = writer.append_again_from(1)

    assert first.id == again.id
    assert 5 == len(look().entries)


def test_a_batch_that_is_known_in_part_is_taken_from_there(writer: Writer, look: Callable[[], Look]) -> None:
    """Events up to the last one known are skipped, the rest appended."""
    writer.append(count=3)
    batch = [*writer.sent, ("line", writer.sent[0][1]), ("line", writer.sent[0][1])]
    call = writer.store.commands.append("job", 1, writer.nonce, 1, batch, writer.state)
    writer.store.send(call)

    assert 7 == len(look().entries)
    assert EventId(look().entries[0][0].epoch, 7) == look().entries[-1][0]


def test_a_hole_is_refused_and_nothing_of_the_call_is_kept(writer: Writer, look: Callable[[], Look]) -> None:
    """A pipeline whose third command failed must not let the fourth in."""
    writer.append(count=2)
    with pytest.raises(SequenceHole) as caught:
        writer.store.send(writer.store.commands.append("job", 1, "first", 5, writer.sent, writer.state))

    assert 2 == caught.value.last
    assert 4 == len(look().entries)


def test_a_jump_leaves_one_number_empty(writer: Writer, look: Callable[[], Look]) -> None:
    """What cannot be sent again is seen as a gap by every reader."""
    writer.append(count=2)
    call = writer.store.commands.append("job", 1, "first", 9, [writer.sent[0]], writer.state, jump=True)
    writer.store.send(call)

    assert [1, 2, 3, 4, 6] == [id.n for id, _, _ in look().entries]


def test_a_zombie_cannot_write(writer: Writer, look: Callable[[], Look]) -> None:
    """A later attempt has taken over: events, signs of life and late repeats of the start are refused."""
    start(writer, "second")
    before = look().entries
    with pytest.raises(StaleAttempt):
        writer.append()
    with pytest.raises(StaleAttempt):
        writer.store.send(writer.store.commands.append("job", 1, "first", 1, [], None))
    with pytest.raises(StaleAttempt):
        start(writer, "first")

    assert before == look().entries


def test_an_equal_attempt_with_another_nonce_is_refused(writer: Writer) -> None:
    """After a lost tail an attempt can be handed out twice: the first one in the store wins."""
    with pytest.raises(StaleAttempt):
        writer.store.send(writer.store.commands.append("job", 1, "other", 1, [], None))


def test_a_repeated_start_gets_its_answer(writer: Writer, look: Callable[[], Look]) -> None:
    """Its answer was lost: the same nonce is the same attempt."""
    first = start(writer, "second")

    assert first == start(writer, "second")
    assert 3 == len(look().entries)


def test_a_message_that_kills_its_workers_is_worn_in_the_end(writer: Writer) -> None:
    """Three starts in a row without an end are allowed here, and a retry in order begins the count anew."""
    start(writer, "second")
    third = start(writer, "third")
    assert isinstance(third, Started)
    writer.attempt, writer.nonce, writer.sequence = 3, "third", 0

    assert isinstance(start(writer, "fourth"), Worn)

    writer.append("retrying", error={"type": "E", "message": "m"}, next_at=events.now_text())
    assert isinstance(start(writer, "fifth"), Started)


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_terminal_is_final(
    writer: Writer, look: Callable[[], Look], redis_client: redis.Redis, end: str
) -> None:
    """Nothing is appended after it, nobody starts again, and only then do the keys get a life."""
    keys = writer.store.commands.keys
    assert -1 == redis_client.ttl(keys.state("job"))
    writer.append(end)
    for attempt in (lambda: writer.append(), lambda: start(writer, "second")):
        with pytest.raises(AlreadyEnded, match=end):
            attempt()

    assert 3 == len(look().entries)
    assert 0 < redis_client.ttl(keys.events("job")) <= 3_600
    assert 3_600 < redis_client.ttl(keys.state("job")) <= 86_400


def test_a_lost_answer_to_the_end_is_given_again(writer: Writer) -> None:
    """Seen is asked before terminal."""
    first = writer.append("succeeded")

    assert first.id == writer.append_again_from(1).id


def test_what_is_not_there_is_not_brought_back_by_an_append(
    writer: Writer, redis_client: redis.Redis
) -> None:
    """Only a start with its header may, and only when its message is young."""
    redis_client.delete(*writer.store.commands.keys.of("job"))
    with pytest.raises(NoSuchJob):
        writer.append()
    with pytest.raises(NoSuchJob):
        start(writer, "second", may_create=False)

    assert writer.store.send(writer.store.commands.look("job")).record is None

    start(writer, "second")
    assert writer.store.send(writer.store.commands.look("job")).record is not None


def test_a_job_that_is_brought_back_lies_above_what_its_reporter_knew(
    writer: Writer, redis_client: redis.Redis
) -> None:
    """The new epoch is above the last id, n goes on, and so does the attempt."""
    last = writer.append(count=4).id
    assert last is not None
    redis_client.delete(*writer.store.commands.keys.of("job"))
    event = events.make("job", "started", at=events.now_text())
    ahead = EventId(last.epoch + 10_000_000, last.n)
    call = writer.store.commands.start(
        writer.header, event, "x", may_create=True, last=ahead, least_attempt=4
    )
    started = writer.store.send(call)
    assert isinstance(started, Started)

    assert 4 == started.attempt
    assert started.id.epoch > ahead.epoch
    assert ahead.n + 1 == started.id.n


def test_an_attempt_that_a_server_lost_is_taken_again_under_its_number(writer: Writer) -> None:
    """Its events say which attempt they are of, and are sent again as they are: the state must not say another."""
    event = events.make("job", "started", at=events.now_text())
    call = writer.store.commands.start(writer.header, event, "third", may_create=True, least_attempt=3)
    started = writer.store.send(call)
    assert isinstance(started, Started)

    assert 3 == started.attempt


def test_a_deleted_job_stays_deleted(writer: Writer, redis_client: redis.Redis) -> None:
    """A tombstone outlives every message of that id; running jobs are not deleted."""
    commands = writer.store.commands
    with pytest.raises(AlreadyEnded, match="running"):
        writer.store.send(commands.remove("job", statuses=["failed"], tombstone=True))
    writer.append("failed", error={"type": "E", "message": "m"})
    writer.store.send(commands.remove("job", statuses=["failed"], tombstone=True))
    for attempt in (lambda: writer.append(), lambda: start(writer, "late"), lambda: writer.create()):
        with pytest.raises(Tombstoned):
            attempt()

    found = writer.store.send(commands.look("job", BEGINNING, 10))
    assert (None, True, []) == (found.record, found.tombstone, found.entries)
    assert redis_client.ttl(commands.keys.state("job")) > 80_000


def test_a_stream_that_is_gone_alone_begins_a_new_epoch(
    writer: Writer, look: Callable[[], Look], redis_client: redis.Redis
) -> None:
    """One of two keys was evicted: the count goes on, and the epoch says that something is missing."""
    before = writer.append(count=2).id
    assert before is not None
    redis_client.delete(writer.store.commands.keys.events("job"))
    after = writer.append().id
    assert after is not None

    assert before.n + 1 == after.n
    assert after.epoch > before.epoch
    assert [after] == [id for id, _, _ in look().entries]


@pytest.mark.parametrize("what", ["later entry", "last of all ids", "another kind"])
def test_a_stream_that_somebody_else_took_over_is_begun_anew(
    writer: Writer, look: Callable[[], Look], redis_client: redis.Redis, what: str
) -> None:
    """Redis takes no entry of ours there any more: the job goes on all the same, and the epoch says that something is missing."""
    before = writer.append(count=2).id
    assert before is not None
    events_key = writer.store.commands.keys.events("job")
    if what == "another kind":
        redis_client.delete(events_key)
        redis_client.set(events_key, "x")
    else:
        last = "18446744073709551615-18446744073709551615"
        redis_client.xadd(
            events_key, {"x": "y"}, id=last if what == "last of all ids" else "99999999999999-1"
        )
    after = writer.append(count=2).id
    assert after is not None

    assert before.n + 2 == after.n
    assert after.epoch > before.epoch
    assert [after.n - 1, after.n] == [id.n for id, _, _ in look().entries]


def test_a_state_that_is_gone_alone_takes_the_stream_with_it(
    writer: Writer, look: Callable[[], Look], redis_client: redis.Redis
) -> None:
    """A stream without its count could be read as another's history."""
    redis_client.delete(writer.store.commands.keys.state("job"))
    start(writer, "second")

    assert [b"started"] == [type for _, type, _ in look().entries]


def test_every_script_touches_the_keys_of_one_partition_alone(writer: Writer) -> None:
    """One hash tag, so that a Cluster can run it; parts lie with their parent."""
    keys = writer.store.commands.keys
    tags = {
        key.partition("{")[2].partition("}")[0]
        for key in (*keys.of("job"), keys.channel("job"), *keys.of("job~7"))
    }

    assert 1 == len(tags)


@pytest.mark.parametrize("kind", ["stalled", "cancelling"])
def test_others_step_in_only_where_all_is_as_they_saw_it(
    writer: Writer, look: Callable[[], Look], kind: str
) -> None:
    """Guarded by status, attempt and sign of life; once; and the next event of the worker clears `stalled`."""
    commands = writer.store.commands
    field = {"stalled": "stalled_at", "cancelling": "cancel_at"}[kind]
    record = look().record
    assert record is not None
    event = events.make("job", kind, at=events.now_text())
    stale = commands.intervene("job", event, statuses=["running"], attempt=7, field=field)
    good = commands.intervene(
        "job", event, statuses=["running"], attempt=1, seen_at=record.seen_at, field=field
    )

    assert writer.store.send(stale) is None
    assert writer.store.send(good) is not None
    assert writer.store.send(good) is None
    assert {"attempt": 1, "type": kind}.items() <= events.decode(look().entries[-1][2]).items()

    answer = writer.append()
    assert (kind == "cancelling", kind == "stalled") == (answer.cancel_requested, answer.stalled)
    record = look().record
    assert record is not None
    assert record.stalled_at is None


def test_an_end_by_others_is_final_and_shown(writer: Writer, look: Callable[[], Look]) -> None:
    """The sweep's `Lost` cannot be overwritten by the worker that comes back."""
    error = {"type": "Lost", "message": "no sign"}
    event = events.make("job", "failed", at=events.now_text(), error=error)
    writer.store.send(writer.store.commands.intervene("job", event, statuses=["running"], attempt=1))
    with pytest.raises(AlreadyEnded):
        writer.append()
    record = look().record
    assert record is not None

    assert ("failed", error) == (jobs.view(record)["state"], jobs.view(record)["error"])


@pytest.mark.contract("HISTORY_EVENTS")
def test_trimming_keeps_about_the_newest(redis_client: redis.Redis, redis_url: str, namespace: str) -> None:
    """HISTORY_EVENTS is a lower bound; Redis drops whole nodes."""
    settings = load(redis_url=redis_url, namespace=namespace, history_events=100)
    writer = Writer(redis_client, settings, "job")
    writer.create()
    writer.start()
    for _ in range(10):
        writer.append(count=100)

    assert 100 <= redis_client.xlen(writer.store.commands.keys.events("job")) < 300


@pytest.fixture
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("own"), options={"appendfsync": "always"}) as server:
        yield server


def test_a_restarted_server_begins_an_epoch_and_keeps_the_count(
    restarted: RedisServer, namespace: str
) -> None:
    """Its replication id is another one: whoever reads can tell."""
    settings = load(redis_url=restarted.url(), namespace=namespace)
    with restarted.client() as client:
        writer = Writer(client, settings, "job")
        writer.create()
        writer.start()
        before = writer.append().id
    restarted.kill9()
    restarted.start()
    with restarted.client() as client:
        writer.store = SyncStore(client, settings)
        after = writer.append().id
    assert before is not None
    assert after is not None

    assert before.n + 1 == after.n
    assert after.epoch > before.epoch


def test_an_owners_lists_are_hints_by_creation_time(writer: Writer) -> None:
    """All, by state, by actor and by both; newest first."""
    commands = writer.store.commands
    for at, job, actor, state in [
        (1, "a", "x", "queued"),
        (3, "c", "y", "running"),
        (2, "b", "x", "running"),
    ]:
        writer.store.send(commands.lists.hint("alice", job, at, actor, state, done=True))
    lists = ((None, None), ("running", None), (None, "x"), ("running", "x"))
    listed = [writer.store.send(commands.lists.page("alice", *which, None, 10)) for which in lists]

    assert [[(3, "c"), (2, "b"), (1, "a")], [(3, "c"), (2, "b")], [(2, "b"), (1, "a")], [(2, "b")]] == listed
    assert [] == writer.store.send(commands.lists.page("bob", None, None, None, 10))


def test_a_job_is_in_two_states_lists_only_while_it_is_moved(writer: Writer) -> None:
    """Between the two words of its writer: who dies there leaves a hint too many and none too few."""
    commands = writer.store.commands
    moves = [
        ("queued", False),
        ("queued", True),
        ("running", False),
        ("running", True),
        ("failed", False),
        ("failed", True),
    ]
    seen = []
    for state, done in moves:
        writer.store.send(commands.lists.hint("alice", "a", 1, "x", state, done=done))
        lists = [
            state for state in STATES if writer.store.send(commands.lists.page("alice", state, "x", None, 1))
        ]
        seen.append(lists)

    assert [
        ["queued"],
        ["queued"],
        ["queued", "running"],
        ["running"],
        ["running", "failed"],
        ["failed"],
    ] == seen


def test_what_is_unlisted_is_in_no_list_and_stays_among_the_changes(
    writer: Writer, redis_client: redis.Redis
) -> None:
    """Who looks back later must learn that it is gone."""
    commands = writer.store.commands
    writer.store.send(commands.lists.hint("alice", "a", 1, "x", "failed", done=True))
    now = writer.store.send(commands.lists.unlist("alice", "a", "x", 5_000))

    assert [(now + 5_000, "a")] == writer.store.send(commands.lists.changed_since("alice", now, 0, 10))
    assert [now + 5_000, None] == writer.store.send(commands.lists.changes_of("alice", ["a", "b"]))
    assert 0 == redis_client.exists(*commands.keys.lists("alice", "x"))


def test_announcements_run_out(writer: Writer, redis_client: redis.Redis) -> None:
    """What no worker renews any more cannot be started."""
    commands = writer.store.commands
    writer.store.send(commands.announce({"one": b"{}", "two": b'{"x":1}'}, 60))
    redis_client.delete(f"{commands.keys.actors()}:one")
    names = writer.store.send(commands.announced_names())

    assert {"two": b'{"x":1}'} == writer.store.send(commands.announced(names))


def test_an_emptied_server_has_another_marker(writer: Writer, redis_client: redis.Redis) -> None:
    """FLUSHALL leaves the replication id as it was."""
    commands = writer.store.commands
    first = writer.store.send(commands.marker("one"))
    same = writer.store.send(commands.marker("two"))
    redis_client.delete(commands.keys.marker())

    assert ("one", "one", "three") == (first, same, writer.store.send(commands.marker("three")))
