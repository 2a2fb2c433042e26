"""`progress-stream serve`: the web server alone, for production, beside workers and a Redis that others run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..addresses import EXAMPLES
from ..errors import InvalidSetting
from .options import Host, Port
from .terminal import note

if TYPE_CHECKING:
    from ..settings import Settings


def serve(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Run the web server; its settings come from PROGRESS_STREAM_… variables."""
    from ..settings import load
    from . import logs
    from .listening import refuse_taken

    settings = load()
    refuse_unready(settings)
    refuse_taken(host, port)
    logs.configure()

    from ..api.app import create_app
    from ..server.run import serve as run

    run(create_app(settings), settings, host, port, on_listening=lambda url: note(f"listening on {url}"))


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
