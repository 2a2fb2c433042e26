"""`progress-stream serve`: the web server alone, for production, beside workers and a Redis that others run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..addresses import EXAMPLES
from ..errors import InvalidInput, InvalidSetting
from .options import Host, Port
from .terminal import FAILED, note

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from ..settings import Settings

#: More than any machine has use for; a slip of the finger should not fork one to death.
MOST_PROCESSES: Final = 256


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_PROCESSES,
            help="Serve with so many processes on the one port, under a supervisor that starts again what dies and replaces all at "
            "SIGHUP. Without it: one process, with no supervisor.",
        ),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            help="A file of NAME=value lines with PROGRESS_STREAM_… settings, read again at SIGHUP; the environment wins over it."
        ),
    ] = None,
) -> None:
    """Run the web server; its settings come from PROGRESS_STREAM_… variables."""
    from . import logs
    from .listening import refuse_taken

    settings = settings_of(env_file)
    refuse_taken(host, port)
    logs.configure()

    from ..server.many import serve_many
    from ..server.run import serve as run

    def listening(url: str) -> None:
        note(f"listening on {url}")

    if processes is None:
        from ..api.app import create_app

        run(create_app(settings), settings, host, port, on_listening=listening)
    elif not serve_many(
        processes, application, partial(settings_of, env_file), host, port, on_listening=listening
    ):
        raise SystemExit(FAILED)


def application(settings: Settings) -> Starlette:
    """What each of many processes serves."""
    from ..api.app import create_app
    from . import logs

    logs.configure()
    return create_app(settings)


def settings_of(env_file: Path | None) -> Settings:
    """Those of the environment and of this file as it is now. Raises InvalidInput for what cannot be served with."""
    from ..settings import load

    settings = load() if env_file is None else load(_env_file=readable(env_file))
    refuse_unready(settings)
    return settings


def readable(file: Path) -> Path:
    """Raises InvalidInput: a file that is named and not there would be left out in silence."""
    try:
        file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8"
        raise InvalidInput(
            "--env-file", f"{file} cannot be read: {why}", "a file of NAME=value lines"
        ) from None
    return file


def refuse_unready(settings: Settings) -> None:
    """Raises InvalidSetting for what only `dev` can do without."""
    if settings.redis_url is None:
        raise InvalidSetting("PROGRESS_STREAM_REDIS_URL", "is not set", EXAMPLES)
    if settings.jwt_secret is None and settings.jwks is None and settings.jwt_issuer is None:
        raise InvalidSetting(
            "PROGRESS_STREAM_JWT_SECRET",
            "is not set, nor PROGRESS_STREAM_JWKS or PROGRESS_STREAM_JWT_ISSUER: nobody could sign in",
            "a secret of 32 bytes or more",
        )
