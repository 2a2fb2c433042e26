"""The reckoning of docs/scaling.md: what it makes of known costs, and that the page is the one that today's figures make."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from benchmarks.document import DOCUMENT, ROOT
from benchmarks.scaling import FULL, HEARTBEAT_SECONDS, PAGE, STREAMS, Costs, figures, page

OPERATIONS = ROOT / "docs" / "operations.md"
NOTHING = Costs(
    first_delivery=0, further_delivery=0, opening=0, resent=0, append=0, follower=0, reported=0, watcher_bytes=0, process_bytes=0,
    job_bytes=0, event_bytes=0,
)  # fmt: skip


def test_figures_are_read_with_their_yardstick() -> None:
    """A row without one has none; what is no row of the table is none."""
    text = (
        "| figure | value | ratio | goal | |\n|---|---|---|---|---|\n"
        "| many_jobs | 100 (93.1–116) CPU-s/million | 0.5 (0.4–0.6) of nchan | 0.75 | met |\n"
        "| stored_job | 5.96e+03 (5.93e+03–5.96e+03) bytes |  |  |  |\n"
        "figure many_jobs 3 CPU-s/million ratio 1 vs nchan\n"
    )
    found = figures(text)

    assert {"many_jobs", "stored_job"} == found.keys()
    assert (100, 200) == (found["many_jobs"].value, found["many_jobs"].yardstick)
    assert (5960, None) == found["stored_job"]
    with pytest.raises(ValueError, match="no yardstick"):
        _ = found["stored_job"].yardstick


def test_each_watcher_gets_an_event_a_second() -> None:
    """Also where there are more jobs than watchers: what nobody watches costs no web server anything."""
    costs = replace(NOTHING, first_delivery=1e-4)

    assert costs.need(10_000, 10_000).web_cores == pytest.approx(1)
    assert costs.need(10_000, 1_000_000).web_cores == pytest.approx(1)


def test_watchers_of_one_job_share_what_a_process_does_once() -> None:
    """All at one process: the first of each job pays, the others a write. At many processes each is a first one."""
    costs = replace(NOTHING, first_delivery=1e-4, further_delivery=1e-6)
    rest = 1_000 / HEARTBEAT_SECONDS * 1e-6

    assert costs.need(1_000, 10).web_cores == pytest.approx(10 * 1e-4 + 990 * 1e-6 + rest)
    apart = replace(costs, first_delivery=2e-4)
    assert apart.need(10 * STREAMS, 10 * STREAMS // 2).web_processes == 15


def test_redis_pays_for_the_append_and_for_each_process_that_follows() -> None:
    """No job is followed by more processes than it has watchers."""
    costs = replace(NOTHING, append=1e-5, follower=1e-6)

    assert costs.need(10 * STREAMS, 10 * STREAMS).redis_cores == pytest.approx(10 * STREAMS * 1.1e-5)
    assert costs.need(10 * STREAMS, 1).redis_cores == pytest.approx(1e-5 + 10 * 1e-6)
    assert replace(NOTHING, append=FULL / 1_000).need(1, 2_000).shards == 2


def test_what_runs_out_first_is_what_one_of_each_has_least_of() -> None:
    """Streams where nothing costs anything; else whichever core is full sooner."""
    assert NOTHING.need(10**6, 10**3).runs_out_first == "streams a process"
    assert replace(NOTHING, append=1e-3).need(10**4, 10**4).runs_out_first == "Redis' CPU"
    assert replace(NOTHING, append=1e-5, first_delivery=1e-2).need(10**4, 10**4).runs_out_first == "web CPU"


def test_the_page_is_made_of_the_figures_of_today() -> None:
    """`python -m benchmarks.scaling` writes it again."""
    assert page(DOCUMENT.read_text("utf-8")) == PAGE.read_text("utf-8")


def test_what_it_costs_is_told_by_figures_that_were_measured() -> None:
    """Each that docs/operations.md names, with the value that docs/performance.md has for it today."""
    told = (
        OPERATIONS.read_text("utf-8")
        .partition("## What it costs, and what it saves\n")[2]
        .partition("\n## ")[0]
    )
    found = figures(DOCUMENT.read_text("utf-8"))
    names = set(re.findall(r"`([a-z][a-z0-9_-]+)`", told))

    assert len(names) >= 8
    assert names <= found.keys()
    reported = found["report_event"].value - found["report_event"].yardstick
    assert f"{found['append_1'].value:.0f} µs an event that comes alone" in told
    assert f"{found['append_20'].value:.3g} µs where twenty" in told
    assert f"{found['stored_event'].value:.0f} bytes an event" in told
    assert f"{found['stored_day'].value:.0f} MiB (`stored_day`)" in told
    assert f"{round(reported, -1):.0f} µs an event that leaves" in told
    assert f"{found['idle_hand-over_own_jobs'].value:.1f} KiB an open stream" in told
