"""`progress-stream cancel`: ask over HTTP that a job ends; the state that it has then goes to standard output."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from .options import DEFAULT_URL, Token, Url
from .terminal import FAILED, NOT_ALLOWED, USAGE, fail, printable

#: Seconds for the answer.
PATIENCE_SECONDS = 30.0


def cancel(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Cancel a job. A running one ends when its actor next reports; asked again after 30 seconds it ends at once."""
    import httpx2

    from ..client.rules import check_url, problem_detail

    address = f"{check_url(url)}/jobs/{quote(job, safe='')}/cancel"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx2.post(address, headers=headers, timeout=PATIENCE_SECONDS)
    except httpx2.HTTPError as error:
        fail(f"no answer from {url}: {error or type(error).__name__}", FAILED)
    status = answer.status_code
    if status == 202:
        state = answer.json()
        print("cancelling" if state["state"] == "running" else printable(state["state"]))
        return
    code = NOT_ALLOWED if status in {401, 403, 404} else USAGE if status == 422 else FAILED
    fail(f"the server answered {status}: {problem_detail(answer.content) or 'is --url right?'}", code)
