"""`progress-stream dev`: all in one: an embedded Redis, a worker and the web server. For a developer's machine."""

from __future__ import annotations

import importlib.machinery
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import InvalidInput
from .options import Data, Host, Port
from .terminal import FAILED, INTERRUPTED, SUCCEEDED, fail

if TYPE_CHECKING:
    from ..settings import Settings
    from ..store.embedded import EmbeddedRedis
    from .children import Child, Kept

#: A developer's token outlives the week in which the page stays open.
TOKEN_SECONDS: Final = 30 * 86_400
#: Nobody balances load here, and whoever pressed Ctrl-C is waiting.
QUICK: Final = {"ready_seconds": 0, "drain_seconds": 1}


def dev(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data: Data = Path("data"),
    worker: Annotated[
        str, typer.Option(metavar="MODULE", help="Where your actors are: what you would give to `dramatiq`.")
    ] = "workers",
) -> None:
    """Run everything on this machine: Redis, a worker and the web server. Ctrl-C ends all of it."""
    from . import logs
    from .listening import refuse_taken

    interruption = Interruption()
    folders = folders_of(worker)
    refuse_taken(host, port)
    logs.configure()
    sys.exit(_run(interruption, host, port, data.absolute(), worker, folders))


class Interruption:
    """Ctrl-C and SIGTERM while no server listens to them: the first is remembered, the second ends everything now.

    Nothing is raised in a handler: an exception between a process's start and the line that remembers it would leave
    it behind.
    """

    def __init__(self) -> None:
        self.asked = False
        self._kept: list[Kept] = []
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, self._heard)

    def also_ends(self, kept: Kept) -> Kept:
        self._kept.append(kept)
        return kept

    def end_now(self) -> None:
        for kept in self._kept:
            kept.kill()
        # Threads that wait for a child would hold an ordinary exit up.
        os._exit(INTERRUPTED)

    def _heard(self, _signal: int, _frame: FrameType | None) -> None:
        if self.asked:
            self.end_now()
        self.asked = True


def _run(
    interruption: Interruption, host: str, port: int, data: Path, module: str, folders: list[Path]
) -> int:
    from .children import Kept

    settings = settings_for(data)
    with ExitStack() as stack:

        def keep(name: str, start: Callable[[], Child]) -> None:
            stack.enter_context(interruption.also_ends(Kept(name, start)))

        if settings.redis_url is None:
            redis = OwnRedis(data)
            keep("embedded Redis", redis.start)
            settings = settings_for(data, redis_url=redis.url)
        if not interruption.asked:
            keep("worker", lambda: start_worker(settings, module, folders))
        if interruption.asked:
            return SUCCEEDED
        return _serve(interruption, settings, host, port)


def settings_for(data: Path, redis_url: str | None = None) -> Settings:
    """The environment's settings, with what `dev` brings itself. Raises InvalidSetting."""
    from ..settings import PREFIX, load
    from .secret import own_secret

    given = {name.upper() for name in os.environ}
    chosen: dict[str, Any] = {
        name: value for name, value in QUICK.items() if (PREFIX + name).upper() not in given
    }
    if redis_url is not None:
        chosen["redis_url"] = redis_url
    settings = load(data=data, **chosen)
    return settings if settings.jwt_secret else load(data=data, **chosen, jwt_secret=own_secret(data))


class OwnRedis:
    """The embedded server as a child that can be started again; its address stays the same."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._server: EmbeddedRedis | None = None

    def start(self) -> OwnRedis:
        from ..store.embedded import EmbeddedRedis

        self._server = EmbeddedRedis.start(self._data)
        return self

    @property
    def url(self) -> str:
        return self._started.url()

    @property
    def running(self) -> bool:
        return self._started.running

    def stop(self) -> None:
        self._started.stop()

    def kill(self) -> None:
        """In good order all the same: it writes its file in a moment, and its guard ends it with us."""

    @property
    def _started(self) -> EmbeddedRedis:
        if self._server is None:
            raise RuntimeError("the embedded Redis was not started")
        return self._server


def folders_of(module: str) -> list[Path]:
    """Where the worker looks for this module first. Ends the command with one line where it is not to be found."""
    folders = [Path.cwd()]
    # In a checkout the worker program lies beside `src`, wherever `dev` is started.
    checkout = Path(__file__).parents[3]
    if (checkout / "workers" / "__init__.py").is_file() and checkout not in folders:
        folders.append(checkout)
    top = module.partition(":")[0].partition(".")[0]
    if importlib.machinery.PathFinder.find_spec(top, [*map(str, folders), *sys.path]) is None:
        raise InvalidInput(
            "--worker", f"there is no module {top!r:.80} here", "a module with your broker and actors"
        )
    return folders


def start_worker(settings: Settings, module: str, folders: list[Path]) -> Child:
    """A worker on the same Redis and files. It gets no secret, for it asks nobody to sign in."""
    from .children import GuardedProgram

    told = {
        "REDIS_URL": settings.redis_url,
        "BROKER_URL": settings.effective_broker_url,
        "DATA": settings.data,
        "FILES_URL": settings.effective_files_url,
    }
    env = {name: value for name, value in os.environ.items() if not _is_secret(name)}
    # The web server's, in this process.
    env.pop("PROGRESS_STREAM_ADMIN_PORT", None)
    env |= {f"PROGRESS_STREAM_{name}": str(value) for name, value in told.items()}
    command = [sys.executable, "-m", "progress_stream.cli.worker", module, *map(str, folders)]
    return GuardedProgram(command, env)


def _is_secret(name: str) -> bool:
    return name.upper() in {"PROGRESS_STREAM_JWT_SECRET", "PROGRESS_STREAM_TOKEN"}


def _serve(interruption: Interruption, settings: Settings, host: str, port: int) -> int:
    from ..api.app import create_app
    from ..server.run import listen, make_server

    def listening(url: str) -> None:
        if interruption.asked:  # between the last look and the moment when the server began to hear signals
            server.stop()
        else:
            announce(settings, url)

    server = make_server(create_app(settings), settings, on_listening=listening)
    try:
        listener = listen(host, port, settings)
    except InvalidInput as error:
        fail(str(error), FAILED)
    server.run(sockets=[listener])
    if server.force_exit:
        interruption.end_now()
    # What comes now is the second signal to us, though the first to this handler.
    interruption.asked = True
    return SUCCEEDED if server.started else FAILED


def announce(settings: Settings, url: str) -> None:
    """What a person or a program waits for, each on a line of its own."""
    from ..auth.verify import sign

    if settings.jwt_secret is None:
        raise RuntimeError("dev runs with a secret")
    token = sign(
        settings.jwt_secret.get_secret_value(),
        "dev",
        "jobs:read jobs:write",
        TOKEN_SECONDS,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        owner_claim=settings.owner_claim,
    )
    print(f"link: {url}/?token={token}", flush=True)
    print(f"token: {token}", flush=True)
