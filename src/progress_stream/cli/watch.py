"""`progress-stream watch`: follow one job to its end, whatever happens to the connection; the exit code says how it ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..errors import AccessError, InvalidInput, NoSuchJob, ProgressStreamError
from .options import DEFAULT_URL, Token, Url
from .terminal import CANCELLED, FAILED, NOT_ALLOWED, SUCCEEDED, USAGE, fail, note, pipe_closed

if TYPE_CHECKING:
    from ..client.rules import Replay

CODES: Final = {"succeeded": SUCCEEDED, "failed": FAILED, "cancelled": CANCELLED}
#: Waits shorter than this are not worth a line to a person.
WORTH_SAYING_SECONDS: Final = 0.5


def watch(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: the event's id and its data.")
    ] = False,
    parts: Annotated[
        bool,
        typer.Option("--parts", help="A line for each part that runs, of a job that was spread over many."),
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Follow a job to its end.

    Ends with 0 when the job succeeded, 1 failed, 2 wrong usage, 3 cancelled, 4 no such job or not allowed, 130 interrupted.
    """
    from ..client.watch import watch_sync
    from ..events import is_job_id
    from .display import display

    if not is_job_id(job):
        raise InvalidInput("JOB", "is not a job's id", "what `submit` prints")
    with display(as_json, parts=parts) as shown:
        # Who looks at a bar wants to see it now, not how it came to be.
        replay: Replay = "snapshot" if shown.wants_the_state_alone else "events"
        try:
            for event in watch_sync(url, job, token=token, replay=replay, on_drop=_say_drop):
                shown.show(event)
        except BrokenPipeError:
            pipe_closed()
        except (NoSuchJob, AccessError) as error:
            fail(str(error), NOT_ALLOWED)
        except ProgressStreamError as error:
            fail(str(error), USAGE)
    sys.exit(CODES.get(shown.state["state"], FAILED))


def _say_drop(why: str, seconds: float) -> None:
    if seconds >= WORTH_SAYING_SECONDS and why != "the stream ended":
        note(f"{why}; trying again in {seconds:.1f} s")
