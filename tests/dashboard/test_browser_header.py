"""Header and address in a browser: a changed log is red on every page, and one page is one history entry."""

from __future__ import annotations

import shutil

import pytest
from playwright import sync_api

from dashboard.address import RUN_PAGES
from tests.helpers.dashboard_server import start_dashboard
from tests.helpers.runs import make_run
from tests.helpers.tampering import change_one_digit

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
TIMEOUT_MS = 60_000
OTHER_PAGES = ("", "odr", "sql")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("header")
    make_run(folder / "runs", "demo", batches=60)
    make_run(folder / "runs", "other", batches=40)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    server, port = start_dashboard(folder / "runs", folder)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(20)


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT_MS)
    yield tab
    context.close()


def wait_until_idle(page):
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def open_from_menu(page, link, heading):
    page.locator(".st-key-menu").get_by_role("link", name=link, exact=True).click()
    page.get_by_role("heading", level=1, name=heading).wait_for()
    wait_until_idle(page)


def test_each_page_is_one_history_entry_and_back_restores_its_run(page, address):
    """Back from the third page is the second page, and menu, address and header name the same run."""
    page.goto(f"{address}/run?run=demo")
    page.get_by_role("heading", level=1, name="What happened in this run?").wait_for()
    wait_until_idle(page)
    entries = page.evaluate("history.length")
    open_from_menu(page, "Gate", "Is the update rate of the gate in its band?")
    open_from_menu(page, "Integrity", "Is this run intact?")
    assert page.evaluate("history.length") == entries + 2
    page.go_back()
    page.get_by_role("heading", level=1, name="Is the update rate").wait_for()
    page.wait_for_url("**/gate?run=demo")
    page.go_back()
    page.wait_for_url("**/run?run=demo")
    page.go_forward()
    page.get_by_role("heading", level=1, name="Is the update rate").wait_for()
    page.wait_for_url("**/gate?run=demo")


def test_back_after_choosing_another_run_restores_the_run_everywhere(page, address):
    """The menu of runs, the path, the title and the address name the run of the address."""
    page.goto(f"{address}/gate?run=demo")
    page.locator(".st-key-path").get_by_role("link", name="demo").wait_for()
    menu = page.get_by_role("combobox", name="Run")
    menu.click()
    page.get_by_role("option", name="other").click()
    page.wait_for_url("**/gate?run=other")
    page.locator(".st-key-path").get_by_role("link", name="other").wait_for()
    page.wait_for_function("document.title === 'Gate - other - Ockham'")
    page.go_back()
    page.wait_for_url("**/gate?run=demo")
    page.locator(".st-key-path").get_by_role("link", name="demo").wait_for()
    page.wait_for_function("document.title === 'Gate - demo - Ockham'")
    sync_api.expect(menu).to_have_value("demo")


def test_removed_run_stays_not_found_on_other_pages(page, address, folder):
    """No other run is shown in its place, and links keep its name."""
    make_run(folder / "runs", "gone", batches=12)
    page.goto(f"{address}/run?run=gone")
    page.locator(".st-key-path").get_by_role("link", name="gone").wait_for()
    shutil.rmtree(folder / "runs" / "gone")
    page.locator(".st-key-menu").get_by_role("link", name="Gate", exact=True).click()
    page.wait_for_url("**/gate?run=gone")
    page.get_by_text("The run in this URL was not found.").wait_for()
    assert page.get_by_text("of the finite batches were updated").count() == 0
    page.locator(".st-key-menu").get_by_role("link", name="Control", exact=True).click()
    page.wait_for_url("**/control?run=gone")
    page.get_by_text("The run in this URL was not found.").wait_for()


def test_changed_digit_in_signed_log_is_red_on_every_page(page, address, folder):
    """The open page becomes red without a reload. So do all pages of the run, and the list of runs."""
    run = make_run(folder / "runs", "tampered", batches=60)
    page.goto(f"{address}/gate?run=tampered")
    page.get_by_role("heading", level=1).wait_for()
    facts = page.locator(".ockham-facts")
    sync_api.expect(facts).to_contain_text("log verified", timeout=TIMEOUT_MS)
    sequence = change_one_digit(run.folder)
    banner = page.locator(".ockham-broken")
    banner.wait_for()
    sync_api.expect(banner).to_contain_text(f"changed after it was signed, at event {sequence}")
    for name in RUN_PAGES:
        page.goto(f"{address}/{name}?run=tampered")
        banner.wait_for()
        sync_api.expect(banner).to_contain_text("The log of tampered changed after it was signed")
        assert banner.evaluate("box => getComputedStyle(box).backgroundColor") == "rgb(201, 42, 42)"
    for name in OTHER_PAGES:
        page.goto(f"{address}/{name}")
        banner.wait_for()
        sync_api.expect(banner).to_contain_text("The log of 1 run is not intact")
        page.get_by_text(f"tampered: changed after it was signed, at event {sequence}").wait_for()
    page.get_by_role("link", name="Show findings").click()
    page.wait_for_url("**/integrity?run=tampered")
    page.goto(f"{address}/gate?run=demo")
    sync_api.expect(facts).to_contain_text("log verified", timeout=TIMEOUT_MS)
    assert banner.count() == 0
