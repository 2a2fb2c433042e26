"""`progress-stream jobs`: the caller's jobs, newest first; a table for a person, lines for a pipe, JSON for a program."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .options import DEFAULT_URL, Token, Url
from .terminal import FAILED, NOT_ALLOWED, USAGE, fail, json_line, pipe_closed, printable

if TYPE_CHECKING:
    import httpx2

#: Rows that one request may ask for, by the contract.
MOST_OF_A_PAGE: Final = 200
PATIENCE_SECONDS: Final = 30.0
COLUMNS: Final = ("job", "state", "done", "title", "created")


def jobs(
    state: Annotated[
        str | None,
        typer.Option(help="Only these: queued, running, retrying, succeeded, failed or cancelled."),
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only jobs of this actor.")] = None,
    owner: Annotated[
        str | None,
        typer.Option(help="Another's jobs, for which the token needs jobs:admin; an empty one: nobody's."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many at most; 0: all of them.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line: the whole state.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """List your jobs, newest first."""
    import httpx2

    from ..client.rules import check_url

    address = f"{check_url(url)}/jobs"
    wanted = {"state": state, "actor": actor, "owner": owner}
    query = {name: value for name, value in wanted.items() if value is not None}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx2.Client(headers=headers, timeout=PATIENCE_SECONDS) as client:
            _show(rows(client, address, query, limit), as_json)
    except httpx2.HTTPError as error:
        fail(f"no answer from {url}: {error or type(error).__name__}", FAILED)
    except BrokenPipeError:
        pipe_closed()


def rows(client: httpx2.Client, address: str, query: dict[str, str], limit: int) -> Iterator[dict[str, Any]]:
    """Page after page, until there are enough or there is no more."""
    left, cursor = limit or sys.maxsize, ""
    while True:
        page = query | {"limit": str(min(left, MOST_OF_A_PAGE))} | ({"cursor": cursor} if cursor else {})
        answer = client.get(address, params=page)
        if answer.status_code != 200:
            _refused(answer)
        body = answer.json()
        yield from body["jobs"]
        left -= len(body["jobs"])
        cursor = body["next"]
        if not cursor or left <= 0:
            return


def _refused(answer: httpx2.Response) -> None:
    from ..client.rules import problem_detail

    status = answer.status_code
    code = NOT_ALLOWED if status in {401, 403} else USAGE if status in {404, 422} else FAILED
    fail(f"the server answered {status}: {problem_detail(answer.content) or 'is --url right?'}", code)


def _show(found: Iterator[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in found:
            print(json_line(row))
    elif sys.stdout.isatty():
        _table(found)
    else:
        for row in found:
            print("\t".join(_cells(row)))


def _table(found: Iterator[dict[str, Any]]) -> None:
    """All of it before the first line, for the columns' widths."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in found:
        # Text, not markup: a title is a stranger's.
        table.add_row(*(Text(cell, overflow="fold") for cell in _cells(row)))
    Console().print(table)


def _cells(row: dict[str, Any]) -> list[str]:
    cells = [row["id"], _state(row), _done(row), row["title"] or row["actor"] or "", row["created_at"] or ""]
    return [printable(str(cell)) for cell in cells]


def _state(row: dict[str, Any]) -> str:
    notes = [
        note
        for note, said in (("stalled", row.get("stalled")), ("cancelling", row.get("cancel_requested")))
        if said and not row.get("finished_at")
    ]
    return " ".join([str(row["state"]), *notes])


def _done(row: dict[str, Any]) -> str:
    done, total = row.get("done"), row.get("total")
    if done is None:
        return ""
    return f"{done:g}/{total:g}" if total else f"{done:g}"
