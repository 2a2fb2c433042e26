"""The page as a person uses it, in a real browser, on the whole of `progress-stream dev`."""

from __future__ import annotations

import csv
import io
import re
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.programs import LISTENING, Dev, Program
from tests.support.proxy import Proxy

ROWS = 2_000
TEMPLATE = "Hi {{first_name}}, I saw that {{company|your firm}} is growing."
#: The log of a job that only begins and ends: each line once.
LIFE = [re.compile(text) for text in ("Waiting", "Started", "Finished")]
#: Keeps every value that the bar ever shows.
RECORDER = """
window.shown = [];
new MutationObserver((changes) => {
  for (const { target } of changes) {
    const now = target.getAttribute('aria-valuenow');
    if (now !== null) window.shown.push(Number(now));
  }
}).observe(document, { subtree: true, attributes: true, attributeFilter: ['aria-valuenow'] });
"""

#: How long a page waits is drawn, from a range that doubles: a fifth of it each time, so that a test's length is not drawn too.
DRAWN = "Math.random = () => 0.2;"


def leads(folder: Path, rows: int = ROWS, name: str = "leads.csv") -> Path:
    file = folder / name
    with file.open("w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target)
        writer.writerow(["first_name", "company"])
        writer.writerows([f"Ann {n}", "" if n % 10 == 0 else f"Firm {n}"] for n in range(rows))
    return file


def start_csv(page: Page, file: Path, template: str = TEMPLATE) -> None:
    page.get_by_label("What to run").select_option("personalize")
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_label("Line", exact=True).fill(template)
    page.get_by_role("button", name="Start").click()


def start_countdown(page: Page, seconds: int) -> None:
    page.get_by_label("What to run").select_option("countdown")
    page.get_by_label("seconds").fill(str(seconds))
    page.get_by_role("button", name="Start").click()


def wait_for_value(page: Page, least: int, seconds: float = 20) -> None:
    bar = page.get_by_role("progressbar")
    deadline = time.monotonic() + seconds
    while int(bar.get_attribute("aria-valuenow") or -1) < least:
        assert time.monotonic() < deadline, f"the bar stands at {bar.get_attribute('aria-valuenow')}"
        page.wait_for_timeout(50)


def test_a_csv_goes_in_and_comes_back_with_a_line_for_each_row(
    page: Page, dev: Dev, tmp_path: Path, complaints: list[str]
) -> None:
    """The product's main job, from the printed link to the downloaded file."""
    page.add_init_script(RECORDER)
    page.goto(dev.link)
    assert "token" not in page.url

    start_csv(page, leads(tmp_path))
    expect(page).to_have_url(re.compile(r"#/jobs/[\w.-]+$"))
    expect(page.locator("#job-state")).to_have_text("Done", timeout=20_000)
    expect(page.locator("#count")).to_have_text(f"{ROWS:,} of {ROWS:,} rows")

    shown = page.evaluate("window.shown")
    assert sorted(shown) == shown
    assert 100 == shown[-1]

    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download result").click()
    assert "leads-personal.csv" == downloading.value.suggested_filename
    rows = list(csv.DictReader(io.StringIO(downloading.value.path().read_text(encoding="utf-8"))))
    assert ROWS == len(rows)
    assert "Hi Ann 7, I saw that Firm 7 is growing." == rows[7]["personal_line"]
    assert "Hi Ann 10, I saw that your firm is growing." == rows[10]["personal_line"]
    assert [] == complaints


def test_the_columns_of_a_file_are_offered_and_put_themselves_into_the_line(
    page: Page, dev: Dev, tmp_path: Path, complaints: list[str]
) -> None:
    """Nobody has to remember how a column is spelt."""
    page.goto(dev.link)
    page.get_by_label("What to run").select_option("personalize")
    page.get_by_label("CSV file").set_input_files(leads(tmp_path, 3))
    page.get_by_label("Line", exact=True).fill("Dear ")
    page.get_by_role("button", name="first_name").click()

    expect(page.get_by_label("Line", exact=True)).to_have_value("Dear {{first_name}}")
    assert [] == complaints


def test_a_reload_comes_back_to_the_job_with_its_log(page: Page, dev: Dev, complaints: list[str]) -> None:
    """The job's id is in the address, and the end of its log is shown again."""
    page.goto(dev.link)
    start_countdown(page, 4)
    wait_for_value(page, 25)
    page.reload()

    wait_for_value(page, 25)
    expect(page.locator("#log")).to_contain_text("Started")
    expect(page.locator("#job-state")).to_have_text("Done")
    page.reload()
    expect(page.locator("#job-state")).to_have_text("Done")
    expect(page.locator("#log .line")).to_have_count(3)
    expect(page.get_by_role("link", name="Download result")).to_be_visible()
    assert [] == complaints


def test_the_bar_reaches_the_end_over_cuts_and_a_gateway_that_is_away(
    page: Page, dev: Dev, meddler: Proxy
) -> None:
    """Five seconds of 502 with HTML, which end an EventSource for good. No line comes twice, and the bar never goes back."""
    page.add_init_script(RECORDER + DRAWN)
    page.goto(f"{meddler.url}/?token={dev.token}")
    start_countdown(page, 18)
    wait_for_value(page, 10)
    assert 1 == meddler.cut()
    wait_for_value(page, 25)
    meddler.away = True
    meddler.cut()
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    page.wait_for_timeout(5_000)
    meddler.away = False

    expect(page.locator("#connection")).to_have_text("Live", timeout=20_000)
    expect(page.locator("#job-state")).to_have_text("Done", timeout=20_000)
    expect(page.locator("#log .line")).to_have_text(
        [re.compile(text) for text in ("Waiting", "Started", "Finished")]
    )
    shown = page.evaluate("window.shown")
    assert sorted(shown) == shown
    # The end was said, so nobody asks again.
    asked = len(meddler.streams())
    page.wait_for_timeout(3000)
    assert asked == len(meddler.streams())


@pytest.mark.slow
def test_the_bar_reaches_the_end_over_a_web_server_that_is_killed(
    page: Page, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """With -9, in the middle of a job, twice. The worker does not notice, and the page comes back by itself."""
    env = {
        "PROGRESS_STREAM_REDIS_URL": redis_url,
        "PROGRESS_STREAM_NAMESPACE": namespace,
        "PROGRESS_STREAM_JWT_SECRET": "a secret for the length of one test",
        "PROGRESS_STREAM_DATA": str(tmp_path / "data"),
    }
    with ExitStack() as stack:
        worker = Dev(tmp_path / "data", env)
        stack.callback(worker.stop)
        server = Program("serve", "--port", "0", ready=LISTENING, env=env)
        stack.callback(lambda: server.stop())
        meddler = stack.enter_context(Proxy(server.url))
        page.add_init_script(RECORDER + DRAWN)
        page.goto(f"{meddler.url}/?token={worker.token}")
        # Longer than a busy machine needs to start a server twice.
        start_countdown(page, 20)
        for least in (15, 50):
            wait_for_value(page, least)
            server.kill()
            expect(page.locator("#connection")).to_have_text("Reconnecting…")
            server = Program("serve", "--port", str(server.port), ready=LISTENING, env=env)

        expect(page.locator("#job-state")).to_have_text("Done", timeout=30_000)
        expect(page.locator("#log .line")).to_have_text(LIFE)
        shown = page.evaluate("window.shown")
        assert sorted(shown) == shown


def test_a_position_that_the_way_eats_travels_in_the_address(page: Page, dev: Dev, meddler: Proxy) -> None:
    """The `position` frame shows that `Last-Event-ID` never arrived; nothing is shown twice."""
    meddler.eats_position = True
    page.goto(f"{meddler.url}/?token={dev.token}")
    start_countdown(page, 6)
    wait_for_value(page, 30)
    meddler.cut()

    expect(page.locator("#job-state")).to_have_text("Done")
    expect(page.locator("#log .line")).to_have_text(
        [re.compile(text) for text in ("Waiting", "Started", "Finished")]
    )
    assert re.search(r"last_event_id=\d+-[1-9]", meddler.streams()[-1])


def test_without_a_cookie_the_page_says_what_to_do(page: Page, dev: Dev) -> None:
    """Not an error, and no empty form."""
    page.goto(dev.link.partition("?")[0])

    expect(page.get_by_role("heading", name="Open the link that the server printed")).to_be_visible()
    expect(page.locator("#form")).to_be_hidden()


def test_a_job_that_does_not_exist_is_told_in_words(page: Page, dev: Dev) -> None:
    """An address may be old."""
    page.goto(dev.link)
    page.goto(dev.link.partition("?")[0] + "#/jobs/nosuchjob")

    expect(page.get_by_role("heading", name="No such job")).to_be_visible()


def test_a_failure_is_one_clear_sentence(page: Page, dev: Dev, tmp_path: Path, complaints: list[str]) -> None:
    """What went wrong, and no traceback."""
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    page.goto(dev.link)
    start_csv(page, empty)

    expect(page.locator("#job-state")).to_have_text("Failed")
    failure = page.locator("#failure")
    expect(failure).to_be_visible()
    expect(failure).to_contain_text("empty")
    expect(failure).not_to_contain_text("Traceback")
    assert [] == complaints


def test_what_others_wrote_stays_text(page: Page, dev: Dev, tmp_path: Path, complaints: list[str]) -> None:
    """A file's name and a cell's content reach the page, and no markup in them does."""
    file = leads(tmp_path, 5, name="<img src=x onerror=alert(1)>.csv")
    page.goto(dev.link)
    start_csv(page, file, "Hi {{<b>nobody</b>}}")

    expect(page.locator("#job-title")).to_have_text("<img src=x onerror=alert(1)>.csv")
    expect(page.locator("#job-state")).to_have_text(re.compile("Done|Failed"))
    assert 0 == page.locator("main img, main b").count()
    assert [] == complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_narrow_screen(
    context: BrowserContext, dev: Dev, scheme: str, tmp_path: Path
) -> None:
    """360 px, in both colour schemes: nothing reaches over the edge, in no view."""
    page = context.new_page()
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    width = "document.documentElement.scrollWidth"
    page.goto(dev.link.partition("?")[0])
    expect(page.locator("#view-locked")).to_be_visible()
    assert 360 == page.evaluate(width)
    page.goto(dev.link)
    start_csv(page, leads(tmp_path, 50, name="a" * 120 + ".csv"))
    assert 360 == page.evaluate(width)
    expect(page.locator("#download")).to_be_visible()
    assert 360 == page.evaluate(width)


def test_everything_can_be_reached_with_the_keyboard(page: Page, dev: Dev, tmp_path: Path) -> None:
    """Tab goes through the form in the order in which it is read, and Enter starts the job."""
    page.goto(dev.link)
    page.get_by_label("What to run").select_option("countdown")
    page.get_by_label("What to run").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_label("seconds")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("1")
    page.keyboard.press("Tab")
    expect(page.get_by_label("quiet")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Start")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.locator("#job-title")).to_be_focused()
    expect(page.locator("#job-state")).to_have_text("Done")
