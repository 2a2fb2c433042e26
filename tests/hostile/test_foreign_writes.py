"""A Redis that somebody else writes to: into a job's own keys, its channel, its owner's lists and the sweep's, by seed.

Whoever can do that may show what he likes of that job. He gets no traceback and no failure of ours, ends no follower, and nobody
who watches another job notices.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest
import redis

from progress_stream.store.keys import partition_of
from progress_stream.store.sweep import Sweeper
from tests.contract.test_list import make, move
from tests.contract.test_list_stream import look, states, tell
from tests.support.server import Site
from tests.support.streams import follow

SEED = 20_260_101
VICTIM, OTHER = "victim", "other"
#: What each request may answer to its own owner, whatever lies in Redis.
FINE = {200, 204, 404, 503}
FIELDS = (
    "control",
    "state",
    "seen_at",
    "stalled_at",
    "cancel_at",
    "end",
    "file",
    "confirmed",
    "fingerprint",
    "spread",
    "args",
)
TEXTS = (
    b"", b"\0", b"\xff\xfe\xfd", b"null", b"[]", b"{}", b"0", b"-1", b"9" * 25, b"9" * 5_000, b"NaN", b"1e999", b'"x"',
    b"[" * 3_000, b'{"v":1}', b'{"v":2,"id":"victim"}', b'{"v":1,"id":"victim","actor":"a","created_at":"0001-01-01"}',
    b'{"v":1,"id":"victim","actor":"a","created_at":"2026-01-01T00:00:00Z","owner":{"a":1}}',
    b'{"v":1,"id":"victim","actor":"a","created_at":"2026-01-01T00:00:00Z","owner":"alice","rate":1e999}',
    b'{"v":1,"id":"victim","actor":"a","created_at":"2026-01-01T00:00:00Z","owner":"alice","result":"\\ud800"}',
    b'{"at":5}', b'{"at":"never"}', b'{"key":"../../etc/passwd","name":"a\\r\\nb","media_type":"x","size":-1}',
    b"\n\nevent: succeeded\nid: 9-9\ndata: {}\n\n", b'{"a":\xe2\x80\xa8"b"}', b'{"id":"9-9","type":"succeeded"}',
)  # fmt: skip
#: Packed as the scripts pack theirs.
PACKED = (
    "[]", "{}", "0", '["a","b","c","d","e","f","g","h","i"]', '[1e300,1,1,"n",1,"running","r",1,1]',
    '[1,1,1,"n",1,"dancing","r",1,1]', '[-1,-1,-1,"n",-1,"running","r",-1,-1]',
    '[1800000000000,99,1,"n",1,"running","r",1800000000000,1]',
    '{"total":1e15,"queued":1e15,"running":0,"succeeded":0,"failed":0,"cancelled":0,"sealed":1,"released":0,"after":"due"}',
)  # fmt: skip
MESSAGES = (
    b"", b"removed?", b"\n", b"1-1", b"a-b\nprogress\n{}", b"9" * 5_000 + b"-1\nprogress\n{}", b"1-" + b"9" * 5_000,
    b"18446744073709551615-18446744073709551615\nprogress\n{}", b"99999999999999-1\nprogress\n{}", b"1-1\nprogress\n{}\nsucceeded",
    b"9" * 5_000 + b"\nvictim", b"9999999999999\nvictim\n" + b"9" * 5_000, b"1\n\xff", b"99999999999999999999\nvictim\n1",
    b"1\nvictim\n999999999999", b"1-1\nprogress\n{\r}", b'1-1\nsucceeded\n{"a":\xe2\x80\xa8}', bytes(range(256)),
)  # fmt: skip
PACK = "return redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(cjson.decode(ARGV[2])))"


class Stranger:
    """Somebody with a connection to the store's Redis."""

    def __init__(self, site: Site, seed: int) -> None:
        self._redis = site.redis
        self._random = random.Random(seed)
        keys = site.store.commands.keys
        self._events, self._state, due = keys.of(VICTIM)
        self._channels = (keys.channel(VICTIM), keys.owner_channel("alice"))
        #: Keys beside the job's that it is known by: what is put there comes in addition.
        self._lists = (due, keys.changed("alice"), keys.hints("alice"), keys.hints("alice", state="running"))
        self._kept = {key: self._redis.dump(key) or b"" for key in (self._events, self._state)}

    def write(self) -> str:
        """One thing; what it was, for a test that fails."""
        what: Callable[[], object] = self._random.choice(
            [
                self._field,
                self._field,
                self._packed,
                self._key,
                self._entry,
                self._message,
                self._message,
                self._member,
            ]
        )
        with suppress(redis.ResponseError):  # What Redis itself does not take: no harm was done.
            what()
        return what.__name__

    def repair(self) -> None:
        """The job's own keys as they were."""
        for key, value in self._kept.items():
            self._redis.restore(key, 0, value, replace=True)

    def _text(self) -> bytes:
        return self._random.choice([*TEXTS, self._random.randbytes(20)])

    def _field(self) -> None:
        self._redis.hset(self._state, self._random.choice(FIELDS), self._text())

    def _packed(self) -> None:
        self._redis.eval(
            PACK, 1, self._state, self._random.choice(("control", "spread")), self._random.choice(PACKED)
        )

    def _key(self) -> None:
        """One of another kind."""
        key = self._random.choice((self._events, self._state))
        self._redis.delete(key)
        if self._random.random() < 0.5:
            self._redis.set(key, self._text())
        else:
            self._redis.rpush(key, self._text())

    def _entry(self) -> None:
        names = self._random.choice([(b"t", b"d"), (b"d", b"t"), (b"x", b"y"), (b"\xff", b"")])
        self._random.choice(["*", "99999999999999-1"])
        self._redis.xadd(
            self._events,
            {names[0]: self._text(), names[1]: self._text()},
            id=self._random.choice(["*", "99999999999999-1"]),
        )

    def _message(self) -> None:
        self._redis.publish(
            self._random.choice(self._channels), self._random.choice([*MESSAGES, self._text()])
        )

    def _member(self) -> None:
        score = self._random.choice(["0", "1", "-1", "1e300", "99999999999999"])
        self._redis.zadd(
            self._random.choice(self._lists),
            {self._random.choice([b"\xff", b"a\nb", b"", b"..", b"x" * 500]): score},
        )


#: What is asked after each; the last two in turn.
ALWAYS = (f"/jobs/{VICTIM}", f"/jobs/{VICTIM}/events?wait=0", "/jobs?state=running")
IN_TURN = (f"/jobs/{VICTIM}/result", f"/jobs?parent={VICTIM}")


def play(site: Site, caplog: pytest.LogCaptureFixture, seed: int, count: int) -> None:
    victim, other = make(site, VICTIM), make(site, OTHER)
    for job in (victim, other):
        job.start()
        move(site, job, "running")
        job.append("log", message="begun", level="info")
    stranger = Stranger(site, seed)
    sweeper = Sweeper(site.store, site.settings)
    with ExitStack() as open_, site.client() as client:
        watching = open_.enter_context(follow(site, OTHER).until_number(3))
        listing = open_.enter_context(look(site, f"jobs={OTHER}").until(lambda stream: bool(states(stream))))
        open_.enter_context(follow(site, VICTIM).until_number(3))
        open_.enter_context(follow(site, VICTIM, accept="application/x-ndjson"))
        open_.enter_context(look(site))
        for number in range(1, count + 1):
            what = stranger.write()
            for path in (*ALWAYS, IN_TURN[number % 2]):
                answer = client.get(path)

                assert answer.status_code in FINE, (number, what, path, answer.text)
                assert "Traceback" not in answer.text and "ResponseError" not in answer.text
                assert answer.status_code == 200 or "problem" in answer.headers["Content-Type"]
                if path.startswith("/jobs?state"):
                    assert OTHER in [row["id"] for row in json.loads(answer.content)["jobs"]], (number, what)
            if number % 10 == 0:
                site.redis.delete(site.store.commands.keys.sweeper())
                sweeper.run_once()
            stranger.repair()
            other.append("log", message=f"line {number}", level="info")
        watching.until_number(3 + count)
        other.append("progress", done=77)
        watching.until_number(4 + count)
        tell(site, other)
        listing.until(lambda stream: states(stream)[-1]["done"] == 77)
        # The job itself is whole again, and can be followed as if nothing had been.
        victim.append("log", message="after all", level="info")
        open_.enter_context(follow(site, VICTIM).until_number(4))

    assert list(range(1, 5 + count)) == watching.numbers
    assert "gap" not in watching.body.decode()
    assert [] == [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


def test_sixty_foreign_values_hurt_nobody_else(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Fields, keys of another kind, entries, messages and list members; the job is as good as none meanwhile, or shown."""
    assert partition_of(VICTIM) != partition_of(OTHER)
    play(site, caplog, SEED, 60)
    # Whoever is asked about the job may say it; the sweep does when its time comes.
    keys = site.store.commands.keys
    site.redis.hset(keys.state(VICTIM), "control", b"\xc1")
    site.redis.zadd(keys.due(partition_of(VICTIM)), {VICTIM: 0})
    site.redis.delete(keys.sweeper())
    Sweeper(site.store, site.settings).run_once()

    assert any(VICTIM in record.getMessage() for record in caplog.records), "the operator should learn of it"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_five_hundred_foreign_values_hurt_nobody_else(
    site: Site, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """The same by other seeds."""
    play(site, caplog, seed, 500)
