"""A running job that is written to as its reporter writes, without its buffer: for questions about what lies behind it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from progress_stream import events, jobs
from progress_stream.store.answers import Started
from progress_stream.store.calls import script
from progress_stream.store.sync import SyncStore

from .load import DATA, OWNER, TYPE

#: Calls of one pipeline.
PIPELINE: Final = 100
Words = tuple[Any, ...]


class Attempt:
    """One attempt of one job. `data` is what each of its events carries."""

    def __init__(self, store: SyncStore) -> None:
        self._store = store
        header = jobs.Header(str(uuid.uuid4()), "bench", owner=OWNER, created_at=int(time.time() * 1000))
        self.job = header.id
        queued = events.make(self.job, "queued", at=events.now_text())
        store.send(store.commands.create(header, queued, confirmed=True))
        begun = events.make(self.job, "started", at=events.now_text())
        started = store.send(store.commands.start(header, begun, "nonce", may_create=False))
        assert isinstance(started, Started)
        self.state = jobs.fold(jobs.new(header), {**begun, "attempt": 1})
        self.data = events.encode(events.make(self.job, TYPE, at=events.now_text(), data=DATA, attempt=1))
        self._sequence = 1

    def call(self, together: int = 1, data: bytes | None = None) -> Words:
        """The words that append so many events."""
        batch = [(TYPE, data or self.data)] * together
        call = self._store.commands.append(self.job, 1, "nonce", self._sequence, batch, self.state)
        self._sequence += together
        return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def send(store: SyncStore, words: Iterable[Words]) -> None:
    """In pipelines; raises what Redis answered to any of them."""
    rest: Iterator[Words] = iter(words)
    while some := list(islice(rest, PIPELINE)):
        pipeline = store.client.pipeline(transaction=False)
        for one in some:
            pipeline.execute_command(*one)  # type: ignore[no-untyped-call]
        pipeline.execute()


def load_scripts(store: SyncStore) -> None:
    """A pipeline cannot fall back to EVAL for one of its lines."""
    store.client.script_load(script("append").source)
