"""Jobs as a release stores them, in a file that any Redis takes: what the next release must be able to go on with.

`python -m tests.store.stored_form > tests/data/stored/form-1.json` writes the file anew; that is done once for a form, by the first
release that stores it. Values and not DUMPs, whose format is the server's own version's.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import redis

from progress_stream import jobs
from progress_stream.settings import Settings, load
from progress_stream.store.spread_commands import Closing, Part
from tests.support.redis import RedisServer
from tests.support.watching import Writer

FOLDER: Final = Path(__file__).parents[1] / "data" / "stored"
NAMESPACE: Final = "stored"
#: The nonces of the attempts that run in the file: a worker that goes on has the same.
RUNNING, SPREADING, PART = "worker-1", "worker-2", "worker-3"


def text_of(value: bytes) -> str:
    """Packed fields are no UTF-8."""
    return base64.b64encode(value).decode()


def save(client: redis.Redis) -> dict[str, Any]:
    """Every key by its name: its type, what it holds, and the seconds it has to live (-1: for ever)."""
    return {
        key.decode(): {"type": client.type(key).decode(), "value": _value(client, key), "seconds": client.ttl(key)}
        for key in sorted(client.keys("*"))
    }  # fmt: skip


def _value(client: redis.Redis, key: bytes) -> Any:
    match client.type(key):
        case b"hash":
            return {name.decode(): text_of(value) for name, value in sorted(client.hgetall(key).items())}
        case b"zset":
            return {name.decode(): score for name, score in client.zrange(key, 0, -1, withscores=True)}
        case b"stream":
            return [
                [id.decode(), {name.decode(): text_of(value) for name, value in fields.items()}]
                for id, fields in client.xrange(key)
            ]
    return text_of(client.get(key) or b"")


def restore(client: redis.Redis, stored: dict[str, Any]) -> None:
    """The same keys in this server."""
    for key, kept in stored.items():
        _restore(client, key, kept["type"], kept["value"])
        if kept["seconds"] >= 0:
            client.expire(key, kept["seconds"])


def _restore(client: redis.Redis, key: str, type: str, value: Any) -> None:
    match type:
        case "hash":
            client.hset(key, mapping={name: base64.b64decode(text) for name, text in value.items()})
        case "zset":
            client.zadd(key, value)
        case "stream":
            for id, fields in value:
                client.xadd(key, {name: base64.b64decode(text) for name, text in fields.items()}, id=id)
        case _:
            client.set(key, base64.b64decode(value))


def make(client: redis.Redis, settings: Settings) -> None:
    """A job that waits, one in its middle, one that has ended, and one that was spread."""
    Writer(client, settings, "queued").create()
    running = _started(client, settings, "running", RUNNING)
    running.append("step", name="read", state="done", seconds=1.5)
    running.append("progress", done=40, total=100, unit="rows", message="row 40")
    running.append("log", message="half way", level="info")
    ended = _started(client, settings, "ended", "worker-4")
    ended.append("progress", done=2, total=2)
    ended.append("succeeded", result={"rows": 2})
    _spread(client, settings)


def _started(client: redis.Redis, settings: Settings, job: str, nonce: str) -> Writer:
    writer = Writer(client, settings, job)
    writer.create()
    writer.start(nonce)
    return writer


def part_header(number: int) -> jobs.Header:
    return jobs.Header(
        f"spread~{number}", "rows", owner="alice", parent="spread", created_at=1_700_000_000_000
    )


def _spread(client: redis.Redis, settings: Settings) -> None:
    """Two parts of a hundred rows: one has ended, one is in its middle; its actor has returned."""
    whole = _started(client, settings, "spread", SPREADING)
    commands = whole.store.commands.spreads
    parts = [Part(n, part_header(n), b"-", 100) for n in (1, 2)]
    whole.store.send(commands.put_by("spread", whole.attempt, whole.nonce, 1, parts))
    whole.store.send(commands.close("spread", whole.attempt, whole.nonce, Closing(1, 2, 200, 2)))
    whole.store.send(commands.release("spread", whole.attempt, whole.nonce, {"result": None}))
    for number, nonce in ((1, "worker-5"), (2, PART)):
        part = Writer(client, settings, f"spread~{number}")
        part.header = part_header(number)
        part.start(nonce)
        part.append("progress", done=50, total=100, unit="rows")
        if number == 1:
            part.append("succeeded", result=None)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder), persistent=False) as server,
        server.client() as client,
    ):
        make(client, load(redis_url=server.url(), namespace=NAMESPACE))
        print(json.dumps(save(client), indent=1))


if __name__ == "__main__":
    main()
