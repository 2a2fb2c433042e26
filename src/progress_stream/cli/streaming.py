"""`progress-stream streaming on|off`: the switch of all web processes of an installation, in Redis."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from .terminal import USAGE, fail, note


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


def streaming(
    switch: Annotated[Switch, typer.Argument(help="Whether clients may hold streams open.")],
) -> None:
    """Switch streaming on or off at run time: each web server follows within 3 seconds, and pages poll meanwhile.

    Needs PROGRESS_STREAM_REDIS_URL and PROGRESS_STREAM_NAMESPACE as the servers have them.
    """
    from ..settings import load
    from ..store.connect import sync_client
    from ..store.sync import SyncStore

    settings = load()
    if settings.redis_url is None:
        fail("PROGRESS_STREAM_REDIS_URL: is not set (allowed: redis://host:6379/0)", USAGE)
    store = SyncStore(sync_client(settings.redis_url, connections=1), settings)
    try:
        store.send(store.commands.switch_streaming(switch is Switch.ON))
    finally:
        store.close()
    print(f"streaming: {switch.value}")
    if switch is Switch.ON:
        note("servers that run with PROGRESS_STREAM_STREAMING=false stay off")
