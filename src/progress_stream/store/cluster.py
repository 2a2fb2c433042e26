"""Clients of a Redis Cluster: each command goes to its slot's node, and follows the slot where it moves. Whom to ask is `slots`'.

To their callers they are redis-py's own clients, with as much of their surface as the senders use: `execute_command`, `pipeline`
without a transaction, and closing. For each node there is a client with a pool of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import AskError

from ..addresses import Address, Cluster
from .failures import is_passing
from .slots import Journey, Layout, View, Words, by_node, read_view, sharded, slot_of_command

_VIEW = (("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))


class SyncCluster(redis.Redis):
    """For threads. `make` gives a client of one node's URL, which tries nothing again by itself."""

    def __init__(self, place: Cluster, make: Callable[[str], redis.Redis], tries: int) -> None:
        self._place = place
        self._make = make
        self._tries = tries
        self._clients: dict[Address, redis.Redis] = {}
        self._asking_lock = threading.Lock()
        self.layout = Layout(place.hosts)
        super().__init__(connection_pool=self._client(place.hosts[0]).connection_pool)

    def execute_command(self, *words: Any, **options: Any) -> Any:
        words = tuple(sharded(words))
        journey, slot = Journey(self.layout, self._tries), slot_of_command(words)
        while True:
            node = None
            try:
                self._refresh()
                node = journey.next(slot)
                return self._send(node, words, journey.asking)
            except (redis.RedisError, OSError) as error:
                time.sleep(journey.after(error, node))

    def on_node_of(self, key: str, *words: Any) -> Any:
        """A command about a connection, on the one that was used last for this key. Raises what redis-py does."""
        self._refresh()
        node = Journey(self.layout, 0).next(slot_of_command(("GET", key)))
        return self._client(node).execute_command(*words)  # type: ignore[no-untyped-call]

    def on_each(self) -> list[tuple[Address, redis.Redis]]:
        """A client of each node that has slots."""
        self._refresh()
        return [(node, self._client(node)) for node in self.layout.owners()]

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Any:
        return _SyncBatch(self)

    def send_all(self, lines: Sequence[Words]) -> list[Any]:
        """Each line's answer or the exception that is its answer."""
        answers: list[Any] = [None] * len(lines)
        pending, journey = list(range(len(lines))), Journey(self.layout, self._tries)
        while pending:
            node = None
            try:
                self._refresh()
                for node, numbers in by_node(lines, pending, journey.next).items():
                    self._send_some(node, lines, numbers, answers)
            except (redis.RedisError, OSError) as error:
                for number in pending:
                    answers[number] = error
            pending = [number for number in pending if is_passing(answers[number])]
            pause = journey.after_all([answers[number] for number in pending])
            if pause is None:
                break
            time.sleep(pause)
            for number in [one for one in pending if type(answers[one]) is AskError]:
                answers[number] = self._alone(lines[number])
                pending.remove(number)
        return answers

    def _alone(self, words: Words) -> Any:
        try:
            return self.execute_command(*words)
        except (redis.RedisError, OSError) as error:
            return error

    def _send(self, node: Address, words: Words, asking: bool) -> Any:
        self.layout.check(node, time.monotonic())
        try:
            return self._send_to(self._client(node), words, asking)
        except redis.TimeoutError:
            self.layout.note_hanging(node, time.monotonic())
            raise

    @staticmethod
    def _send_to(client: redis.Redis, words: Words, asking: bool) -> Any:
        if not asking:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command("ASKING")  # type: ignore[no-untyped-call]
        pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
        return pipeline.execute()[1]

    def _send_some(
        self, node: Address, lines: Sequence[Words], numbers: Sequence[int], answers: list[Any]
    ) -> None:
        pipeline = self._client(node).pipeline(transaction=False)
        for number in numbers:
            pipeline.execute_command(*lines[number])  # type: ignore[no-untyped-call]
        try:
            self.layout.check(node, time.monotonic())
            found = pipeline.execute(raise_on_error=False)
        except (redis.RedisError, OSError) as error:
            self.layout.note_silence(node, time.monotonic())
            if isinstance(error, redis.TimeoutError):
                self.layout.note_hanging(node, time.monotonic())
            found = [error] * len(numbers)
        for number, answer in zip(numbers, found, strict=True):
            answers[number] = answer

    def _client(self, node: Address) -> redis.Redis:
        client = self._clients.get(node)
        if client is None:
            client = self._clients.setdefault(node, self._make(self._place.url_of(node)))
        return client

    def _refresh(self) -> None:
        """The map, where it is in doubt. One thread asks; others go on with what is known, if anything is."""
        layout = self.layout
        if layout.is_due(time.monotonic()) and self._asking_lock.acquire(blocking=layout.anyone() is None):
            try:
                if layout.is_due(time.monotonic()):
                    self._ask()
            finally:
                self._asking_lock.release()

    def _ask(self) -> None:
        views: list[View] = []
        failed: Exception | None = None
        for node in self.layout.to_ask(time.monotonic()):
            pipeline = self._client(node).pipeline(transaction=False)
            for words in _VIEW:
                pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
            try:
                views.append(read_view(pipeline.execute(), node))
            except (redis.RedisError, OSError) as error:
                self.layout.note_silence(node, time.monotonic())
                failed = failed or error
                continue
            if self.layout.takes(views[-1]):
                break
        else:
            self.layout.settle(views)
        if not views and failed is not None:
            raise failed
        for node in self._clients.keys() - self.layout.known():
            self._clients.pop(node).close()

    def close(self) -> None:
        for client in list(self._clients.values()):
            client.close()


class _SyncBatch:
    """Lines for one round trip to each node; answers in the order of the lines."""

    def __init__(self, cluster: SyncCluster) -> None:
        self._cluster = cluster
        self._lines: list[Words] = []

    def execute_command(self, *words: Any) -> None:
        self._lines.append(sharded(words))

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        return _checked(self._cluster.send_all(self._lines), raise_on_error)


class AsyncCluster(redis.asyncio.Redis):
    """The same for one event loop; the nodes of a batch are asked at the same time."""

    def __init__(self, place: Cluster, make: Callable[[str], redis.asyncio.Redis], tries: int) -> None:
        self._place = place
        self._make = make
        self._tries = tries
        self._clients: dict[Address, redis.asyncio.Redis] = {}
        self._asking_lock = asyncio.Lock()
        self.layout = Layout(place.hosts)
        super().__init__(connection_pool=self._client(place.hosts[0]).connection_pool)

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        words = tuple(sharded(words))
        journey, slot = Journey(self.layout, self._tries), slot_of_command(words)
        while True:
            node = None
            try:
                await self.refresh()
                node = journey.next(slot)
                return await self._send(node, words, journey.asking)
            except (redis.RedisError, OSError) as error:
                await asyncio.sleep(journey.after(error, node))

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Any:
        return _AsyncBatch(self)

    async def send_all(self, lines: Sequence[Words]) -> list[Any]:
        answers: list[Any] = [None] * len(lines)
        pending, journey = list(range(len(lines))), Journey(self.layout, self._tries)
        while pending:
            try:
                await self.refresh()
                parts = by_node(lines, pending, journey.next)
                await asyncio.gather(
                    *(self._send_some(node, lines, numbers, answers) for node, numbers in parts.items())
                )
            except (redis.RedisError, OSError) as error:
                for number in pending:
                    answers[number] = error
            pending = [number for number in pending if is_passing(answers[number])]
            pause = journey.after_all([answers[number] for number in pending])
            if pause is None:
                break
            await asyncio.sleep(pause)
            for number in [one for one in pending if type(answers[one]) is AskError]:
                answers[number] = await self._alone(lines[number])
                pending.remove(number)
        return answers

    async def _alone(self, words: Words) -> Any:
        try:
            return await self.execute_command(*words)
        except (redis.RedisError, OSError) as error:
            return error

    async def _send(self, node: Address, words: Words, asking: bool) -> Any:
        self.layout.check(node, time.monotonic())
        try:
            return await self._send_to(self._client(node), words, asking)
        except redis.TimeoutError:
            self.layout.note_hanging(node, time.monotonic())
            raise

    @staticmethod
    async def _send_to(client: redis.asyncio.Redis, words: Words, asking: bool) -> Any:
        if not asking:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command("ASKING")
        pipeline.execute_command(*words)
        return (await pipeline.execute())[1]

    async def _send_some(
        self, node: Address, lines: Sequence[Words], numbers: Sequence[int], answers: list[Any]
    ) -> None:
        pipeline = self._client(node).pipeline(transaction=False)
        for number in numbers:
            pipeline.execute_command(*lines[number])
        try:
            self.layout.check(node, time.monotonic())
            found = await pipeline.execute(raise_on_error=False)
        except (redis.RedisError, OSError) as error:
            self.layout.note_silence(node, time.monotonic())
            if isinstance(error, redis.TimeoutError):
                self.layout.note_hanging(node, time.monotonic())
            found = [error] * len(numbers)
        for number, answer in zip(numbers, found, strict=True):
            answers[number] = answer

    def _client(self, node: Address) -> redis.asyncio.Redis:
        client = self._clients.get(node)
        if client is None:
            client = self._clients[node] = self._make(self._place.url_of(node))
        return client

    async def refresh(self) -> None:
        """The map, where it is in doubt. Raises what redis-py does where no node answers."""
        layout = self.layout
        if layout.is_due(time.monotonic()) and (layout.anyone() is None or not self._asking_lock.locked()):
            async with self._asking_lock:
                if layout.is_due(time.monotonic()):
                    await self._ask()

    async def _ask(self) -> None:
        views: list[View] = []
        failed: Exception | None = None
        for node in self.layout.to_ask(time.monotonic()):
            pipeline = self._client(node).pipeline(transaction=False)
            for words in _VIEW:
                pipeline.execute_command(*words)
            try:
                views.append(read_view(await pipeline.execute(), node))
            except (redis.RedisError, OSError) as error:
                self.layout.note_silence(node, time.monotonic())
                failed = failed or error
                continue
            if self.layout.takes(views[-1]):
                break
        else:
            self.layout.settle(views)
        if not views and failed is not None:
            raise failed
        for node in self._clients.keys() - self.layout.known():
            await self._clients.pop(node).aclose()

    async def drop_idle(self) -> None:
        """What is asked next is asked on fresh connections, of nodes that have their slots now."""
        self.layout.doubt()
        for client in list(self._clients.values()):
            await client.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        for client in list(self._clients.values()):
            await client.aclose()


class _AsyncBatch:
    def __init__(self, cluster: AsyncCluster) -> None:
        self._cluster = cluster
        self._lines: list[Words] = []

    def execute_command(self, *words: Any) -> None:
        self._lines.append(sharded(words))

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        return _checked(await self._cluster.send_all(self._lines), raise_on_error)


def _checked(answers: list[Any], raise_on_error: bool) -> list[Any]:
    if raise_on_error and (failed := next((one for one in answers if isinstance(one, Exception)), None)):
        raise failed
    return answers
