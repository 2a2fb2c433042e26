"""How long does a page of `GET /jobs` take at 1,000 and at 100,000 jobs of one owner, also where a filter finds a handful?

Fifty rows a page over HTTP, one request after another: the newest, those after a cursor in the middle of the list, those of a rare
state, and those of a rare state of a rare actor (both spread over the whole list). The figure is the larger list's time beside the
smaller's: it is to stay at 1.

What would fool the reader:
- All jobs of one owner lie in one sorted set, and Redis on the other core: the time is mostly the server's Python for fifty rows.
  The rare filters find 20 rows, and are shorter for it.
- All jobs are queued or failed, some 500 bytes each. Steps and long messages make a page slower, alike in both lists.
- Every hint fits its job. A list that nobody read for long may hold some that do not: its first reader looks at up to 2,000.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from statistics import median, quantiles
from typing import Any

import httpx

from progress_stream import events, jobs
from progress_stream.auth.verify import sign
from progress_stream.store.calls import Call
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore

from .support.load import SECRET
from .support.stage import Stage, private_redis, stage
from .support.table import figure, table

FEW, MANY = 1_000, 100_000
RARE = 20
_MOMENT_MS = 1_790_000_000_000
_AT_ONCE = 1_000


def fill(ground: Stage, count: int) -> None:
    """So many jobs of one owner, in what their senders and workers write."""
    store = SyncStore(sync_client(ground.settings.redis_url or "", connections=1), ground.settings)
    rest = iter(_calls(store, count))
    while calls := list(islice(rest, _AT_ONCE)):
        pipeline = store.client.pipeline(transaction=False)
        for script in {call.script for call in calls}:
            pipeline.execute_command("SCRIPT LOAD", script.source)  # type: ignore[no-untyped-call]
        for call in calls:
            pipeline.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)  # type: ignore[no-untyped-call]
        pipeline.execute()


def _calls(store: SyncStore, count: int) -> Iterator[Call[Any]]:
    commands = store.commands
    for number in range(count):
        rare = number % (count // RARE) == 0
        header = jobs.Header(
            f"{count}-{number:06}", "rare" if rare else "bench", owner=_owner(count), created_at=_MOMENT_MS + number // 3
        )  # fmt: skip
        place = (header.owner, header.id, header.created_at, header.actor)
        queued = events.make(header.id, "queued", at=events.text_of(header.created_at))
        yield commands.create(header, queued, confirmed=True)
        yield commands.lists.hint(*place, "queued", done=True)
        if rare:
            error = {"type": "ValueError", "message": "no"}
            failed = events.make(header.id, "failed", at=events.now_text(), error=error)
            yield commands.intervene(header.id, failed, statuses=("queued",))
            yield commands.lists.hint(*place, "failed", done=True)


def _owner(count: int) -> str:
    return f"owner of {count}"


def asked(client: httpx.Client, count: int) -> dict[str, dict[str, Any]]:
    """The kinds of page."""
    cursor: str | None = None
    for _ in range(min(count // 400, 10)):
        cursor = _page(client, {"limit": 200, **({} if cursor is None else {"cursor": cursor})})["next"]
    return {
        "newest": {},
        "after_a_cursor": {"cursor": cursor},
        "rare_state": {"state": "failed"},
        "rare_state_and_actor": {"state": "failed", "actor": "rare"},
    }


def _page(client: httpx.Client, query: dict[str, Any]) -> dict[str, Any]:
    answer = client.get("/jobs", params=query)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def one(client: httpx.Client, query: dict[str, Any], rows: int) -> float:
    """Milliseconds of one request."""
    began = time.perf_counter()
    answer = client.get("/jobs", params=query)
    taken = (time.perf_counter() - began) * 1000
    found = len(answer.json()["jobs"])
    if found != rows:
        raise RuntimeError(f"expected {rows} rows, found {found}")
    return taken


def measured(clients: dict[int, httpx.Client], repeats: int) -> dict[str, dict[int, list[float]]]:
    """The lists in turn, so that whatever else the machine does falls on both."""
    queries = {count: asked(client, count) for count, client in clients.items()}
    seen: dict[str, dict[int, list[float]]] = {name: {FEW: [], MANY: []} for name in queries[FEW]}
    for name, times in seen.items():
        for _ in range(repeats):
            for count, client in clients.items():
                times[count].append(one(client, queries[count][name], RARE if "rare" in name else 50))
    return seen


def _client(ground: Stage, count: int) -> httpx.Client:
    headers = {"Authorization": f"Bearer {sign(SECRET, _owner(count), 'jobs:read', 3_600)}"}
    return httpx.Client(base_url=ground.url, headers=headers, timeout=30)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    with private_redis() as url, stage("hand-over", url) as ground:
        for count in (FEW, MANY):
            fill(ground, count)
        with _client(ground, FEW) as few, _client(ground, MANY) as many:
            seen = measured({FEW: few, MANY: many}, options.repeats)
    heads = ("page", "", f"ms at {FEW:,}", "p99", f"ms at {MANY:,}", "p99")
    table(
        heads,
        [
            (name, "", *(text for count in (FEW, MANY) for text in _shown(times[count])))
            for name, times in seen.items()
        ],
    )
    for name, times in seen.items():
        figure(f"page_{name}", median(times[MANY]), "ms", median(times[FEW]), f"{FEW:,} jobs")


def _shown(times: list[float]) -> tuple[str, str]:
    return f"{median(times):.2f}", f"{quantiles(times, n=100)[98]:.2f}"


if __name__ == "__main__":
    main()
