"""Sends commands from the server's loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

import redis.asyncio
from redis.exceptions import NoScriptError

from ..addresses import Address
from ..errors import NotAPrimary, UnknownForm
from ..settings import Settings
from .answers import Look
from .calls import Call, Command, Script
from .cluster import AsyncCluster
from .commands import commands_for
from .failures import FAILURES, mapped
from .placed import Placed
from .slots import slot_of

T = TypeVar("T")

#: Between two round trips for looks where many ask. Where one stream after the other is opened, a call of redis-py's for each would
#: be a quarter of what opening costs.
_GATHER_SECONDS: Final = 0.005


class AsyncStore(Placed):
    """One client with its pool and the commands of one installation."""

    def __init__(self, client: redis.asyncio.Redis, settings: Settings) -> None:
        self.client = client
        self._asked: dict[Call[Look], list[asyncio.Future[Look]]] = {}
        self._asked_at = 0.0
        self._asking: set[asyncio.Task[None]] = set()
        #: redis-py leaves it untyped.
        self._execute: Callable[..., Any] = client.execute_command
        self._cluster = client if isinstance(client, AsyncCluster) else None
        self._layout = None if self._cluster is None else self._cluster.layout
        self.settings = settings
        self.commands = commands_for(settings)

    async def send(self, call: Call[T] | Command[T]) -> T:
        """The read answer. Raises StoreError; StoreUnavailable when Redis cannot be asked."""
        try:
            reply = await (self._script(call) if isinstance(call, Call) else self._lines(call))
        except FAILURES as error:
            raise mapped(error) from error
        return call.read(reply)

    async def look(self, call: Call[Look]) -> Look:
        """A look at a primary, asked for from now on: at once, or gathered with what others ask where many do.

        Raises StoreError as `looks` does, and UnknownForm for a job that a newer release stored.
        """
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_later(max(self._asked_at + _GATHER_SECONDS - loop.time(), 0), self._ask)
        answer: asyncio.Future[Look] = loop.create_future()
        self._asked.setdefault(call, []).append(answer)
        return await answer

    def _ask(self) -> None:
        asked, self._asked = self._asked, {}
        loop = asyncio.get_running_loop()
        self._asked_at = loop.time()
        for part in self._by_shard(asked):
            task = loop.create_task(self._answer(part))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    def _by_shard(
        self, asked: dict[Call[Look], list[asyncio.Future[Look]]]
    ) -> Iterable[Mapping[Call[Look], list[asyncio.Future[Look]]]]:
        """Where one shard is away, only those who ask of it wait for it."""
        if self._cluster is None:
            return (asked,)
        parts: defaultdict[Address | None, dict[Call[Look], list[asyncio.Future[Look]]]] = defaultdict(dict)
        for call, answers in asked.items():
            parts[self._cluster.layout.owner(slot_of(call.keys[0]))][call] = answers
        return parts.values()

    async def _answer(self, asked: Mapping[Call[Look], list[asyncio.Future[Look]]]) -> None:
        try:
            looks = await self.looks(list(asked))
        except Exception as error:
            for answer in chain.from_iterable(asked.values()):
                if not answer.done():
                    answer.set_exception(error)
            return
        for answers, look in zip(asked.values(), looks, strict=True):
            for answer in answers:
                if answer.done():
                    continue
                if look.newer:
                    answer.set_exception(UnknownForm("a newer release stored the job"))
                else:
                    answer.set_result(look)

    async def looks(self, calls: Sequence[Call[Look]]) -> list[Look]:
        """Many looks in one round trip: a connection whose server is no primary is dropped with its whole pool, and asked again.

        Raises NotAPrimary when the address still leads to none; StoreUnavailable when Redis cannot be asked.
        """
        if not calls:
            return []
        for _ in range(2):
            found = await self._looks(calls)
            if all(look.role == "master" for look in found):
                return found
            await self.drop_idle()
        raise NotAPrimary("the Redis server that answered is not a primary")

    async def _looks(self, calls: Sequence[Call[Look]]) -> list[Look]:
        if len(calls) == 1:
            return [await self.send(calls[0])]
        lines = [
            ("EVALSHA", self._variant(call).sha, len(call.keys), *call.keys, *call.args) for call in calls
        ]
        try:
            replies = await self._pipeline(lines)
        except NoScriptError:
            # A pipeline cannot fall back to EVAL for one of its lines: the script is loaded with it.
            replies = (await self.pipeline([("SCRIPT LOAD", self._variant(calls[0]).source), *lines]))[1:]
        except FAILURES as error:
            raise mapped(error) from error
        return [call.read(reply) for call, reply in zip(calls, replies, strict=True)]

    async def _script(self, call: Call[Any]) -> Any:
        script = self._variant(call)
        try:
            return await self._execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            return await self._execute("EVAL", script.source, len(call.keys), *call.keys, *call.args)

    def _variant(self, call: Call[Any]) -> Script:
        return call.script if self._cluster is None else call.script.sharded

    async def _lines(self, command: Command[Any]) -> list[Any]:
        if not command.lines:
            return []
        if len(command.lines) == 1:
            return [await self._execute(*command.lines[0])]
        return await self.pipeline(command.lines, lenient=command.lenient)

    async def tails(self, jobs: Sequence[str]) -> list[Any]:
        """The newest entry of each of these jobs, raw; an exception where Redis refuses it. Raises StoreUnavailable."""
        lines: list[tuple[str, ...]] = [self.commands.tail(job) for job in jobs]
        if self._cluster is not None:
            # A replica sends such a question on by itself.
            return await self.pipeline(lines, lenient=True)
        role, *tails = await self.pipeline([("ROLE",), *lines], lenient=True)
        if isinstance(role, Exception):
            raise mapped(role)
        if role[0] != b"master":
            await self.drop_idle()
            raise NotAPrimary("the Redis server that answered is not a primary")
        return tails

    async def pipeline(self, lines: Any, *, lenient: bool = False) -> list[Any]:
        """The answers of many commands in one round trip; raw. `lenient`: among them what Redis refuses, as exceptions."""
        try:
            return await self._pipeline(lines, lenient=lenient)
        except FAILURES as error:
            raise mapped(error) from error

    async def _pipeline(self, lines: Any, *, lenient: bool = False) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for line in lines:
            pipeline.execute_command(*line)
        return list(await pipeline.execute(raise_on_error=not lenient))

    async def refresh(self) -> None:
        """Of a Cluster: who holds what, where that is in doubt. Raises StoreUnavailable."""
        if self._cluster is not None:
            try:
                await self._cluster.refresh()
            except FAILURES as error:
                raise mapped(error) from error

    async def drop_idle(self) -> None:
        """What is asked next is asked on a fresh connection: a kept one may lead to a server that was demoted."""
        # One that does not close in time is not used again either.
        with contextlib.suppress(*FAILURES):
            if self._cluster is None:
                await self.client.connection_pool.disconnect(inuse_connections=False)
            else:
                await self._cluster.drop_idle()

    async def close(self) -> None:
        await self.client.aclose()
