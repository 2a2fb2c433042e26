"""A TCP address that leads to one server now and to another later: what a failover looks like from a client."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Self


class Switch:
    """Forwards 127.0.0.1:`port` to `target`. Runs its loop in a thread of its own, for plain and asyncio clients alike."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open: set[asyncio.StreamWriter] = set()
        self._swallow = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def url(self, db: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"

    def point(self, target: int, *, cut: bool = True) -> None:
        """New connections lead to another server; those that are open are cut, or stay where they are."""
        self.target = target
        if cut:
            self.cut()

    def cut(self) -> None:
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(5)

    def swallow_next_answer(self, target: int) -> None:
        """The next answer is lost with its connection, and what comes after leads to another server."""
        self._swallow = target

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}
        ways = asyncio.gather(self._pump(reader, back, False), self._pump(there, writer, True))
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await ways
        for end in (writer, back):
            end.transport.abort()
            self._open.discard(end)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool) -> None:
        while data := await source.read(65_536):
            if answers and self._swallow and b"message" not in data:
                self.target, self._swallow = self._swallow, 0
                raise ConnectionResetError
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError
