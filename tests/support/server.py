"""The real application on a real socket: by the server's own protocol, which takes streams over, and by uvicorn's plain one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import httpx
import redis

from progress_stream import events, jobs
from progress_stream.auth.verify import sign
from progress_stream.errors import StoreUnavailable
from progress_stream.server.run import DrainingServer, listen, make_server
from progress_stream.settings import Settings
from progress_stream.store.files import FileRef, Files
from progress_stream.store.sync import SyncStore
from tests.support.watching import Writer

#: How bodies leave: `hand-over` by our protocol's bare socket, `send` by the ASGI call of any server.
Way = Literal["hand-over", "send"]
WAYS: tuple[Way, ...] = ("hand-over", "send")

SECRET = "a secret that only these tests know, long enough"
PATIENCE_SECONDS = 20.0


@contextmanager
def serving(app: Any, settings: Settings, way: Way = "hand-over") -> Iterator[str]:
    """The URL of the application while it is served, in a loop and a thread of its own."""
    with running(app, settings, way) as (url, _):
        yield url


@contextmanager
def running(app: Any, settings: Settings, way: Way = "hand-over") -> Iterator[tuple[str, DrainingServer]]:
    """As `serving`, with the server, for a test that ends it in its own time."""
    options: dict[str, Any] = {} if way == "hand-over" else {"http": "httptools"}
    urls: list[str] = []
    listening = threading.Event()

    def on_listening(url: str) -> None:
        urls.append(url)
        listening.set()

    server = make_server(app, settings, on_listening=on_listening, **options)
    listener = listen("127.0.0.1", 0, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        if not listening.wait(PATIENCE_SECONDS):
            raise RuntimeError("the server did not begin to listen")
        yield urls[0], server
    finally:
        server.stop()
        thread.join(PATIENCE_SECONDS)
        if thread.is_alive():
            server.stop()
            thread.join(PATIENCE_SECONDS)
        listener.close()


class Site:
    """A served application, tokens for it, and a hand in its store: what a test needs to ask and to compare."""

    def __init__(self, url: str, settings: Settings, client: redis.Redis) -> None:
        self.url = url
        self.settings = settings
        self.redis = client
        self.store = SyncStore(client, settings)
        self.files = Files(settings.effective_files_url)

    def token(self, subject: str = "alice", scopes: str = "jobs:read jobs:write", seconds: int = 600) -> str:
        return sign(SECRET, subject, scopes, seconds)

    def expired_token(self, subject: str = "alice") -> str:
        """Genuine, and past every leeway."""
        return sign(SECRET, subject, "jobs:read jobs:write", 60, now=time.time() - 3_600)

    def headers(self, subject: str = "alice", scopes: str = "jobs:read jobs:write") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(subject, scopes)}"}

    def client(self, subject: str | None = "alice", scopes: str = "jobs:read jobs:write") -> httpx.Client:
        """With this caller's token in each request; None: with none. Follows no redirect."""
        headers = {} if subject is None else self.headers(subject, scopes)
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_SECONDS)

    def job(self, id: str = "job-1", owner: str | None = "alice", **known: Any) -> Attempt:
        """A job that is queued and known to the broker."""
        attempt = Attempt(self, jobs.Header(id, "personalize", owner=owner, created_at=_now_ms(), **known))
        attempt.create()
        return attempt

    def announce(
        self, name: str = "personalize", schema: Mapping[str, Any] | None = None, seconds: int = 60
    ) -> None:
        """As a worker does at its boot; the web server may remember an older look for two seconds."""
        described = {
            "name": name, "queue": "default", "title": None,
            "schema": schema or {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        }  # fmt: skip
        self.store.send(self.store.commands.announce({name: events.encode(described)}, seconds))

    def wait_until_ready(self) -> None:
        """Until live delivery has proved itself."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while httpx.get(f"{self.url}/readyz").status_code != 200:
            if time.monotonic() > deadline:
                raise TimeoutError("the server did not become ready")
            time.sleep(0.05)


class Attempt(Writer):
    """A job played by hand, with an owner and a file of its own."""

    def __init__(self, site: Site, header: jobs.Header) -> None:
        super().__init__(site.redis, site.settings, header.id)
        self.site = site
        self.header = header
        self.state = jobs.new(header)

    def succeed(self, result: Any = None, file: FileRef | None = None) -> None:
        self._end("succeeded", file=file, result=result)

    def fail(self) -> None:
        self._end("failed", error={"type": "ValueError", "message": "no"})

    def _end(self, type: str, *, file: FileRef | None = None, **fields: Any) -> None:
        event = events.make(self.job, type, at=events.now_text(), attempt=self.attempt, **fields)
        state = jobs.fold(self.state, event)
        self.sequence += 1
        batch = [(type, events.encode(event))]
        commands = self.store.commands
        self.store.send(
            commands.append(self.job, self.attempt, self.nonce, self.sequence, batch, state, file=file)
        )

    def save(self, name: str, media_type: str, content: bytes) -> FileRef:
        """A file of the job, as `job.save` makes it."""
        return self.site.files.save(self.job, name, media_type, [content])


def is_down(store: SyncStore) -> bool:
    try:
        store.send(store.commands.clock())
    except StoreUnavailable:
        return True
    return False


def _now_ms() -> int:
    return int(time.time() * 1000)
