"""Behind each proxy, set up as manifests/proxies/ says: events come at once, silence cuts nothing, and whatever ends, nobody misses
an event or gets one twice. `tests.proxies.table` prints the figures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from progress_stream.settings import load
from tests.proxies import checks, setups
from tests.proxies.origin import origin
from tests.proxies.standing import DEFAULTS, IDLE_SECONDS, SETUPS, Standing
from tests.support.redis import RedisServer
from tests.support.server import SECRET

#: After the direct way.
LATE_MS = 100.0
#: As they come.
LATE = {"nginx-behind-nginx", "haproxy", "caddy-encode"}
#: An nginx that compresses all it can stands in these; Apache's file keeps its compressor from streams.
COMPRESSED = {"nginx", "nginx-behind-nginx", "squid"}


@dataclass(frozen=True, slots=True)
class Stage:
    """One proxy before the web servers; two more of the same that are impatient, before them and before a server of nobody's."""

    name: str
    proxy: Standing
    short: Standing
    bare: Standing


@pytest.fixture(scope="session")
def site(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[checks.Site]:
    folder = tmp_path_factory.mktemp("site")
    settings = load(
        redis_url=redis_server.url(0), broker_url=redis_server.url(1), namespace="proxies", data=folder,
        jwt_secret=SecretStr(SECRET), ready_seconds=0, drain_seconds=0,
    )  # fmt: skip
    with checks.Site(settings, folder).up() as site:
        yield site


@pytest.fixture(scope="session")
def silent() -> Iterator[Standing]:
    with origin() as url:
        yield Standing(url, lambda: None)


def grouped(name: str) -> object:
    """All tests of one proxy run one after another, in one process."""
    return pytest.param(name, marks=pytest.mark.xdist_group(f"proxy-{name}"))


@pytest.fixture(scope="module", params=[grouped(name) for name in SETUPS])
def stage(
    request: pytest.FixtureRequest,
    site: checks.Site,
    silent: Standing,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp(request.param)
    setup = SETUPS[request.param]
    with (
        setup(site.urls, folder / "proxy") as proxy,
        setup(site.urls, folder / "short", IDLE_SECONDS) as short,
        setup([silent.url, silent.url], folder / "bare", IDLE_SECONDS) as bare,
    ):
        yield Stage(request.param, proxy, short, bare)


@pytest.fixture(scope="module")
def quiet(site: checks.Site, stage: Stage, silent: Standing) -> tuple[checks.Prompt, checks.Idle]:
    return asyncio.run(checks.quiet(site, stage.proxy, stage.short, stage.bare, silent))


def test_small_events_come_as_soon_as_without_it(
    quiet: tuple[checks.Prompt, checks.Idle], stage: Stage
) -> None:
    """Ours each half second, and such of twenty bytes that a server of nobody's sends."""
    found, _ = quiet

    assert [] == found.faults
    assert len(found.late) > checks.EVENTS / 2 < len(found.small)
    assert found.late_ms < LATE_MS > found.small_ms
    assert (stage.name in COMPRESSED) == ("gzip" in found.encodings)


def test_silence_cuts_no_stream(quiet: tuple[checks.Prompt, checks.Idle]) -> None:
    """For heartbeats come; without them, it does."""
    _, found = quiet

    assert ([], 1) == (found.faults, found.connects)
    assert IDLE_SECONDS / 2 < found.cut_after < 2 * IDLE_SECONDS


def test_a_watcher_that_comes_back_gets_what_it_missed(site: checks.Site, stage: Stage) -> None:
    """And `Last-Event-ID` has arrived each time."""
    found = asyncio.run(checks.resumes(site, stage.proxy))

    assert [] == found.faults
    assert found.crowd.history.cuts > checks.RESUMING
    assert {True} == set(found.crowd.resumed)
    assert "" == found.answers


def test_200_watchers_at_once(site: checks.Site, stage: Stage) -> None:
    """Each gets everything."""
    found = asyncio.run(checks.many(site, stage.proxy, 200))

    assert [] == found.faults
    assert 200 == found.crowd.most_open


@pytest.mark.long
@pytest.mark.timeout(240)
def test_1000_watchers_at_once(site: checks.Site, stage: Stage) -> None:
    """Each gets everything."""
    found = asyncio.run(checks.many(site, stage.proxy, 1_000))

    assert [] == found.faults
    assert 1_000 == found.crowd.most_open


def test_a_reload_of_the_proxy_loses_nothing(site: checks.Site, stage: Stage) -> None:
    """Two of them while a job reports: whoever is cut comes back."""
    found = asyncio.run(checks.reloads(site, stage.proxy))

    assert [] == found.faults
    assert "" == found.answers


def test_a_web_server_that_is_killed_loses_nothing(site: checks.Site, stage: Stage) -> None:
    """Its watchers go on at the other one."""
    found = asyncio.run(checks.kills(site, stage.proxy))

    assert [] == found.faults
    assert found.crowd.connects > checks.FEW
    assert "" == found.answers


@pytest.mark.parametrize("name", DEFAULTS)
def test_as_it_comes(site: checks.Site, silent: Standing, tmp_path: Path, name: str) -> None:
    """Some keep events, each for 200 ms or all of them to the end, which our files mend; the others do as well without theirs."""
    setup = DEFAULTS[name]
    with setup(site.urls, tmp_path / "proxy") as proxy, setup([silent.url], tmp_path / "bare") as bare:
        found = asyncio.run(checks.prompt(site, proxy, bare, silent))

    assert [] == found.faults
    assert (name in LATE) == (found.small_ms > LATE_MS)
    assert name in LATE or found.late_ms < LATE_MS


@pytest.mark.xdist_group("proxy-capped")
def test_a_cap_on_every_answer_loses_nothing(site: checks.Site) -> None:
    """Of 15 seconds, as Envoy has it by default; and of one."""

    async def both(stack: ExitStack) -> list[tuple[checks.Outcome, list[str]]]:
        capped = [
            Standing(stack.enter_context(setups.capping(site.urls[0], seconds)), lambda: None)
            for seconds in (15, 1)
        ]
        return await asyncio.gather(checks.capped(site, capped[0], 34), checks.capped(site, capped[1], 12))

    with ExitStack() as stack:
        (long, long_ids), (short, short_ids) = asyncio.run(both(stack))

    assert [] == long.faults + short.faults
    assert min(seen.broken for seen in long.crowd.history.watchers) >= 1
    assert min(seen.broken for seen in short.crowd.history.watchers) >= 5
    for outcome, given in ((long, long_ids), (short, short_ids)):
        saw = [id for id, type, _ in outcome.crowd.history.watchers[0].events if type == checks.OWN_TYPE]
        assert saw == given
