"""`progress-stream submit`: start a job over HTTP; its id alone goes to standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidInput
from .options import DEFAULT_URL, Token, Url
from .terminal import FAILED, NOT_ALLOWED, USAGE, fail

if TYPE_CHECKING:
    import httpx2

#: Seconds without progress in sending a file or waiting for the answer.
PATIENCE_SECONDS = 60.0


def submit(
    actor: Annotated[str, typer.Argument(help="The actor's name; GET /actors lists them.")],
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, readable=True, help="The job's file.")
    ] = None,
    arg: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An argument; may be repeated.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What people see in place of the actor's name.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Start a job and print its id."""
    import httpx2

    from ..client.rules import check_url

    address = f"{check_url(url)}/jobs"
    form = _form(actor, arg or [], title)
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with httpx2.Client(timeout=PATIENCE_SECONDS) as client:
            answer = _post(client, address, headers, form, file)
    except httpx2.HTTPError as error:
        fail(f"no answer from {url}: {error or type(error).__name__}", FAILED)
    _report(answer)


def _form(actor: str, args: list[str], title: str | None) -> dict[str, str]:
    """The fields of the form. The server makes numbers of the texts where the actor asks for numbers."""
    form = {"actor": actor} | ({"title": title} if title is not None else {})
    for text in args:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInput("--arg", f"{text!r:.80} is not usable", "name=value")
        if name in form or name in {"title", "file"}:
            raise InvalidInput(
                "--arg", f"{name!r:.80} is given already", "each name once; none of actor, title, file"
            )
        form[name] = value
    return form


def _post(
    client: httpx2.Client, address: str, headers: dict[str, str], form: dict[str, str], file: Path | None
) -> httpx2.Response:
    if file is None:
        # As multipart too: the fields of a form are texts, whichever way they come.
        parts: dict[str, Any] = {name: (None, value) for name, value in form.items()}
        return client.post(address, headers=headers, files=parts)
    with file.open("rb") as content:
        return client.post(address, headers=headers, data=form, files={"file": (file.name, content)})


def _report(answer: httpx2.Response) -> None:
    from ..client.rules import problem_detail

    if answer.status_code in {200, 201}:
        print(answer.json()["id"])
        return
    detail = problem_detail(answer.content) or "is --url right?"
    status = answer.status_code
    code = (
        NOT_ALLOWED
        if status in {401, 403, 404}
        else USAGE
        if 400 <= status < 500 and status != 429
        else FAILED
    )
    fail(f"the server answered {status}: {detail}", code)
