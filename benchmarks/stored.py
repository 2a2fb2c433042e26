"""What does a job take of Redis' memory, an event of it, and a day of 10,000 jobs?

Bytes that Redis says it uses (`used_memory`) before and after: 500 jobs that only began, and the same with 1,000 events each of
about 230 bytes of JSON; beside an event as a bare XADD of the same bytes. From both the memory of 10,000 jobs a day with 200
events each is reckoned, as long as they are kept (REPLAY_SECONDS after their end) and of what remains of them until the state
expires.

What would fool the reader:
- Streams grow in nodes of up to 100 entries or 4 KB: a few large events take more room than their bytes.
- MAXLEN keeps about HISTORY_EVENTS of a job's events, whatever it reports.
- Redis' allocator keeps what was freed; the process may be larger than what is used.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import redis

from progress_stream.settings import load
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore

from .append import bare, calls
from .support.attempt import Attempt, load_scripts, send
from .support.stage import private_server
from .support.table import absolute, figure, table

JOBS: Final = 500
EVENTS: Final = 1_000
DAY_JOBS: Final = 10_000
DAY_EVENTS: Final = 200
_DAY_SECONDS: Final = 86_400
#: Of a stream entry with nothing around it: id, two short field names and nodes may take so much more.
EVENT_GOAL: Final = 1.1


def used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def main() -> None:
    with private_server() as server:
        settings = load(redis_url=server.url())
        store = SyncStore(sync_client(server.url(), connections=1), settings)
        load_scripts(store)
        empty = used(store.client)
        attempts = [Attempt(store) for _ in range(JOBS)]
        begun = used(store.client)
        for attempt in attempts:
            send(store, calls(attempt, EVENTS, 20))
        full = used(store.client)
        for attempt in attempts:
            # XADD alone: every second word of the yardstick is a PUBLISH.
            send(store, islice(bare(attempt, EVENTS), 0, None, 2))
        yardstick = (used(store.client) - full) / JOBS / EVENTS
        store.close()
    job, event = (begun - empty) / JOBS, (full - begun) / JOBS / EVENTS
    kept = settings.replay_seconds / _DAY_SECONDS
    remains = settings.state_seconds / _DAY_SECONDS
    day = DAY_JOBS * (job * remains + DAY_EVENTS * event * kept) / 2**20
    table(
        ("what", "", "bytes"),
        [
            ("a job that began", "", f"{job:.0f}"),
            ("an event", "", f"{event:.0f}"),
            ("a bare entry", "", f"{yardstick:.0f}"),
        ],
    )
    print(
        f"{DAY_JOBS:,} jobs a day of {DAY_EVENTS} events, streams kept {settings.replay_seconds / 3_600:g} h and states "
        f"{settings.state_seconds / 3_600:g} h after their ends: {day:.0f} MiB"
    )
    figure("stored_event", event, "bytes", yardstick, "bare XADD", EVENT_GOAL)
    absolute("stored_job", job, "bytes")
    absolute("stored_day", day, "MiB")


if __name__ == "__main__":
    main()
