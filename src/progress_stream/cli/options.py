"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str, typer.Option(envvar="PROGRESS_STREAM_URL", help="Where the server is.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="PROGRESS_STREAM_TOKEN",
        help="Who you are. Better given by the variable: a command's arguments can be read by others on the machine.",
    ),
]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 takes a free one.")]
Data = Annotated[
    Path,
    typer.Option(
        envvar="PROGRESS_STREAM_DATA", file_okay=False, help="The folder for everything that is kept."
    ),
]

DEFAULT_URL = "http://127.0.0.1:8000"
