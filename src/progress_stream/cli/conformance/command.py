"""The command itself: starts the examination, prints a line a rule, and ends with 1 where one is not kept."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterable, Iterator
from random import Random
from typing import Annotated, Any, Final

import typer

from ...errors import InvalidInput
from ..options import Token
from ..terminal import FAILED, SUCCEEDED, printable
from . import forms as forms
from .evidence import Evidence, gather
from .expectations import Broken, NotTried
from .rules import RULES, Rule

ACTOR: Final = "countdown"
#: Long enough for watchers to come in the middle of it.
SECONDS: Final = 4
#: Longer than the server's default heartbeat.
LONG_SECONDS: Final = 20

Args = Annotated[
    list[str] | None,
    typer.Option(
        "--arg", metavar="NAME=VALUE", help="An argument of --actor, as JSON or text; may be repeated."
    ),
]


def conformance(
    url: Annotated[str, typer.Argument(help="The server's address.")],
    actor: Annotated[
        str, typer.Option(help="The actor to start: one that reports, and ends within two minutes.")
    ] = ACTOR,
    arg: Args = None,
    slow: Annotated[
        bool, typer.Option("--slow", help="Also what takes up to 20 seconds: the heartbeat.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Cut at the same bytes as a run before.")] = None,
    other_token: Annotated[
        str | None,
        typer.Option(
            envvar="PROGRESS_STREAM_OTHER_TOKEN",
            show_envvar=True,
            help="Of somebody else, who must not see the job; without it that is not tried.",
        ),
    ] = None,
    token: Token = None,
) -> None:
    """Try the rules of the stream against a running server: a line a rule, `ok` or `FAIL`.

    Starts one job there (two with --slow), for which the token needs jobs:read and jobs:write. Ends with 1 when a rule is broken.
    """
    from ...client.probing import Server

    args = arguments(arg or [])
    given = {"seconds": SECONDS} if actor == ACTOR and not args else args
    longer = {"seconds": LONG_SECONDS} if actor == ACTOR and not args else args
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    seen = gather(Server(url, token), actor, given, Random(seed), longer)
    seen.stranger = None if other_token is None else Server(url, other_token)
    broken = 0
    for kept, line in examined(seen, RULES, slow=slow):
        print(printable(line), flush=True)
        broken += not kept
    print(
        f"{broken} broken (job {seen.job}, seed {seed})"
        if broken
        else f"every rule tried is kept (job {seen.job})"
    )
    sys.exit(FAILED if broken else SUCCEEDED)


def examined(seen: Evidence, rules: Iterable[Rule], *, slow: bool) -> Iterator[tuple[bool, str]]:
    """For each rule whether it is kept (or was not tried), and the line that says so."""
    for rule in rules:
        if rule.slow and not slow:
            yield True, f"-    {rule.name}: not tried without --slow"
            continue
        try:
            yield True, f"ok   {rule.name}: {rule.check(seen)}"
        except NotTried as reason:
            yield True, f"-    {rule.name}: not tried: {reason}"
        except Broken as fault:
            yield False, f"FAIL {rule.name}: {fault}"


def arguments(texts: list[str]) -> dict[str, Any]:
    """What an actor is called with: numbers, true, lists … where the text is JSON, else the text. Raises InvalidInput."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or name in found:
            raise InvalidInput("--arg", f"{text!r:.80} is not usable", "name=value, each name once")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
