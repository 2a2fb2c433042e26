"""A broker with our middleware, a worker in this process, and eyes on what the store holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO

from progress_stream import events, jobs
from progress_stream.events import BEGINNING
from progress_stream.reporting.middleware import ProgressMiddleware
from progress_stream.settings import Settings, load
from progress_stream.store.answers import Look
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore
from tests.support.waiting import until as until


class Eyes:
    """Looks at jobs in the store."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = SyncStore(sync_client(settings.redis_url or "", connections=4), settings)

    def look(self, job: str) -> Look:
        return self.store.send(self.store.commands.look(job, BEGINNING, 10_000))

    def state(self, job: str) -> dict[str, Any]:
        record = self.look(job).record
        return {"state": None} if record is None else jobs.view(record)

    def events(self, job: str, type: str | None = None) -> list[dict[str, Any]]:
        found = [events.decode(data) for _, _, data in self.look(job).entries]
        return [event for event in found if type in (None, event["type"])]

    def types(self, job: str, *, without: frozenset[str] = frozenset({"progress"})) -> list[str]:
        return [event["type"] for event in self.events(job) if event["type"] not in without]

    def ended(self, job: str) -> dict[str, Any]:
        """The state, once it is terminal."""
        until(lambda: self.state(job)["state"] in events.TERMINAL)
        return self.state(job)

    def cancel(self, job: str) -> None:
        """What `POST /jobs/<id>/cancel` does to a running job."""
        event = events.make(job, "cancelling", at=events.now_text())
        call = self.store.commands.intervene(
            job, event, statuses=("queued", "running", "retrying"), field="cancel_at"
        )
        self.store.send(call)


class Stack(Eyes):
    """Broker, middleware and worker."""

    def __init__(
        self,
        settings: Settings,
        broker_url: str,
        middleware: list[dramatiq.Middleware] | None = None,
        *,
        interrupt: bool = False,
    ) -> None:
        super().__init__(settings)
        self.broker = RedisBroker(url=broker_url)
        self.middleware = ProgressMiddleware(settings, interrupt=interrupt)
        self.broker.add_middleware(self.middleware)
        self.broker.add_middleware(AsyncIO())
        for one in middleware or []:
            self.broker.add_middleware(one)
        self.worker: dramatiq.Worker | None = None

    def actor(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        known = {"progress": True, "max_retries": 0, "min_backoff": 10, "max_backoff": 20}
        return dramatiq.actor(broker=self.broker, **{**known, **options})

    def work(self, threads: int = 2) -> None:
        self.worker = dramatiq.Worker(self.broker, worker_timeout=50, worker_threads=threads)
        self.worker.start()

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def dead_letters(self, queue: str = "default") -> int:
        return int(self.broker.client.zcard(f"dramatiq:{queue}.XQ"))


@pytest.fixture
def settings(redis_url: str, broker_url: str, namespace: str, tmp_path: Any) -> Settings:
    return load(redis_url=redis_url, broker_url=broker_url, namespace=namespace, data=tmp_path)


@pytest.fixture
def stack(settings: Settings, broker_url: str) -> Iterator[Stack]:
    made = Stack(settings, broker_url)
    yield made
    made.stop()
