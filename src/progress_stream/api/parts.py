"""What the requests of one process share, put together once. Connects to nothing until the first request or the lifespan."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any, Final
from weakref import WeakValueDictionary

from starlette.requests import Request

from ..auth.login import SignIn
from ..auth.verify import Verifier
from ..auth.who import Authenticate
from ..errors import InvalidSetting, StoreError
from ..jobs import Record
from ..settings import PREFIX, Settings
from ..store.aio import AsyncStore
from ..store.connect import async_client, sync_client
from ..store.files import Files
from ..store.sweep import Sweeper
from ..store.sync import SyncStore
from ..streaming.hub import Hub
from ..submitting import Submitter
from .queues import Queues
from .remembered import Remembered
from .sweeping import sweep_in_turn

#: How old a look at the announcements may be: they are renewed and forgotten in steps of many seconds.
ANNOUNCED_SECONDS: Final = 2.0


class Parts:
    """Everything a handler may need. `verifier` is None where the host application says who asks."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: AsyncStore,
        history_store: AsyncStore,
        sync_store: SyncStore,
        hub: Hub,
        verifier: Verifier | None,
        sign_in: SignIn | None,
        authenticate: Authenticate | None,
        files: Files,
        submitter: Submitter,
        owns_broker: bool,
    ) -> None:
        self.settings = settings
        self.store = store
        self.history_store = history_store
        self.sync_store = sync_store
        self.hub = hub
        self.verifier = verifier
        self.sign_in = sign_in
        self.authenticate = authenticate
        self.files = files
        self.submitter = submitter
        self._owns_broker = owns_broker
        self.sweeper = Sweeper(sync_store, settings, files.delete_job)
        self.announced = Announced(store)
        self.queues = Queues(self.announced.actors, submitter.queue_sizes)
        hub.lists.missing = self.announced.missing
        self.leaving = False
        #: Jobs that are being submitted here.
        self.under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._started: asyncio.Future[None] | None = None
        self._sweeping: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Once, by whoever comes first: inside another application nobody runs our lifespan."""
        if self._started is None:
            self._started = asyncio.ensure_future(self.hub.start())
            self._sweeping = asyncio.ensure_future(sweep_in_turn(self.sweeper))
        await asyncio.shield(self._started)

    async def stop(self) -> None:
        """End what `start` began, and close what was opened since."""
        self.leaving = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._started is not None:
            await self.hub.stop()
        if self._owns_broker:
            await asyncio.to_thread(self.submitter.close)
        await asyncio.to_thread(self.sync_store.close)
        for store in (self.store, self.history_store):
            await store.close()

    async def drain(self) -> None:
        """Fail `readyz` at once; send streams away only when load balancers have had the time to see it."""
        self.leaving = True
        await asyncio.sleep(self.settings.ready_seconds)
        await self.hub.drain(self.settings.drain_seconds)

    async def send_away(self) -> None:
        """Send every stream away over DRAIN_SECONDS, for others to take. Who comes meanwhile is not refused."""
        await self.hub.send_all_away(self.settings.drain_seconds)


class Announced:
    """The actors that workers announce, looked at once for all who ask within two seconds."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._looked_at = float("-inf")
        self._found: dict[str, bytes] = {}
        self._looking: asyncio.Task[dict[str, bytes]] | None = None

    async def actors(self) -> dict[str, bytes]:
        """Name → description (JSON). Raises StoreUnavailable."""
        if time.monotonic() - self._looked_at < ANNOUNCED_SECONDS:
            return self._found
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        return await asyncio.shield(self._looking)

    async def missing(self, actor: str) -> str | None:
        """What a queued job of this actor waits for; None where nothing is known to be missing."""
        try:
            known = await self.actors()
        except StoreError:
            return None
        return None if actor in known else f"no worker announces actor {actor}"

    async def completed(self, record: Record) -> Record:
        """With what a queued job waits for."""
        if record.control.status != "queued":
            return record
        return replace(record, waiting_for=await self.missing(record.packed["actor"]))

    def saw(self, actor: str) -> None:
        """A submission has just found this one announced: no older look may say otherwise."""
        self._found = {**self._found, actor: b""}

    async def _look(self) -> dict[str, bytes]:
        commands = self._store.commands
        names = await self._store.send(commands.announced_names())
        self._found = await self._store.send(commands.announced(names))
        self._looked_at = time.monotonic()
        return self._found


def build(settings: Settings, authenticate: Authenticate | None, broker: Any | None) -> Parts:
    """The parts of an installation. Raises InvalidSetting for what is missing or unusable."""
    if settings.redis_url is None:
        raise InvalidSetting(PREFIX + "REDIS_URL", "is not set", "redis://host:6379/0")
    verifies = bool(settings.jwt_secret or settings.jwks or settings.jwt_issuer)
    if authenticate is None and not verifies and settings.oidc_issuer is None:
        allowed = f"a secret of 32 bytes or more, or {PREFIX}JWKS"
        raise InvalidSetting(PREFIX + "JWT_SECRET", "is not set: nobody could be told apart", allowed)
    store = _store(settings, 32)
    history_store = _store(settings, 16)
    sync_store = SyncStore(sync_client(settings.redis_url, connections=16), settings)
    return Parts(
        settings,
        store=store,
        history_store=history_store,
        sync_store=sync_store,
        hub=Hub(settings, history_store, settings.redis_url, probe_store=store),
        verifier=Verifier(settings) if authenticate is None and verifies else None,
        sign_in=_sign_in(settings, store, authenticate),
        authenticate=authenticate,
        files=Files(settings.effective_files_url),
        submitter=Submitter(settings, sync_store, broker),
        owns_broker=broker is None,
    )


def _sign_in(settings: Settings, store: AsyncStore, authenticate: Authenticate | None) -> SignIn | None:
    """None where nobody signs in here. Raises InvalidSetting for half a provider."""
    if settings.oidc_issuer is None or authenticate is not None:
        return None
    if settings.oidc_client_id is None:
        raise InvalidSetting(
            PREFIX + "OIDC_CLIENT_ID", "is not set, but OIDC_ISSUER is", "the provider's name for this client"
        )
    return SignIn(settings, Remembered(store))


def _store(settings: Settings, connections: int) -> AsyncStore:
    return AsyncStore(async_client(settings.redis_url or "", connections=connections), settings)


def parts_of(request: Request) -> Parts:
    """The parts of the application that this request is for."""
    parts: Parts = request.app.state.parts
    return parts
