"""The dashboard: a list that never flickers, what can be done with a job, and the looks of every view, in a real browser."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pydantic import SecretStr

from progress_stream import events
from progress_stream.api.app import create_app
from progress_stream.settings import load
from tests.contract.test_list import MOMENT_MS, make, make_many, move
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Attempt, Site, serving

AXE = Path(__file__).parent.parent / "node" / "node_modules" / "axe-core" / "axe.min.js"
#: Where pictures of the views go, for a person to look at; git ignores it.
PICTURES = Path(__file__).parent.parent / ".screenshots"
NASTY = "<img src=x onerror=\"document.title='hacked'\"><b>bold</b>"
PARTS = {"total": 4, "queued": 0, "running": 1, "succeeded": 2, "failed": 1, "cancelled": 0}
#: What moves without anybody's touch.
SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    window.shifts += entry.value;
    window.moved = [...(window.moved ?? []), ...entry.sources.map(({ node, previousRect: a, currentRect: b }) =>
      `${node?.id || node?.className || node?.nodeName} ${a.y}+${a.height} to ${b.y}+${b.height}`)];
  }
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="module")
def place(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server whose jobs are played by hand."""
    folder = tmp_path_factory.mktemp("dashboard")
    with RedisServer(folder / "redis") as server:
        settings = load(
            redis_url=server.url(0), broker_url=server.url(1), data=folder, jwt_secret=SecretStr(SECRET),
            ready_seconds=0, drain_seconds=0,
        )  # fmt: skip
        client = server.client(0)
        with serving(create_app(settings), settings) as url:
            yield Site(url, settings, client)
        client.close()


@pytest.fixture(autouse=True)
def empty(place: Site) -> None:
    """Nothing of the test before; the announced actor is there."""
    place.redis.flushall()
    place.announce()


def enter(page: Page, place: Site, view: str = "#/") -> None:
    page.goto(f"{place.url}/?token={place.token()}{view}")


def tell(place: Site, job: Attempt, state: str | None = None) -> None:
    """As its reporter does: the list hears of it."""
    if state is None:
        place.store.send(place.store.commands.lists.changed(job.header.owner, job.job))
    else:
        move(place, job, state)


def running(place: Site, id: str, done: int = 40, **said: Any) -> Attempt:
    job = make(place, id, at=int(time.time() * 1000))
    job.start()
    tell(place, job, "running")
    job.append("progress", **{"done": done, "total": 100, "unit": "rows", "rate": 12.5, "eta": 5, **said})
    tell(place, job)
    return job


def arrive(place: Site, count: int, first: int) -> list[str]:
    """So many new jobs, of which the list's watchers are told."""
    made = make_many(place, count, first=first)
    hint = place.store.commands.lists.hint
    for number, id in enumerate(made, first):
        place.store.send(hint("alice", id, MOMENT_MS + number, "personalize", "queued", done=True))
    return made


def ids(page: Page) -> list[str]:
    return list(
        page.eval_on_selector_all(
            "#rows a", "all => all.map((one) => one.getAttribute('href').split('/').pop())"
        )
    )


def is_accessible(page: Page) -> None:
    """axe-core finds nothing."""
    if not AXE.exists():
        reason = "axe-core is not installed (npm)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    faults = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found["violations"]]
    assert [] == faults


def test_no_row_vanishes_or_moves_while_somebody_loads_more(
    page: Page, place: Site, complaints: list[str]
) -> None:
    """300 jobs, three times "Load more", 100 new ones between: all rows stay, in order, and nothing shifts."""
    page.add_init_script(SHIFTS)
    known = make_many(place, 300)
    enter(page, place)
    expect(page.locator("#rows li")).to_have_count(50)
    seen = ids(page)
    arrived: list[str] = []
    for step in range(3):
        page.locator("#more").scroll_into_view_if_needed()
        arrived += arrive(place, 34, first=300 + 34 * step)
        page.get_by_role("button", name="Load more").click()
        expect(page.locator("#rows li")).to_have_count(50 * (step + 2))
        now = ids(page)
        assert seen == now[: len(seen)]
        seen = now
    expect(page.locator("#new-jobs")).to_have_text(f"{len(arrived)} new")

    assert list(reversed(known))[:200] == seen
    assert (0, None) == (page.evaluate("window.shifts"), page.evaluate("window.moved"))
    page.get_by_role("button", name="new").click()
    expect(page.locator("#rows li")).to_have_count(200 + len(arrived))
    assert list(reversed(arrived)) + seen == ids(page)
    assert [] == complaints


def test_rows_move_by_one_stream_and_a_deleted_one_stays_in_its_place(
    page: Page, place: Site, complaints: list[str]
) -> None:
    """A new job comes in at the top; its bar moves; gone, it is struck and nothing moves."""
    enter(page, place)
    expect(page.locator("#list-note")).to_have_text("No job yet. What you start appears here.")
    expect(page.locator("#list-connection")).to_have_text("Live")
    page.mouse.move(1, 1)
    job = running(place, "job-1")
    expect(page.locator("#rows .pill")).to_have_text("Running")
    expect(page.locator("#rows .row-share")).to_have_text("40 %")
    job.succeed()
    tell(place, job, "succeeded")
    expect(page.locator("#rows .pill")).to_have_text("Done")
    with place.client() as client:
        assert 204 == client.delete("/jobs/job-1").status_code
    expect(page.locator("#rows .pill")).to_have_text("Deleted")

    assert 1 == page.locator("#rows li").count()
    assert [] == complaints


def test_filters_are_in_the_address(page: Page, place: Site) -> None:
    """A link to what one looks at; a list without a job says so."""
    make(place, "job-1", actor="count")
    running(place, "job-2")
    enter(page, place, "#/?state=running")
    expect(page.locator("#rows li")).to_have_count(1)
    assert ["job-2"] == ids(page)
    page.get_by_label("State").select_option("")
    expect(page).to_have_url(re.compile("#/$"))
    expect(page.locator("#rows li")).to_have_count(2)
    page.get_by_label("Kind").select_option("count")
    expect(page).to_have_url(re.compile("actor=count"))
    expect(page.locator("#rows li")).to_have_count(1)
    page.get_by_label("State").select_option("failed")
    expect(page.locator("#list-note")).to_have_text("No job fits these filters.")
    page.go_back()
    expect(page.locator("#rows li")).to_have_count(1)


def test_a_job_is_cancelled_once_that_is_confirmed(page: Page, place: Site) -> None:
    """Escape keeps it; the worker hears of it."""
    job = running(place, "job-1")
    enter(page, place, "#/jobs/job-1")
    page.get_by_role("button", name="Cancel").click()
    page.keyboard.press("Escape")
    expect(page.locator("#confirm")).to_be_hidden()
    assert "cancelling" not in [
        event.decode() for _, event, _ in place.store.send(place.store.commands.look("job-1")).entries
    ]
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#warning")).to_contain_text("Asked to stop")
    job.append("cancelled", reason="cancelled on request")
    expect(page.locator("#job-state")).to_have_text("Cancelled")


def test_an_ended_job_can_be_deleted_and_run_again(page: Page, place: Site) -> None:
    """What cannot be done is said in a sentence."""
    job = running(place, "job-1")
    enter(page, place, "#/jobs/job-1")
    expect(page.get_by_role("button", name="Run again")).to_be_hidden()
    job.succeed({"rows": 3})
    page.get_by_role("button", name="Run again").click()
    expect(page.locator("#action-error")).to_contain_text("called with")
    page.get_by_role("button", name="Delete").click()
    page.locator("#confirm-yes").click()
    expect(page.locator("#list-title")).to_be_visible()
    with place.client() as client:
        assert 404 == client.get("/jobs/job-1").status_code


def test_the_log_can_be_searched_and_shows_attempts_and_rate(
    page: Page, place: Site, complaints: list[str]
) -> None:
    """And how far behind the page is."""
    job = running(place, "job-1")
    enter(page, place, "#/jobs/job-1")
    expect(page.locator("#connection")).to_have_text("Live")
    for number in range(30):
        job.append("log", level="info", message=f"line {number}")
        job.append("progress", done=41 + number, total=100, rate=10 + number % 3)
    expect(page.locator("#log")).to_contain_text("line 29")
    page.get_by_label("Search the log").fill("LINE 2")
    expect(page.locator("#log .line:visible")).to_have_count(11)
    page.get_by_label("Search the log").fill("")
    expect(page.locator("#lag")).to_have_text(re.compile(r"^\d+ ms$"))
    expect(page.locator("#plot")).to_be_visible()
    job.append("retrying", error={"type": "ValueError", "message": "no"}, next_at=events.now_text())
    job.start("second")
    expect(page.locator("#attempts li")).to_have_count(2)

    assert [] == complaints


def test_steps_within_steps_are_shown_as_a_tree(page: Page, place: Site) -> None:
    """Also after a reload, from the events that are shown again."""
    job = running(place, "job-1")
    for name, state in (
        ("read", "started"),
        ("parse", "started"),
        ("parse", "finished"),
        ("read", "finished"),
        ("write", "started"),
    ):
        job.append("step", name=name, state=state)
    enter(page, place, "#/jobs/job-1")
    rows = page.locator("#steps li")
    expect(rows).to_have_text(["read", "parse", "write"])
    for _ in range(2):
        assert ["0", "1", "0"] == rows.evaluate_all("all => all.map((one) => one.dataset.depth)")
        assert ["finished", "finished", "started"] == rows.evaluate_all(
            "all => all.map((one) => one.dataset.state)"
        )
        page.reload()
        expect(rows).to_have_text(["read", "parse", "write"])


def test_the_first_lines_are_shown_while_the_template_is_written(
    page: Page, place: Site, tmp_path: Path
) -> None:
    """From the chosen file, as the worker will write them."""
    file = tmp_path / "people.csv"
    file.write_text("first_name,company\nAda,Engines\nBob,\n")
    place.announce(schema={
        "type": "object", "additionalProperties": False, "required": ["file", "template"],
        "properties": {"file": {"type": "string", "format": "binary"}, "template": {"type": "string"}},
    })  # fmt: skip
    time.sleep(2.1)
    enter(page, place)
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_label("Line", exact=True).fill("Hi {{first_name}} of {{company|your firm}}")
    expect(page.locator(".preview li")).to_have_text(["Hi Ada of Engines", "Hi Bob of your firm"])
    page.get_by_label("Line", exact=True).fill("Hi")
    expect(page.locator(".preview")).to_be_hidden()


def test_nothing_that_a_job_says_becomes_markup(page: Page, place: Site, complaints: list[str]) -> None:
    """In every text of the list and of a job's page."""
    job = make(place, "nasty", at=int(time.time() * 1000))
    job.start()
    job.state = {**job.state, "title": NASTY}
    job.append("progress", done=1, total=2, unit=NASTY[:50], message=NASTY)
    job.append("step", name=NASTY, state="started")
    job.append("log", level="info", message=NASTY)
    tell(place, job, "running")
    enter(page, place)
    expect(page.locator("#rows a")).to_have_text(NASTY)
    page.goto(f"{place.url}/#/jobs/nasty")
    expect(page.locator("#message")).to_have_text(NASTY)
    expect(page.locator("#log")).to_contain_text(NASTY)
    job.append("failed", error={"type": "E", "message": NASTY})
    expect(page.locator("#failure")).to_have_text(NASTY)

    assert 0 == page.locator("main img, main b").count()
    assert "hacked" != page.title()
    assert [] == complaints


def _views(place: Site) -> dict[str, str]:
    """A job in each state, and where it is looked at."""
    running(place, "going", message="Row 40 of people.csv")
    stalled = running(place, "stalled")
    stalled.state["title"] = "Nightly export"
    event = events.make("stalled", "stalled", at=events.now_text(), silent_seconds=15)
    place.store.send(
        place.store.commands.intervene("stalled", event, statuses=["running"], field="stalled_at")
    )
    tell(place, stalled)
    for id, end in (("done", "succeeded"), ("broken", "failed")):
        job = running(place, id)
        job.succeed({"rows": 3}) if end == "succeeded" else job.fail()
        tell(place, job, end)
    return {
        "list": "#/",
        "running": "#/jobs/going",
        "stalled": "#/jobs/stalled",
        "finished": "#/jobs/done",
        "failed": "#/jobs/broken",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_accessible_and_fits(context: BrowserContext, place: Site, scheme: str) -> None:
    """axe-core finds nothing, at 1280 and at 360 px, and nothing reaches over the edge."""
    page = context.new_page()
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    PICTURES.mkdir(exist_ok=True)
    page.goto(place.url)
    expect(page.locator("#view-locked")).to_be_visible()
    pages = {"locked": ""}
    _look(page, "locked", scheme)
    enter(page, place)
    expect(page.locator("#list-note")).to_be_visible()
    _look(page, "empty", scheme)
    pages = _views(place)
    for name, view in pages.items():
        page.goto(f"{place.url}/{view}")
        expect(
            page.locator("#rows [data-state=failed]" if name == "list" else "#job-state:not(:empty)")
        ).to_be_visible()
        _look(page, name, scheme)


def _look(page: Page, name: str, scheme: str) -> None:
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    is_accessible(page)


def test_the_element_shows_a_job_anywhere(page: Page, place: Site, complaints: list[str]) -> None:
    """It follows by itself, never goes back, is full at the end alone, says what it shows, and lets go when it is taken away."""
    job = running(place, "job-1", done=50)
    job.state["title"] = NASTY
    enter(page, place)
    page.evaluate("""async () => {
      await import("/assets/client/define.js");
      window.shown = [];
      window.ends = 0;
      const bar = document.createElement("job-progress");
      bar.setAttribute("job", "job-1");
      bar.setAttribute("base", "/");
      bar.addEventListener("job-end", () => (window.ends += 1));
      document.querySelector("main").prepend(bar);
      new MutationObserver(() => {
        const now = bar.shadowRoot.querySelector("[role=progressbar]").getAttribute("aria-valuenow");
        if (now !== null && Number(now) !== window.shown.at(-1)) window.shown.push(Number(now));
      }).observe(bar.shadowRoot, { subtree: true, attributes: true });
    }""")
    bar = page.locator("job-progress").get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "50")
    job.append("progress", done=30, total=100)
    job.append("progress", done=100, total=100, message=NASTY)
    expect(bar).to_have_attribute("aria-valuenow", "99")
    expect(page.locator("job-progress .message")).to_have_text(NASTY)
    job.append("step", name="write", state="started")
    expect(page.locator("job-progress li")).to_have_text("write")
    is_accessible(page)
    job.succeed()
    expect(bar).to_have_attribute("aria-valuenow", "100")
    expect(page.locator("job-progress [role=status]")).to_have_text("Done")
    shown = page.evaluate("window.shown")
    page.evaluate("document.querySelector('job-progress').remove()")
    names = page.evaluate(
        "navigator.locks.query().then(({held, pending}) => [...held, ...pending].map(({name}) => name))"
    )

    assert sorted(shown) == shown and 100 == shown[-1]
    assert 1 == page.evaluate("window.ends")
    assert [] == [name for name in names if "job job-1" in name]
    assert 0 == page.evaluate("document.querySelectorAll('img[onerror]').length")
    assert [] == complaints


def test_the_element_shows_a_state_that_it_is_given(page: Page, place: Site) -> None:
    """Parts, failed ones in a colour of their own; a bar that nobody can know has no value; another attempt begins anew."""
    enter(page, place)
    page.evaluate("""async () => {
      await import("/assets/client/define.js");
      const bar = document.createElement("job-progress");
      document.querySelector("main").prepend(bar);
      window.show = (more) => new Promise((done) => {
        bar.state = { state: "running", attempt: 1, done: null, total: null, unit: "rows", rate: null, eta: null, message: null,
          steps: [], parts: null, stalled: false, error: null, title: "T", actor: "a", waiting_for: null, ...more };
        requestAnimationFrame(() => requestAnimationFrame(done));
      });
    }""")
    bar = page.locator("job-progress").get_by_role("progressbar")
    values = []
    for more in (
        {}, {"done": 60, "total": 100}, {"done": 10, "total": 100, "attempt": 2}, {"done": 9, "total": 100, "attempt": 2},
        {"done": 30, "total": 40, "attempt": 2, "parts": PARTS},
    ):  # fmt: skip
        page.evaluate("(more) => window.show(more)", more)
        values.append(bar.get_attribute("aria-valuenow"))

    assert [None, "60", "10", "10", "75"] == values
    expect(page.locator("job-progress .parts")).to_have_text("4 parts · 1 running · 2 succeeded · 1 failed")
    assert "0.25" == page.locator("job-progress .failed").evaluate(
        "one => one.style.getPropertyValue('--failed')"
    )


def test_the_page_is_small(context: BrowserContext, place: Site) -> None:
    """All that the list and a job's page load, as it travels: the goal is 60 kB."""
    page = context.new_page()
    sizes: dict[str, int] = {}
    page.on(
        "requestfinished", lambda request: sizes.__setitem__(request.url, request.sizes()["responseBodySize"])
    )
    enter(page, place)
    expect(page.locator("#list-connection")).to_have_text("Live")
    total = sum(size for url, size in sizes.items() if "/assets/" in url or url.rstrip("/") == place.url)

    print(f"figure dashboard_transferred {total} bytes")
    assert 0 < total < 60_000
