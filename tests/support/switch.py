"""A TCP address that leads to one server now and to another later, and a line that can be cut, slow, or dead without a word."""

from __future__ import annotations

import asyncio
import contextlib
import random
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
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._swallow = 0
        self._let_through = 0
        self._holding = b""
        #: Seconds that what comes through takes at most, each way and each time.
        self.delay = 0.0
        #: Connections stay open, and nothing comes through: what a lost route or a firewall's forgotten entry looks like.
        self.dead = False

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def url(self, db: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"

    def point(self, target: int, *, cut: bool = True) -> None:
        """New connections lead to another server; those that are open are cut, or stay where they are."""
        self.target = target
        if cut:
            self.cut()

    def cut(self) -> None:
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(5)

    def swallow_next_answer(self, target: int, *, let_through: int = 0, holding: bytes = b"") -> None:
        """The next answer that holds this is lost with its connection, but for so many bytes; what comes after goes to `target`."""
        self._holding, self._let_through, self._swallow = holding, let_through, target

    @property
    def swallowing(self) -> bool:
        """The answer that is to be lost has not come yet."""
        return self._swallow != 0

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}
        ways = [
            asyncio.create_task(self._pump(*way)) for way in ((reader, back, False), (there, writer, True))
        ]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, back):
            end.transport.abort()
            self._open.discard(end)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool) -> None:
        while data := await source.read(65_536):
            if answers and self._swallow and self._holding in data and b"message" not in data:
                self.target, self._swallow = self._swallow, 0
                sink.write(data[: self._let_through])
                await sink.drain()
                raise ConnectionResetError
            if self.delay:
                await asyncio.sleep(random.uniform(0, self.delay))
            while self.dead:
                await asyncio.sleep(0.01)
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError
