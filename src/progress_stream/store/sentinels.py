"""Which server is the primary, as Sentinels know it, and connections that lead there and nowhere else.

redis-py's own Sentinel pool asks at each connect alone: one that goes on writing to a primary that was replaced and is still
reachable would lose all of it. Here they are asked about once a second as well, while there is something to send. Who is elected,
and what was not replicated by then, is theirs.

One Sentinel that is cut off together with the old primary must not lead back to it: they are asked in turn, and the configuration
with the greater epoch is believed; a smaller one only where none of them knows better.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis
import redis.asyncio
from redis.exceptions import NoPermissionError

from ..addresses import Address, Sentinels
from .failures import SentinelsRefuse

log = logging.getLogger(__name__)

#: Between two questions to the Sentinels while there is something to send: so long a replaced primary may be written to.
CHECK_SECONDS: Final = 1.0
#: For so long a Sentinel that did not answer is asked after all others: each try costs its time-out.
SILENT_SECONDS: Final = 10.0
#: Seconds that a Sentinel has to answer: it is near, and has little to do.
ANSWER_SECONDS: Final = 0.5
_GONE: Final = frozenset({"s_down", "o_down"})
#: That this account may not ask.
_REFUSALS: Final = (redis.AuthenticationError, NoPermissionError)


@dataclass(frozen=True, slots=True)
class Told:
    """What one Sentinel says of the primary; None as address: nothing that can be used."""

    address: Address | None
    epoch: int = 0


class Guide:
    """Whom to ask next, and what to believe. Pure; knows no clock and no connection."""

    def __init__(self, sentinels: int) -> None:
        self.address: Address | None = None
        self._epoch = -1
        self._asked_at = float("-inf")
        self._silent_until = [float("-inf")] * sentinels
        self._turn = 0
        self._refused = False

    def is_due(self, now: float) -> bool:
        # Nobody who can be asked: then not each second somebody waits for that.
        wait = SILENT_SECONDS if min(self._silent_until) > now else CHECK_SECONDS
        return self.address is None or now - self._asked_at >= wait

    def doubt(self) -> None:
        """What leads to no primary is asked for again before it is used."""
        self._asked_at = float("-inf")

    def order(self, now: float) -> list[int]:
        """All Sentinels, each time another one first; those that were silent a moment ago last."""
        self._asked_at = now
        self._refused = False
        count = len(self._silent_until)
        turn = [(self._turn + step) % count for step in range(count)]
        self._turn += 1
        return sorted(turn, key=lambda one: self._silent_until[one] > now)

    def note_silence(self, sentinel: int, now: float) -> None:
        self._silent_until[sentinel] = now + SILENT_SECONDS

    def note_refusal(self, error: redis.RedisError) -> None:
        """Of one that answered: it watches no primary of this name, or this account may not ask it."""
        self._refused = self._refused or isinstance(error, _REFUSALS)

    def known(self) -> Address:
        """Where the primary is. Raises redis' AuthenticationError or ConnectionError where nobody has said it."""
        if self.address is not None:
            return self.address
        if self._refused:
            raise SentinelsRefuse("the Sentinels refuse the password or the account")
        raise redis.ConnectionError("no Sentinel names a primary")

    def takes(self, told: Told) -> bool:
        """True when this answer settles it: nobody needs to be asked after it."""
        if told.address is None or told.epoch < self._epoch:
            return False
        self._take(told)
        return True

    def settle(self, answers: Iterable[Told]) -> None:
        """All were asked, and none knows as much as was known before: then they know better (they were set up anew)."""
        found = [told for told in answers if told.address is not None]
        if found:
            self._take(max(found, key=lambda told: told.epoch))

    def _take(self, told: Told) -> None:
        if self.address not in (None, told.address):
            log.warning("the Sentinels name another primary")
        self.address, self._epoch = told.address, told.epoch


def read(address: Sequence[bytes] | None, state: Sequence[bytes]) -> Told:
    """The answers to GET-MASTER-ADDR-BY-NAME, which knows of a failover first, and to MASTER, as one."""
    told = dict(zip(state[::2], state[1::2], strict=False))
    flags = set(told.get(b"flags", b"").decode().split(","))
    if address is None or flags & _GONE:
        return Told(None)
    return Told(Address(address[0].decode(), int(address[1])), int(told.get(b"config-epoch", 0)))


class SyncLeader:
    """Asks for threads. One of them asks; the others go where it is known to be."""

    def __init__(self, place: Sentinels, sentinels: Sequence[redis.Redis]) -> None:
        self._name = place.name
        self._sentinels = sentinels
        self._guide = Guide(len(sentinels))
        self._lock = threading.Lock()

    def address(self) -> Address:
        """Where the primary is. Raises redis' ConnectionError when none is known."""
        known = self._guide.address
        if self._guide.is_due(time.monotonic()) and self._lock.acquire(blocking=known is None):
            try:
                if self._guide.is_due(time.monotonic()):
                    self._ask()
            finally:
                self._lock.release()
        return self._guide.known()

    def doubt(self) -> None:
        self._guide.doubt()

    def _ask(self) -> None:
        answers = []
        for number in self._guide.order(time.monotonic()):
            try:
                pipeline = self._sentinels[number].pipeline(transaction=False)
                for words in _questions(self._name):
                    pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
                told = read(*pipeline.execute())
            except (redis.ResponseError, redis.AuthenticationError) as error:
                self._guide.note_refusal(error)
                continue
            except (redis.RedisError, OSError):
                self._guide.note_silence(number, time.monotonic())
                continue
            if self._guide.takes(told):
                return
            answers.append(told)
        self._guide.settle(answers)

    def close(self) -> None:
        for sentinel in self._sentinels:
            sentinel.close()


class AsyncLeader:
    """The same for one event loop."""

    def __init__(self, place: Sentinels, sentinels: Sequence[redis.asyncio.Redis]) -> None:
        self._name = place.name
        self._sentinels = sentinels
        self._guide = Guide(len(sentinels))
        self._lock = asyncio.Lock()

    async def address(self) -> Address:
        if self._guide.is_due(time.monotonic()) and (self._guide.address is None or not self._lock.locked()):
            async with self._lock:
                if self._guide.is_due(time.monotonic()):
                    await self._ask()
        return self._guide.known()

    def doubt(self) -> None:
        self._guide.doubt()

    async def _ask(self) -> None:
        answers = []
        for number in self._guide.order(time.monotonic()):
            try:
                pipeline = self._sentinels[number].pipeline(transaction=False)
                for words in _questions(self._name):
                    pipeline.execute_command(*words)
                told = read(*await pipeline.execute())
            except (redis.ResponseError, redis.AuthenticationError) as error:
                self._guide.note_refusal(error)
                continue
            except (redis.RedisError, OSError):
                self._guide.note_silence(number, time.monotonic())
                continue
            if self._guide.takes(told):
                return
            answers.append(told)
        self._guide.settle(answers)

    async def close(self) -> None:
        for sentinel in self._sentinels:
            await sentinel.aclose()


def _questions(name: str) -> tuple[tuple[str, ...], ...]:
    return ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), ("SENTINEL", "MASTER", name)


def _must_be_primary(role: Any, leader: SyncLeader | AsyncLeader) -> None:
    if role[0] != b"master":
        leader.doubt()
        raise redis.ConnectionError("the server that the Sentinels name is not a primary")


def sync_led(kind: Any, leader: SyncLeader) -> Any:
    """A kind of connection that goes to the primary, sees that it is one, and leaves it once it was replaced."""

    class Led(kind):  # type: ignore[misc]
        def connect(self) -> None:
            if self._sock and (self.host, self.port) != leader.address():
                self.disconnect()
            super().connect()

        def _connect(self) -> Any:
            self.host, self.port = leader.address()
            try:
                return super()._connect()
            except OSError:
                leader.doubt()
                raise

        def on_connect_check_health(self, *args: Any, **options: Any) -> None:
            super().on_connect_check_health(*args, **options)
            self.send_command("ROLE", check_health=False)
            _must_be_primary(self.read_response(), leader)

    return Led


def async_led(kind: Any, leader: AsyncLeader) -> Any:
    """The same for one event loop."""

    class Led(kind):  # type: ignore[misc]
        async def connect(self) -> None:
            if self.is_connected and (self.host, self.port) != await leader.address():
                await self.disconnect()
            await super().connect()

        async def _connect(self) -> None:
            self.host, self.port = await leader.address()
            try:
                await super()._connect()
            except OSError:
                leader.doubt()
                raise

        async def on_connect_check_health(self, *args: Any, **options: Any) -> None:
            await super().on_connect_check_health(*args, **options)
            await self.send_command("ROLE", check_health=False)
            _must_be_primary(await self.read_response(), leader)

    return Led


class SyncLed(redis.Redis):
    """A client of the primary; with it end the connections to the Sentinels."""

    leader: SyncLeader

    def close(self) -> None:
        super().close()
        self.leader.close()


class AsyncLed(redis.asyncio.Redis):
    """The same for one event loop."""

    leader: AsyncLeader

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await self.leader.close()
