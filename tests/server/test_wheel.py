"""Deadlines: kept, renewed, forgotten, and none in the way of another."""

from __future__ import annotations

import asyncio

from progress_stream.server.wheel import Stall, Wheel


def test_a_deadline_is_called_once_and_not_early() -> None:
    """Up to one period late, never before its time, and no timer stays behind."""

    async def run() -> tuple[float, int, bool]:
        loop = asyncio.get_running_loop()
        wheel, calls, began = Wheel(loop, period=0.02), [], loop.time()
        wheel.watch(lambda: calls.append(loop.time() - began), 0.1)
        await asyncio.sleep(0.3)
        return calls[0], len(calls), wheel._timer is None

    late, count, quiet = asyncio.run(run())

    assert 0.1 <= late < 0.2
    assert (1, True) == (count, quiet)


def test_what_is_renewed_or_forgotten_in_time_is_not_called() -> None:
    """Also when an earlier deadline of the same sweep does it."""

    async def run() -> list[str]:
        wheel, calls = Wheel(asyncio.get_running_loop(), period=0.02), []

        def second() -> None:
            calls.append("second")

        def renewed() -> None:
            calls.append("renewed")

        def first() -> None:
            calls.append("first")
            wheel.forget(second)
            wheel.watch(renewed, 10)

        for deadline in (first, second, renewed):
            wheel.watch(deadline, 0.01)
        await asyncio.sleep(0.1)
        wheel.forget(renewed)
        return calls

    assert ["first"] == asyncio.run(run())


def test_a_deadline_that_fails_spares_the_others() -> None:
    """One broken connection keeps no other one open."""

    async def run() -> list[str]:
        wheel, calls = Wheel(asyncio.get_running_loop(), period=0.02), []

        def broken() -> None:
            raise RuntimeError("broken on purpose")

        wheel.watch(broken, 0.01)
        wheel.watch(lambda: calls.append("called"), 0.01)
        await asyncio.sleep(0.1)
        return calls

    assert ["called"] == asyncio.run(run())


class Buffer(asyncio.WriteTransport):
    """A transport's buffer, and whether it was cut."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.cut = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.cut = True


def test_a_buffer_that_shrinks_is_not_a_stall() -> None:
    """Who takes a little in each period is slow; who takes nothing in one is cut."""

    async def run(size: int, *, taken: int, steps: int = 30) -> bool:
        transport = Buffer(size)
        stall = Stall(Wheel(asyncio.get_running_loop(), period=0.01), transport, 0.2)
        for _ in range(steps):
            await asyncio.sleep(0.02)
            transport.size -= taken
        stall.drop()
        await asyncio.sleep(0.3)
        return transport.cut

    assert asyncio.run(run(900, taken=1)) is False
    assert asyncio.run(run(900, taken=0)) is True
    assert asyncio.run(run(0, taken=0)) is True
    assert asyncio.run(run(900, taken=0, steps=2)) is False
