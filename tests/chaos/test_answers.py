"""The answer to an append is cut at every byte: what was written is not known to have been, and is written once all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from progress_stream import report
from progress_stream.events import EventId
from progress_stream.settings import load
from progress_stream.store.keys import Keys
from tests.support.redis import RedisServer
from tests.support.server import SECRET
from tests.support.switch import Switch
from tests.worker.conftest import until

#: Bytes of an answer to an append, at least; after the last one the connection is cut all the same.
LONGEST = 100
#: What such an answer holds, and no other.
APPENDED = b"$2\r\nok\r\n"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_append_whose_answer_is_cut_at_any_byte_is_written_once(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server, Switch(server.port) as switch:
        settings = load(
            redis_url=switch.url(), namespace="answers", data=tmp_path, jwt_secret=SecretStr(SECRET)
        )
        key = Keys(settings.namespace).events
        with report("answers", settings=settings) as job, server.client() as client:
            for let_through in range(LONGEST):
                switch.swallow_next_answer(server.port, let_through=let_through, holding=APPENDED)
                job.event("line", let_through)
                until(lambda: not switch.swallowing, 10)
                # Until the next answer is heard whole: a reporter that hears none waits longer each time.
                job.event("between")
                until(lambda: client.xrevrange(key(job.id), count=1)[0][1][b"t"] == b"between", 10)
        with server.client() as client:
            rows = client.xrange(key(job.id))

    events = [json.loads(fields[b"d"]) for _, fields in rows]
    assert list(range(LONGEST)) == [event["data"] for event in events if event["type"] == "line"]
    assert LONGEST == sum(event["type"] == "between" for event in events)
    assert list(range(1, len(rows) + 1)) == [EventId.parse(id.decode()).n for id, _ in rows]
    assert "succeeded" == events[-1]["type"]
