"""Questions about one run, a file and a record: each with at most three actions from the start page."""

from __future__ import annotations

import shutil

import pytest
from playwright import sync_api

from ockham import resources
from ockham.catalog import Catalog
from ockham.catalog.views import load_question
from tests.helpers.chromium import BROWSER_MARKS, open_tab
from tests.helpers.dashboard_server import serve_dashboard
from tests.helpers.runs import make_run

pytestmark = BROWSER_MARKS
TIMEOUT_MS = 90_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    make_run(folder / "runs", "demo", batches=120)
    shutil.copytree(resources.data_root() / "odr", folder / "odr")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with serve_dashboard(folder / "runs", folder) as address:
        yield address


@pytest.fixture
def page(chromium, address):
    """Return a tab with the start page."""
    with open_tab(chromium, TIMEOUT_MS) as tab:
        tab.goto(address)
        tab.locator("[data-testid=stDataFrame] canvas").first.wait_for()
        wait_until_idle(tab)
        yield tab


def wait_until_idle(page):
    page.wait_for_timeout(200)
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def search(page, text):
    box = page.get_by_label("Search", exact=True)
    box.fill(text)
    box.press("Enter")


def test_worst_spikes_and_their_batches_are_shown_after_three_actions(page, folder):
    """Open SQL, search the saved questions, and choose one."""
    page.locator(".st-key-menu").get_by_role("link", name="SQL", exact=True).click()
    questions = page.get_by_label("Saved question")
    questions.wait_for()
    wait_until_idle(page)
    questions.click()
    questions.fill("worst spikes")
    page.get_by_role("option").first.click()
    page.wait_for_url("**q=spikes*")
    rows = Catalog(folder / "runs").rows(load_question("spikes").sql)
    assert rows[0]["data_digest"]
    page.get_by_text(f"{len(rows)} rows, ").first.wait_for()


def test_reason_of_a_higher_rate_is_shown_after_three_actions(page):
    """Search the run, click a mark of the compressor, and click the decision."""
    search(page, "demo")
    page.wait_for_url("**/run?run=demo*")
    sync_api.expect(page.locator("#first-view")).to_have_count(0)
    page.locator("[data-drawn] .plots").wait_for()
    wait_until_idle(page)
    name = page.locator(".rows button", has_text="compressor: larger steps")
    plots, row = page.locator(".plots"), name.bounding_box()
    left = plots.bounding_box()["x"] + float(plots.get_attribute("data-left"))
    right = plots.bounding_box()["x"] + plots.bounding_box()["width"] - 10
    rows = page.locator(".list .row")
    for share in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9):
        page.mouse.click(left + (right - left) * share, row["y"] + row["height"] / 2)
        wait_until_idle(page)
        if rows.first.get_by_text("compressor: larger steps").count():
            break
    rows.first.click()
    page.wait_for_url("**/decision?*")
    page.get_by_text("compressor decided: larger steps. Reason: drift low. The value").first.wait_for()


def test_owners_and_evidence_of_a_record_are_shown_after_one_action(page):
    """The search opens the record."""
    search(page, "ODR-0011")
    page.wait_for_url("**/odr?id=*")
    page.get_by_role("heading", level=1, name="What was decided, by whom, and on what evidence?").wait_for()
    page.get_by_text("owners: builders. Evidence: ").first.wait_for()


def test_state_of_a_file_is_shown_after_two_actions(page, folder):
    """Open "Identify a file", and choose the file. It is not sent."""
    files = sorted((folder / "runs" / "demo" / "checkpoints").rglob("*.bin"))
    page.get_by_role("button", name="Identify a file").click()
    page.locator("input[type=file]").first.set_input_files(files[-1])
    page.wait_for_url("**/checkpoints?digest=*")
    page.get_by_text("accepted").first.wait_for()
    page.get_by_text("saved at iteration").first.wait_for()
