"""A producer that keeps its own record of what Redis answered to each call: acknowledged, refused, or unknown. No reporter is used.

What is unknown or refused is sent again under its old numbers until it is acknowledged, as the store's contract wants it.
"""

from __future__ import annotations

import threading
import time
import uuid
from random import Random
from typing import Self, TypeVar

import redis

from progress_stream import events, jobs
from progress_stream.errors import AlreadyEnded, SequenceHole, StoreUnavailable
from progress_stream.settings import Settings
from progress_stream.store.calls import Call
from progress_stream.store.connect import sync_client
from progress_stream.store.sync import SyncStore

T = TypeVar("T")
PATIENCE_SECONDS = 60.0


class Appender:
    """Appends the events 1…count of an own type, one to three a call, spread over some seconds, and the end."""

    def __init__(self, settings: Settings, own_type: str, count: int, seconds: float, seed: int) -> None:
        self.job = str(uuid.uuid4())
        self.error: BaseException | None = None
        self.reported = 0
        #: The id that was answered to a call, by the number of its last event.
        self.acknowledged: dict[int, str] = {}
        #: Answers that said no, and calls of which nobody knows what became.
        self.refused = self.unknown = 0
        client = sync_client(settings.redis_url or "", connections=1, timeout_seconds=1, retries=0)
        self._store = SyncStore(client, settings)
        self._header = jobs.Header(self.job, "appender", owner="alice", created_at=int(time.time() * 1000))
        self._type, self._count, self._seconds = own_type, count, seconds
        self._random = Random(seed)
        self._sent: list[tuple[str, bytes]] = []
        self._state = jobs.new(self._header)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Self:
        """Returns once the job is there and begun."""
        queued = events.make(self.job, "queued", at=events.text_of(self._header.created_at))
        begun = events.make(self.job, "started", at=events.now_text())
        self._until_known(self._store.commands.create(self._header, queued, confirmed=True))
        self._until_known(self._store.commands.start(self._header, begun, "appender", may_create=False))
        self._state = jobs.fold(self._state, {**begun, "attempt": 1})
        self._thread.start()
        return self

    def join(self, seconds: float = 120) -> None:
        """Raises what the thread raised."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError("the appender did not end")
        if self.error is not None:
            raise self.error

    def wrong(self, kept: dict[str, object]) -> list[str]:
        """What was acknowledged and is not kept under the id that was answered. `kept`: what each id's event carries."""
        return [
            f"{number} was acknowledged as {id}, where Redis holds {kept.get(id)!r}"
            for number, id in self.acknowledged.items()
            if kept.get(id) != number
        ]

    def _run(self) -> None:
        try:
            self._append_all()
        except BaseException as error:
            self.error = error

    def _append_all(self) -> None:
        began = time.monotonic()
        while self.reported < self._count:
            last = min(self.reported + self._random.randint(1, 3), self._count)
            self.acknowledged[last] = self._append(range(self.reported + 1, last + 1))
            self.reported = last
            time.sleep(max(began + self._seconds * last / self._count - time.monotonic(), 0))
        self._append_end()

    def _append(self, numbers: range) -> str:
        first = len(self._sent) + 1
        for number in numbers:
            self._add(self._type, data=number)
        return self._send_from(first)

    def _append_end(self) -> None:
        first = len(self._sent) + 1
        self._add("succeeded")
        self._send_from(first)

    def _add(self, type: str, **fields: object) -> None:
        event = events.make(self.job, type, at=events.now_text(), attempt=1, **fields)
        self._state = jobs.fold(self._state, event)
        self._sent.append((type, events.encode(event)))

    def _send_from(self, first: int) -> str:
        while True:
            batch = self._sent[first - 1 :]
            call = self._store.commands.append(self.job, 1, "appender", first, batch, self._state)
            try:
                return str(self._until_known(call).id)
            except SequenceHole as hole:
                self.refused += 1
                first = hole.last + 1
            except AlreadyEnded:
                return ""

    def _until_known(self, call: Call[T]) -> T:
        """What is answered in the end; raises what a definite refusal raises."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._store.send(call)
            except StoreUnavailable as error:
                if isinstance(error.__cause__, redis.ResponseError):
                    self.refused += 1
                else:
                    self.unknown += 1
                if time.monotonic() > deadline:
                    raise
                time.sleep(self._random.uniform(0.02, 0.2))
