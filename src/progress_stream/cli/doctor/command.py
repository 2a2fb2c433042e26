"""The command itself: starts the jobs, says what was found and what to set, and ends with 1 where something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..conformance.command import Args, arguments
from ..options import Token
from ..terminal import FAILED, SUCCEEDED, note, printable
from .findings import Finding, judge
from .mends import mends_of
from .probes import Jobs, Observed, observe, start_jobs

if TYPE_CHECKING:
    from ...client.probing import Server
    from ...store.durability import Finding as Durability

ACTOR: Final = "countdown"
#: Longer than the shortest limits on whole answers that are common (15 and 30 s) and than two heartbeats.
SECONDS: Final = 35


def doctor(
    url: Annotated[str, typer.Argument(help="The address that watchers use.")],
    direct: Annotated[
        str | None, typer.Option(metavar="URL", help="The server without what stands between, to compare.")
    ] = None,
    seconds: Annotated[
        int, typer.Option(min=8, max=3_600, help="How long to keep streams open: longer limits are not seen.")
    ] = SECONDS,
    actor: Annotated[
        str,
        typer.Option(help="The actor to start in place of `countdown`: one that reports every second or so."),
    ] = ACTOR,
    arg: Args = None,
    token: Token = None,
) -> None:
    """Say what stands between you and the server does to streams, and what to set there.

    Starts two jobs on the server, for which the token needs jobs:read and jobs:write. Where PROGRESS_STREAM_REDIS_URL is set, says
    also whether that Redis keeps what it acknowledged. Ends with 1 when something is to be mended.
    """
    from ...client.probing import Server

    server = Server(url, token)
    without = None if direct is None else Server(direct, token)
    args = arguments(arg or [])
    own = actor == ACTOR and not args
    jobs = start_jobs(
        server,
        actor,
        {"seconds": seconds} if own else args,
        {"seconds": 1, "quiet": seconds - 1} if own else None,
    )
    note(f"looking for {seconds} s …")
    try:
        ways = observe(server, without, jobs, seconds)
    finally:
        _leave_nothing(server, jobs)
    faults = sum(_say_way(ways, jobs)) + sum(_say_redis())
    print(f"{faults} to mend" if faults else "nothing to mend")
    sys.exit(FAILED if faults else SUCCEEDED)


def _leave_nothing(server: Server, jobs: Jobs) -> None:
    for job in (jobs.talking, jobs.silent):
        if job is not None:
            server.cancel(job)


def _say_way(ways: list[Observed], jobs: Jobs) -> Iterator[bool]:
    """A line a fault that could be there; True for each that is."""
    beside = {finding.name: finding for finding in judge(ways[1])} if len(ways) > 1 else None
    for finding in judge(ways[0]):
        reason = f": {jobs.why_not_silent}" if finding.name == "idle" and jobs.why_not_silent else ""
        _line(finding.faulty, finding.name, finding.text + reason + _compared(finding, beside))
        if finding.faulty:
            for what, setting in mends_of(finding.name, _named(ways[0])):
                print(f"        {what}: {setting}", flush=True)
        yield bool(finding.faulty)


def _compared(finding: Finding, beside: dict[str, Finding] | None) -> str:
    if not finding.faulty or beside is None or finding.name not in beside:
        return ""
    return (
        " (also without what stands between)"
        if beside[finding.name].faulty
        else " (not without what stands between)"
    )


def _named(seen: Observed) -> str:
    """What the answer's headers say of who passed it on."""
    headers = seen.talking.headers
    named = [headers.get(name, "") for name in ("server", "via", "x-served-by", "x-powered-by")]
    known = {"cf-ray": "a CDN", "x-amz-cf-id": "a CDN AWS", "x-envoy-upstream-service-time": "Envoy"}
    return " ".join([*named, *(what for name, what in known.items() if name in headers)])


def _say_redis() -> Iterator[bool]:
    from ...errors import StoreUnavailable
    from ...settings import is_rabbitmq, load

    settings = load()
    if settings.redis_url is None:
        _line(None, "redis", "not tried: PROGRESS_STREAM_REDIS_URL is not set here")
        return
    from ...store.durability import examine

    servers = {"redis": settings.redis_url, "broker": settings.effective_broker_url}
    for which, address in servers.items():
        if is_rabbitmq(address or ""):
            _line(None, which, "not tried: it is RabbitMQ, which keeps Dramatiq's messages on disk")
            continue
        try:
            found = examine(
                address or "", replica_wait_ms=settings.replica_wait_ms, setting=f"{which.upper()}_URL"
            )
        except StoreUnavailable as error:
            _line(True, which, str(error))
            yield True
        else:
            yield from (_say_durability(which, finding) for finding in found)


def _say_durability(which: str, finding: Durability) -> bool:
    _line(bool(finding.mend), f"{which} {finding.name}", finding.text)
    if finding.mend:
        print(f"        {printable(finding.mend)}", flush=True)
    return bool(finding.mend)


def _line(faulty: bool | None, name: str, text: str) -> None:
    word = {True: "FAULT", False: "ok   ", None: "-    "}[faulty]
    print(f"{word}   {name}: {printable(text)}", flush=True)
