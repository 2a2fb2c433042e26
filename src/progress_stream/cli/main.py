"""`progress-stream`: the list of commands, and how each of them ends when something is wrong."""

from __future__ import annotations

import sys

import typer

from ..errors import InvalidInput, ProgressStreamError
from . import cancel, dev, jobs, serve, streaming, submit, token, version, watch
from .conformance import command as conformance
from .doctor import command as doctor
from .terminal import FAILED, INTERRUPTED, USAGE, fail

app = typer.Typer(
    name="progress-stream",
    help="Live progress of Dramatiq jobs that survives every reconnect.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    # A traceback with local variables would show secrets.
    pretty_exceptions_enable=False,
)
for command in (
    dev.dev, serve.serve, submit.submit, watch.watch, jobs.jobs, cancel.cancel, streaming.streaming, token.token, version.version,
    conformance.conformance, doctor.doctor,
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """The entry point: every fault of the input is one line, never a traceback."""
    try:
        app()
    except InvalidInput as error:
        fail(str(error), USAGE)
    except ProgressStreamError as error:
        fail(str(error), FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
