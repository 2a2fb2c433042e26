"""Streams of whole states for pages that show many jobs: who looks at which owner's jobs, and the one reader for all of them.

A wake-up says only that a job of an owner has changed; the state is read, once for everybody who shows it. What is read when, and
which state may be shown, `overview` decides; lives, heartbeats and limits are the hub's.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from .. import events, jobs
from ..errors import StoreError
from ..frames import sse
from ..store import messages
from ..store.answers import Look
from .list_watcher import ListStart, ListWatcher, OwnerTopic
from .overview import SPACING_SECONDS, Overview
from .sink import Sink

if TYPE_CHECKING:
    from .hub import Hub

log = logging.getLogger(__name__)

#: Jobs of one read, and ids of one look into a list.
PAGE: Final = 200
#: A resume begins so much earlier than asked for: what was told at that time may have been written a little later.
SLACK_MS: Final = 5_000
#: Between two looks at what changed, for wake-ups that were lost.
CHECK_SECONDS: Final = 20.0
#: A job that is missing right after Redis lost data is looked for again.
_BACK_SECONDS: Final = 2.0
#: For so long an answer to whether Redis lost data serves all that are missing.
_ASKED_SECONDS: Final = 0.5
_CHANGES_AT_ONCE: Final = 1_000


class Lists:
    """All list streams of one process."""

    def __init__(self, hub: Hub, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._hub = hub
        self._spawn = spawn
        self._store = hub.store
        self._topics: dict[str, OwnerTopic] = {}
        self._by_channel: dict[bytes, OwnerTopic] = {}
        self._owner_of: dict[str, str] = {}
        self._overview = Overview()
        self._reading = asyncio.Lock()
        self._wake = asyncio.Event()
        self._heard_ms = 0
        self._replids: dict[int | None, str] = {}
        self._asked_at = float("-inf")
        self.repairs = 0
        #: What a queued job waits for; the application knows.
        self.missing: Callable[[str], Awaitable[str | None]] | None = None

    # -- who looks

    def watch(self, sink: Sink, start: ListStart) -> ListWatcher:
        """Serve this sink from now on. Whatever the request asked for first has been written already."""
        watcher = ListWatcher(self._hub, sink, start)
        self._hub.enter(watcher)
        if not start.any_owner:
            self._join(watcher, start.subject)
        self.catch_up(watcher)
        return watcher

    def _join(self, watcher: ListWatcher, owner: str) -> None:
        topic = self._topics.get(owner)
        if topic is None:
            channel = self._store.commands.keys.owner_channel(owner).encode()
            topic = OwnerTopic(owner, channel, asyncio.get_running_loop().create_future())
            topic.check_at = self._hub.now() + CHECK_SECONDS * random.uniform(0.5, 1)
            self._topics[owner] = self._by_channel[channel] = topic
            self._hub.wakeups.subscribe(channel)
        topic.watchers[watcher] = None
        watcher.topics[owner] = topic

    def depart(self, watcher: ListWatcher) -> None:
        """It is gone: its owners' topics are closed when nobody else looks at them."""
        for topic in watcher.topics.values():
            topic.watchers.pop(watcher, None)
            if not topic.watchers and self._topics.get(topic.owner) is topic:
                del self._topics[topic.owner], self._by_channel[topic.channel]
                self._hub.wakeups.unsubscribe(topic.channel)
        watcher.topics.clear()
        watcher.pending.clear()

    # -- what is heard

    def confirmed(self, channel: bytes) -> None:
        topic = self._by_channel.get(channel)
        if topic is None:
            return
        if topic.confirmed.done():
            # Confirmed once more: the connection was another one, and what came between is lost.
            topic.check_at = 0.0
        else:
            topic.confirmed.set_result(None)

    def heard(self, channel: bytes, payload: bytes) -> None:
        """A job of an owner has changed, or will be gone in so many milliseconds."""
        topic = self._by_channel.get(channel)
        change = messages.change_of(payload)
        if topic is not None and change is not None:
            self._note(topic, *change)

    def _note(self, topic: OwnerTopic, job: str, now: int, ahead_ms: int) -> None:
        topic.heard[job] = now + ahead_ms
        self._owner_of[job] = topic.owner
        self._heard_ms = max(self._heard_ms, now)
        wait = (ahead_ms + 100) / 1000 if ahead_ms else 0.0
        self._overview.mark(job, self._hub.now(), now + ahead_ms, wait)
        self._wake.set()

    # -- the one reader

    async def work(self) -> None:
        """Read what is due, and give it to who shows it; for ever."""
        while True:
            await self._until_due()
            due = self._overview.take(self._hub.now(), PAGE)
            shown = [await self._read_and_show(part) for part in self._by_shard(due)]
            if shown and not any(shown):
                await asyncio.sleep(random.uniform(0.2, 1.0))

    def _by_shard(self, ids: Sequence[str]) -> Iterable[list[str]]:
        """One shard that is away holds up no job on another."""
        parts: defaultdict[object, list[str]] = defaultdict(list)
        for job in ids:
            parts[self._store.shard_of(job)].append(job)
        return parts.values()

    async def _read_and_show(self, ids: Sequence[str]) -> bool:
        """False where Redis could not be asked: then again, a moment later."""
        try:
            looks = await self._read(ids)
        except StoreError:
            self._overview.failed(ids, self._hub.now(), random.uniform(0.2, 1.0))
            return False
        await self._show(ids, looks)
        return True

    async def _until_due(self) -> None:
        while True:
            self._wake.clear()
            at = self._overview.next_at()
            now = self._hub.now()
            if at is not None and at <= now:
                return
            try:
                async with asyncio.timeout(None if at is None else at - now):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _read(self, ids: Sequence[str]) -> list[Look]:
        """One after another, so that no read is shown after a later one."""
        async with self._reading:
            self._overview.note_read(ids, self._hub.now())
            looks = await self._store.looks([self._store.commands.look(job) for job in ids])
            # Once more: from a Redis that answers late, two states of a job would be shown in one moment.
            self._overview.note_read(ids, self._hub.now())
        self._note_servers(
            {self._store.place_of(job): look.replid for job, look in zip(ids, looks, strict=True)}
        )
        return looks

    def _note_servers(self, replids: Mapping[int | None, str]) -> None:
        """Another replication id: Redis was restarted or another server was promoted. What was heard is doubted."""
        if any(self._replids.get(place, replid) != replid for place, replid in replids.items()):
            for topic in self._topics.values():
                topic.check_at = 0.0
        self._replids.update(replids)

    async def _show(self, ids: Sequence[str], looks: Sequence[Look]) -> None:
        """Give each its frames. Nothing waits between deciding that a state may be shown and writing it."""
        found = [await self._completed(look) for look in looks]
        pieces: dict[ListWatcher, list[bytes]] = {}
        late: list[str] = []
        for job, look in zip(ids, found, strict=True):
            frame = None if look is None else self._frame(job, look)
            if look is None or frame is None:
                late.append(job)
            else:
                self._deal(job, look, frame, pieces)
        self._overview.failed(late, self._hub.now(), _BACK_SECONDS)
        self._overview.done(ids)
        for watcher, frames in pieces.items():
            watcher.write(self._joined(watcher, frames, self._overview.shown_through(self._heard_ms)))

    def _deal(self, job: str, look: Look, frame: bytes, pieces: dict[ListWatcher, list[bytes]]) -> None:
        for watcher in self._lookers(job, look):
            if watcher.live and watcher.sink.ready:
                pieces.setdefault(watcher, []).append(frame)
            else:
                watcher.live = False
                watcher.pending[job] = None
                self.catch_up(watcher)

    def _lookers(self, job: str, look: Look) -> list[ListWatcher]:
        """Who shows this job; one that is gone, whoever looks at the list of the owner that it was told of."""
        record = look.record
        owner = self._owner_of.get(job) if record is None else record.packed["owner"] or ""
        if not self._overview.waits_for(job):
            self._owner_of.pop(job, None)
        topic = None if owner is None else self._topics.get(owner)
        if topic is None:
            return []
        if record is None:
            return [one for one in topic.watchers if one.wants(job)]
        return [one for one in topic.watchers if one.shows(record.packed["owner"], job)]

    async def _completed(self, look: Look) -> Look | None:
        """With what a queued job waits for; None: it is missing, and may only not be back yet."""
        record = look.record
        if record is None:
            return None if not look.tombstone and await self._may_come_back() else look
        if record.control.status == "queued" and self.missing is not None:
            missing = await self.missing(record.packed["actor"])
            return replace(look, record=replace(record, waiting_for=missing))
        return look

    def _frame(self, job: str, look: Look) -> bytes | None:
        """What is shown of a job; None for a state older than what was shown before."""
        record = look.record
        if record is None:
            self._overview.forget(job)
            return _gone(job)
        if not self._overview.accepts(job, record.control.last):
            return None
        state = jobs.view(record)
        del state["result"]
        return sse.encode(event="job", data=events.encode(state))

    async def _may_come_back(self) -> bool:
        """Whether Redis lost data lately: then a reporter may bring a job back that is not there now. Asked once for many."""
        now = self._hub.now()
        if now - self._asked_at > _ASKED_SECONDS:
            try:
                await self._hub.path.check_marker()
            except StoreError:
                return True
            self._asked_at = now
        return self._hub.path.lost_data_lately()

    def _joined(self, watcher: ListWatcher, frames: list[bytes], through: int) -> bytes:
        """The frames as one piece. The last one names the time up to which the page has seen everything: who is cut between two of
        them asks for all of them again. While wake-ups may have been lost nobody can say it."""
        if any(topic.check_at == 0.0 for topic in watcher.topics.values()):
            return b"".join(frames)
        return b"".join(frames)[:-1] + b"id: %d\n\n" % max(through, 0)

    # -- one page's own way to the present

    def catch_up(self, watcher: ListWatcher) -> None:
        """Show what is pending; live after that."""
        if not watcher.catching and not watcher.gone and watcher.sink.ready and not watcher.live:
            watcher.catching = True
            self._spawn(self._catch_up_until_live(watcher))

    async def _catch_up_until_live(self, watcher: ListWatcher) -> None:
        try:
            while not watcher.gone and watcher.sink.ready and not watcher.live:
                try:
                    if not watcher.planned:
                        await self._plan(watcher)
                    watcher.live = await self._next_page(watcher)
                except StoreError:
                    await asyncio.sleep(random.uniform(0.2, 1.0))
        finally:
            watcher.catching = False
        if watcher.live:
            watcher.shown_at.clear()
        self.catch_up(watcher)

    async def _plan(self, watcher: ListWatcher) -> None:
        """What there is to show first. Asked when the wake-ups are confirmed, so that nothing falls between."""
        start = watcher.start
        if start.any_owner:
            for owner in await self._owners(start.jobs or ()):
                self._join(watcher, owner)
        for topic in list(watcher.topics.values()):
            await asyncio.shield(topic.confirmed)
        now = await self._store.send(self._store.commands.clock())
        for topic in watcher.topics.values():
            topic.checked_ms = topic.checked_ms or now
        self._heard_ms = max(self._heard_ms, now)
        since = start.since
        if since is not None and not now - self._store.commands.lists.changes_ms < since <= now + SLACK_MS:
            since = None
        if start.only_new:
            pass
        elif start.jobs is not None:
            watcher.pending.update(dict.fromkeys(await self._changed_of(watcher, start.jobs, since)))
        elif since is not None:
            watcher.pending.update(dict.fromkeys(await self._changed(start.subject, since - SLACK_MS)))
        else:
            watcher.everything = True
        watcher.planned = True

    async def _owners(self, ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(ids), PAGE):
            looks = await self._read(ids[start : start + PAGE])
            found |= {look.record.packed["owner"] or "" for look in looks if look.record is not None}
        return found

    async def _changed_of(self, watcher: ListWatcher, ids: Sequence[str], since: int | None) -> Iterable[str]:
        """Those of the named jobs that changed since then, as far as that is known; of the rest nobody knows it."""
        if since is None:
            return ids
        unchanged: set[str] = set()
        for owner in watcher.topics:
            times = await self._store.send(self._store.commands.lists.changes_of(owner, ids))
            unchanged |= {
                job for job, at in zip(ids, times, strict=True) if at is not None and at < since - SLACK_MS
            }
        return (job for job in ids if job not in unchanged)

    async def _changed(self, owner: str, since: int) -> dict[str, int]:
        """All jobs of an owner that changed from then on, and when."""
        found: dict[str, int] = {}
        offset = 0
        while True:
            part = await self._store.send(
                self._store.commands.lists.changed_since(owner, since, offset, _CHANGES_AT_ONCE)
            )
            found.update((job, at) for at, job in part)
            if len(part) < _CHANGES_AT_ONCE:
                return found
            # By time, not by number: those that change meanwhile move to the end. Ties are counted over.
            last = part[-1][0]
            offset = offset + len(part) if last == since else sum(at == last for at, _ in part)
            since = last

    async def _next_page(self, watcher: ListWatcher) -> bool:
        """Show the next of what is pending. True when there is no more."""
        through = self._overview.shown_through(self._heard_ms)
        listed = not watcher.pending and watcher.everything
        ids = await self._listed(watcher) if listed else list(islice(watcher.pending, PAGE))
        await self._keep_distance(watcher, ids)
        for job in ids:
            watcher.pending.pop(job, None)
        try:
            looks = await self._read(ids)
        except StoreError:
            watcher.pending.update(dict.fromkeys(ids))
            raise
        found = [await self._completed(look) for look in looks]
        if watcher.gone:
            return False
        watcher.shown_at.update(dict.fromkeys(ids, self._hub.now()))
        shown = (self._piece(watcher, job, look, listed) for job, look in zip(ids, found, strict=True))
        frames = [frame for frame in shown if frame]
        over = not watcher.pending and not watcher.everything
        if frames:
            watcher.write(self._joined(watcher, frames, through) if over else b"".join(frames))
        return over

    async def _keep_distance(self, watcher: ListWatcher, ids: Sequence[str]) -> None:
        """Until none of them was shown to this page a moment ago."""
        shown = (watcher.shown_at.get(job, float("-inf")) for job in ids)
        wait = max(shown, default=float("-inf")) + SPACING_SECONDS - self._hub.now()
        if wait > 0:
            await asyncio.sleep(wait)

    async def _listed(self, watcher: ListWatcher) -> list[str]:
        """The next of the whole list."""
        call = self._store.commands.lists.page(watcher.start.subject, None, None, watcher.place, PAGE)
        found = await self._store.send(call)
        watcher.everything = len(found) == PAGE
        watcher.place = found[-1] if found else watcher.place
        return [job for _, job in found if "~" not in job]

    def _piece(self, watcher: ListWatcher, job: str, look: Look | None, listed: bool) -> bytes:
        """A job's frame for this page; empty where there is nothing to show now. Another's is as gone as one that never was."""
        record = None if look is None else look.record
        if record is not None and not watcher.shows(record.packed["owner"], job):
            return b"" if watcher.jobs is None else _gone(job)
        if record is None and listed:
            return b""  # A hint without a job, in a list that this page has not seen yet.
        frame = None if look is None else self._frame(job, look)
        if frame is None:
            self._owner_of.setdefault(job, watcher.start.subject)
            self._overview.mark(job, self._hub.now(), self._heard_ms, _BACK_SECONDS)
            self._wake.set()
        return frame or b""

    # -- doubt

    async def check(self) -> None:
        """Look at what changed for wake-ups that were lost; for ever."""
        while True:
            await asyncio.sleep(1.0)
            now = self._hub.now()
            for topic in [topic for topic in self._topics.values() if topic.check_at <= now]:
                try:
                    await self._check(topic)
                except StoreError:
                    # The next round tries the others: what one owner's list is of another kind for holds up nobody.
                    topic.check_at = now + random.uniform(1, 2)
                    break

    async def _check(self, topic: OwnerTopic) -> None:
        if topic.checked_ms:
            now = await self._store.send(self._store.commands.clock())
            changed = await self._changed(topic.owner, topic.checked_ms - SLACK_MS)
            for job, at in changed.items():
                if topic.heard.get(job) != at:
                    self.repairs += 1
                    self._note(topic, job, min(at, now), max(at - now, 0))
            topic.checked_ms = now
            topic.heard = {job: at for job, at in topic.heard.items() if at >= now - SLACK_MS}
        topic.check_at = self._hub.now() + CHECK_SECONDS * random.uniform(0.8, 1.2)


def _gone(job: str) -> bytes:
    return sse.encode(event="gone", data=events.encode({"id": job}))
