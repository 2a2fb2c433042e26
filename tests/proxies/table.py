"""`python -m tests.proxies.table` runs every check behind every proxy and prints what came of it as the table of docs/proxies.md.

Takes ten minutes. Judges nothing but what is lost: the tests do. `--watchers` changes how many come at once (1,000).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from progress_stream.settings import load
from tests.proxies import checks, setups
from tests.proxies.origin import origin
from tests.proxies.standing import DEFAULTS, IDLE_SECONDS, SETUPS, Standing
from tests.support.redis import RedisServer
from tests.support.server import SECRET

HEAD: Final = (
    "proxy", "events late by", "of 20 bytes", f"idle {checks.SILENCE_SECONDS:.0f} s of {IDLE_SECONDS} s", "resumes", "watchers",
    "two reloads", "a server killed",
)  # fmt: skip
CAPS_HEAD: Final = ("cap", "job", "cuts a watcher", "watchers", "`progress_stream.watch`")
#: After how many seconds each answer is cut, and how long the job lasts.
CAPS: Final = ((15.0, 34.0), (1.0, 12.0))
LOST: Final = "**LOST**"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proxies.table", description=__doc__)
    parser.add_argument("--watchers", type=int, default=1_000)
    parser.add_argument("--only", help="one name, `defaults` or `caps`")
    options = parser.parse_args()
    with _site() as (site, silent, folder):
        rows = list(_shown(HEAD, _proxies(site, silent, folder, options.watchers, options.only)))
        if options.only in {None, "caps"}:
            print()
            rows += _shown(CAPS_HEAD, _caps(site))
    return 1 if any(LOST in cell for row in rows for cell in row) else 0


def _shown(head: tuple[str, ...], rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Each as soon as it is there."""
    print(_row(head), _row(["---"] * len(head)), sep="\n", flush=True)
    for row in rows:
        print(_row(row), flush=True)
        yield row


def _proxies(
    site: checks.Site, silent: Standing, folder: Path, watchers: int, only: str | None
) -> Iterator[list[str]]:
    if only in {None, "defaults"}:
        for name in DEFAULTS:
            yield _as_it_comes(name, site, silent, folder)
    for name in SETUPS:
        if only in {None, name}:
            yield _one(name, site, silent, folder, watchers)


def _caps(site: checks.Site) -> Iterator[list[str]]:
    for seconds, lasting in CAPS:
        with setups.capping(site.urls[0], seconds) as url:
            found, ids = asyncio.run(checks.capped(site, Standing(url, lambda: None), lasting))
        cuts = [seen.broken for seen in found.crowd.history.watchers]
        same = len(ids) == len(set(ids)) == checks.count_of(lasting)
        yield [
            f"{seconds:.0f} s", f"{lasting:.0f} s, {checks.count_of(lasting)} events", f"{min(cuts)} to {max(cuts)}",
            "exact" + _judged(found.faults), "exact" if same else LOST,
        ]  # fmt: skip


@contextmanager
def _site() -> Iterator[tuple[checks.Site, Standing, Path]]:
    with tempfile.TemporaryDirectory() as name, origin() as url:
        folder = Path(name)
        with RedisServer(folder / "redis", persistent=False) as server:
            settings = load(
                redis_url=server.url(0), broker_url=server.url(1), namespace="proxies", data=folder,
                jwt_secret=SecretStr(SECRET), ready_seconds=0, drain_seconds=0,
            )  # fmt: skip
            with checks.Site(settings, folder).up() as site:
                yield site, Standing(url, lambda: None), folder


def _as_it_comes(name: str, site: checks.Site, silent: Standing, folder: Path) -> list[str]:
    where = folder / f"{name}-defaults"
    setup = DEFAULTS[name]
    with setup(site.urls, where / "proxy") as proxy, setup([silent.url], where / "bare") as bare:
        found = asyncio.run(checks.prompt(site, proxy, bare, silent))
    return [f"{name}, as it comes", *_prompt(found), *[""] * (len(HEAD) - 3)]


def _one(name: str, site: checks.Site, silent: Standing, folder: Path, watchers: int) -> list[str]:
    where = folder / name
    setup = SETUPS[name]
    with (
        setup(site.urls, where / "proxy") as proxy,
        setup(site.urls, where / "short", IDLE_SECONDS) as short,
        setup([silent.url, silent.url], where / "bare", IDLE_SECONDS) as bare,
    ):
        prompt, idle = asyncio.run(checks.quiet(site, proxy, short, bare, silent))
        return [
            name,
            *_prompt(prompt),
            _idle(idle),
            _tried(lambda: _resumed(asyncio.run(checks.resumes(site, proxy)))),
            _tried(lambda: _many(asyncio.run(checks.many(site, proxy, watchers)), watchers)),
            _tried(lambda: _cut(asyncio.run(checks.reloads(site, proxy)))),
            _tried(lambda: _cut(asyncio.run(checks.kills(site, proxy)))),
        ]


def _tried(check: Callable[[], str]) -> str:
    """One check that breaks must not cost the others' figures."""
    try:
        return check()
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return "**BROKEN**"


def _prompt(found: checks.Prompt) -> list[str]:
    return [f"{max(found.late_ms, 0):.0f} ms" + _judged(found.faults), f"{max(found.small_ms, 0):.0f} ms"]


def _idle(found: checks.Idle) -> str:
    kept = "kept" if found.connects == 1 else f"{found.connects} connections"
    return f"{kept}; without heartbeats cut after {found.cut_after:.1f} s" + _judged(found.faults)


def _resumed(found: checks.Outcome) -> str:
    return f"{found.crowd.history.cuts} cuts, exact" + _judged(found.faults)


def _many(found: checks.Outcome, watchers: int) -> str:
    refused = f", {found.answers}" if found.answers else ""
    return f"{found.crowd.most_open:,} of {watchers:,}{refused}" + _judged(found.faults)


def _cut(found: checks.Outcome) -> str:
    """How many streams were cut, and the longest that one of them heard nothing."""
    cut = found.crowd.connects - checks.FEW
    refused = f", {found.answers}" if found.answers else ""
    return f"{cut} cut, silent {found.crowd.longest_silence:.1f} s{refused}" + _judged(found.faults)


def _judged(faults: list[checks.Fault]) -> str:
    """Who had not come to the end in time has lost nothing yet."""
    if all(fault.kind == "unended" for fault in faults):
        late = {fault.watcher for fault in faults}
        return f", {len(late)} had not ended in time" if late else ""
    return f" {LOST}: {next(fault for fault in faults if fault.kind != 'unended')}"


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
