"""Sends commands from plain threads: workers, scripts, the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.exceptions import NoScriptError

from ..settings import Settings
from .calls import Call, Command
from .cluster import SyncCluster
from .commands import commands_for
from .failures import FAILURES, mapped
from .placed import Placed

T = TypeVar("T")


class SyncStore(Placed):
    """One client and the commands of one installation. Safe over threads as the client is."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        #: redis-py leaves it untyped.
        self._execute: Callable[..., Any] = client.execute_command
        self._cluster = client if isinstance(client, SyncCluster) else None
        self._layout = None if self._cluster is None else self._cluster.layout
        self.settings = settings
        self.commands = commands_for(settings)

    def send(self, call: Call[T] | Command[T]) -> T:
        """The read answer. Raises StoreError; StoreUnavailable when Redis cannot be asked."""
        try:
            reply = self._script(call) if isinstance(call, Call) else self._lines(call)
        except FAILURES as error:
            raise mapped(error) from error
        return call.read(reply)

    def _script(self, call: Call[Any]) -> Any:
        script = call.script.sharded if self._cluster is not None else call.script
        try:
            return self._execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            return self._execute("EVAL", script.source, len(call.keys), *call.keys, *call.args)

    def _lines(self, command: Command[Any]) -> list[Any]:
        if not command.lines:
            return []
        if len(command.lines) == 1:
            return [self._execute(*command.lines[0])]
        pipeline = self.client.pipeline(transaction=False)
        for line in command.lines:
            pipeline.execute_command(*line)  # type: ignore[no-untyped-call]
        return list(pipeline.execute(raise_on_error=not command.lenient))

    def wait_for_replica(self, milliseconds: int, job: str) -> bool:
        """True when one replica has what was written of this job; a smaller window for loss, not a guarantee (Redis WAIT)."""
        words = ("WAIT", 1, milliseconds)
        try:
            if self._cluster is not None:
                return int(self._cluster.on_node_of(self.commands.keys.state(job), *words)) >= 1
            return int(self._execute(*words)) >= 1
        except FAILURES as error:
            raise mapped(error) from error

    def close(self) -> None:
        self.client.close()
