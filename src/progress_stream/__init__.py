"""The public names, each loaded on first use: a worker never loads the web stack, nor a web process Dramatiq."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from progress_stream.api.app import create_app
    from progress_stream.client.rules import WatchEvent
    from progress_stream.client.watch import watch, watch_sync
    from progress_stream.reporting.interrupts import Cancelled, Superseded
    from progress_stream.reporting.job import current_job
    from progress_stream.reporting.middleware import ProgressMiddleware
    from progress_stream.reporting.report import report
    from progress_stream.reporting.track import track
    from progress_stream.reporting.upload import Upload
    from progress_stream.settings import Settings, load
    from progress_stream.store.connect import broker_client

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "ProgressMiddleware",
    "Settings",
    "Superseded",
    "Upload",
    "WatchEvent",
    "__version__",
    "broker_client",
    "create_app",
    "current_job",
    "load",
    "report",
    "track",
    "watch",
    "watch_sync",
]

_HOMES = {
    "Cancelled": "reporting.interrupts",
    "ProgressMiddleware": "reporting.middleware",
    "Settings": "settings",
    "Superseded": "reporting.interrupts",
    "Upload": "reporting.upload",
    "WatchEvent": "client.rules",
    "broker_client": "store.connect",
    "create_app": "api.app",
    "current_job": "reporting.job",
    "load": "settings",
    "report": "reporting.report",
    "track": "reporting.track",
    "watch": "client.watch",
    "watch_sync": "client.watch",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
