"""`track()`: counts a loop, like tqdm. The loop only adds; the flusher's thread looks at the count a few times a second.

On purpose unlike tqdm: no clock in the loop and no guess of how many items to skip, so that a loop that suddenly slows down is
still seen, and each item costs one addition and one comparison.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final, TypeVar, overload

from .job import Job, current_job

T = TypeVar("T")

_NEVER: Final = sys.maxsize


class _Loop:
    """What the flusher may do with a loop that runs in another thread."""

    __slots__ = ("halt", "read")

    def __init__(self, read: Callable[[], int], halt: Callable[[], None]) -> None:
        self.read = read
        self.halt = halt


@overload
def track(
    items: AsyncIterable[T], *, total: float | None = None, unit: str | None = None, job: Job | None = None
) -> AsyncIterator[T]: ...
@overload
def track(
    items: Iterable[T], *, total: float | None = None, unit: str | None = None, job: Job | None = None
) -> Iterator[T]: ...
def track(items: Any, *, total: float | None = None, unit: str | None = None, job: Job | None = None) -> Any:
    """The same items, one by one, while the job's bar follows. `total` is `len(items)` where it has one.

    `job` is the current one by default; a thread that the actor started has none and needs it given. A loop inside a tracked loop
    does not move the bar; one after another go on where the bar stands. Raises Cancelled and Superseded between two items.
    """
    handle = current_job() if job is None else job
    known = _length(items) if total is None else total
    if hasattr(items, "__aiter__"):
        return _walk_async(items, handle, known, unit)
    return _walk(items, handle, known, unit)


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except TypeError:
        return None


def _walk(items: Iterable[T], job: Job, total: float | None, unit: str | None) -> Iterator[T]:
    done, limit = 0, _NEVER

    def read() -> int:
        return done

    def halt() -> None:
        nonlocal limit
        limit = 0

    loop = _Loop(read, halt)
    job._attach(loop, total, unit)
    try:
        for item in items:
            yield item
            done += 1
            if done >= limit:
                job.raise_if_cancelled()
    finally:
        job._detach(loop)
    job.raise_if_cancelled()


async def _walk_async(
    items: AsyncIterable[T], job: Job, total: float | None, unit: str | None
) -> AsyncIterator[T]:
    done, limit = 0, _NEVER

    def read() -> int:
        return done

    def halt() -> None:
        nonlocal limit
        limit = 0

    loop = _Loop(read, halt)
    job._attach(loop, total, unit)
    try:
        async for item in items:
            yield item
            done += 1
            if done >= limit:
                job.raise_if_cancelled()
    finally:
        job._detach(loop)
    job.raise_if_cancelled()
