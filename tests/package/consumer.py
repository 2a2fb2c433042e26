"""Every public name as a typed application uses it; mypy alone reads this file, against the installed wheel."""

from collections.abc import AsyncIterator, Iterator

import progress_stream
from progress_stream import (
    Cancelled,
    ProgressMiddleware,
    Settings,
    Superseded,
    Upload,
    WatchEvent,
    broker_client,
    create_app,
    current_job,
    load,
    report,
    track,
    watch,
    watch_sync,
)

settings: Settings = load(history_events=100)
middleware = ProgressMiddleware(settings)
app = create_app(settings)
queue = broker_client(settings, retries=3)
version: str = progress_stream.__version__


def work(file: Upload, names: list[str]) -> int:
    job = current_job()
    try:
        for name in track(names, unit="names"):
            job.log(name.upper())
    except (Cancelled, Superseded):
        raise
    with report("by hand", owner="alice") as outside:
        outside.log("begun")
    return len(file.bytes())


def follow(url: str) -> Iterator[WatchEvent]:
    yield from watch_sync(url, "job-1")


async def follow_too(url: str) -> AsyncIterator[WatchEvent]:
    async for event in watch(url, "job-1"):
        yield event


wrong: int = track(["name"])  # type: ignore[assignment]
