"""Ways between pages in a browser: links of runs, one range for all pages of a run, and newer data."""

from __future__ import annotations

import time

import pytest

from tests.helpers.chromium import BROWSER_MARKS, open_tab
from tests.helpers.dashboard_server import serve_dashboard
from tests.helpers.timed_runs import write_run

pytestmark = BROWSER_MARKS
TIMEOUT_MS = 90_000
# Height of the header of a table, and of a row.
HEADER_PX = 35
ROW_PX = 35


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("navigation") / "runs"
    write_run(folder, "first", "balanced", batches=90)
    return folder


@pytest.fixture(scope="module")
def address(runs):
    with serve_dashboard(runs, runs.parent) as address:
        yield address


@pytest.fixture
def page(chromium):
    failures = []
    with open_tab(chromium, TIMEOUT_MS) as tab:
        tab.on("pageerror", lambda error: failures.append(str(error)))
        yield tab
    assert failures == []


def test_name_of_a_run_opens_its_page(page, address):
    """A click on the name in the table of runs is enough. The page of the run opens in a tab of its own."""
    page.goto(address)
    table = page.locator("[data-testid=stDataFrame]").first
    table.locator("canvas").first.wait_for()
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    # A click before the table is drawn has no effect.
    while not (opened := [tab for tab in page.context.pages if "/run?run=first" in tab.url]):
        assert time.monotonic() < deadline, [tab.url for tab in page.context.pages]
        box = table.bounding_box()
        if box is not None:
            page.mouse.click(box["x"] + 60, box["y"] + HEADER_PX + ROW_PX / 2)
        page.wait_for_timeout(1_000)
    opened[0].locator(".at", has_text="iteration 0 to 89").wait_for()


def test_range_of_a_run_stays_on_its_other_pages(page, address):
    """The menu keeps the chosen iterations, and so does the way back."""
    page.goto(f"{address}/run?run=first&from=30&to=59")
    page.locator(".at", has_text="iteration 30 to 59").wait_for()
    for name, path in (("Control", "control"), ("Run", "run")):
        page.locator(".st-key-menu").get_by_role("link", name=name, exact=True).click()
        page.wait_for_url(f"**/{path}?*")
        page.wait_for_url(
            lambda url: {"run=first", "from=30", "to=59"} <= set(url.partition("?")[2].split("&"))
        )
        page.locator(".at", has_text="iteration 30 to 59").first.wait_for()


def test_page_across_runs_offers_a_run_that_was_added(page, address, runs):
    """The table does not change while it is read, and a button shows the new run."""
    page.goto(address)
    page.get_by_text("1 row, ").first.wait_for()
    write_run(runs, "second", "balanced", batches=30)
    newer = page.get_by_role("button", name="Show newer data")
    newer.wait_for()
    assert page.get_by_text("2 rows, ").count() == 0
    newer.click()
    page.get_by_text("2 rows, ").first.wait_for()
    newer.wait_for(state="detached")
