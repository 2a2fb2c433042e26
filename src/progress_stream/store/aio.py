"""Sends commands from the server's loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis.asyncio
from redis.exceptions import NoScriptError

from ..errors import NotAPrimary
from ..settings import Settings, database_of
from .calls import Call, Command
from .commands import Commands, Look
from .failures import FAILURES, mapped
from .keys import Keys

T = TypeVar("T")


class AsyncStore:
    """One client with its pool and the commands of one installation."""

    def __init__(self, client: redis.asyncio.Redis, settings: Settings) -> None:
        self.client = client
        #: redis-py leaves it untyped.
        self._execute: Callable[..., Any] = client.execute_command
        self.settings = settings
        self.commands = Commands(Keys(settings.namespace, database_of(settings.redis_url or "")), settings)

    async def send(self, call: Call[T] | Command[T]) -> T:
        """The read answer. Raises StoreError; StoreUnavailable when Redis cannot be asked."""
        try:
            reply = await (self._script(call) if isinstance(call, Call) else self._lines(call))
        except FAILURES as error:
            raise mapped(error) from error
        return call.read(reply)

    async def look(self, call: Call[Look]) -> Look:
        """A look at a primary: a connection whose server is none is dropped with its whole pool, and the question asked again.

        Raises NotAPrimary when the address still leads to none.
        """
        for _ in range(2):
            found = await self.send(call)
            if found.role == "master":
                return found
            await self.client.connection_pool.disconnect(inuse_connections=False)
        raise NotAPrimary("the Redis server that answered is not a primary")

    async def looks(self, calls: Sequence[Call[Look]]) -> list[Look]:
        """Many looks in one round trip. Raises NotAPrimary as `look` does."""
        if not calls:
            return []
        for _ in range(2):
            found = await self._looks(calls)
            if all(look.role == "master" for look in found):
                return found
            await self.client.connection_pool.disconnect(inuse_connections=False)
        raise NotAPrimary("the Redis server that answered is not a primary")

    async def _looks(self, calls: Sequence[Call[Look]]) -> list[Look]:
        lines = [("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args) for call in calls]
        try:
            replies = await self._pipeline(lines)
        except NoScriptError:
            # A pipeline cannot fall back to EVAL for one of its lines: the script is loaded with it.
            replies = (await self.pipeline([("SCRIPT LOAD", calls[0].script.source), *lines]))[1:]
        except FAILURES as error:
            raise mapped(error) from error
        return [call.read(reply) for call, reply in zip(calls, replies, strict=True)]

    async def _script(self, call: Call[Any]) -> Any:
        try:
            return await self._execute("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            return await self._execute("EVAL", call.script.source, len(call.keys), *call.keys, *call.args)

    async def _lines(self, command: Command[Any]) -> list[Any]:
        if not command.lines:
            return []
        if len(command.lines) == 1:
            return [await self._execute(*command.lines[0])]
        return await self.pipeline(command.lines)

    async def pipeline(self, lines: Any) -> list[Any]:
        """The answers of many commands in one round trip; raw."""
        try:
            return await self._pipeline(lines)
        except FAILURES as error:
            raise mapped(error) from error

    async def _pipeline(self, lines: Any) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for line in lines:
            pipeline.execute_command(*line)
        return list(await pipeline.execute())

    async def close(self) -> None:
        await self.client.aclose()
