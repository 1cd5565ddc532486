"""Runs page in a browser: five questions, each with at most five actions from the start page."""

from __future__ import annotations

import pytest

from tests.helpers.chromium import BROWSER_MARKS
from tests.helpers.dashboard_server import serve_dashboard
from tests.helpers.tampering import change_one_digit
from tests.helpers.timed_runs import write_run

pytestmark = BROWSER_MARKS
TIMEOUT_MS = 90_000


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workbench")
    runs = folder / "runs"
    write_run(runs, "base", "observe")
    for i in range(5):
        write_run(runs, f"tight-{i}", "tight", batches=90)
    change_one_digit(write_run(runs, "changed", "balanced", batches=30).folder)
    with serve_dashboard(runs, folder) as address:
        yield address


@pytest.fixture(scope="module")
def context(chromium):
    return chromium.new_context(viewport={"width": 1280, "height": 1000})


@pytest.fixture
def page(context, address):
    """Return a tab with the start page."""
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT_MS)
    tab.failures = []
    tab.on("pageerror", lambda error: tab.failures.append(str(error)))
    tab.goto(address)
    wait_until_idle(tab)
    yield tab
    assert tab.failures == []
    tab.close()


def wait_until_idle(page):
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).first.click()
    page.wait_for_timeout(300)
    wait_until_idle(page)


def choose_view(page, name):
    page.locator("[data-testid=stButtonGroup]").get_by_text(name, exact=True).click()
    page.wait_for_url(f"**view={name.replace(' ', '*')}*")
    wait_until_idle(page)


def choose_policy(page, name):
    page.locator(".st-key-policy input").click()
    page.get_by_role("option", name=name).click()
    page.wait_for_url(f"**policy={name}*")
    page.keyboard.press("Escape")
    wait_until_idle(page)


def test_name_of_the_start_page_leads_to_its_path(page, address):
    """Streamlit would show that the page was not found. The parameters stay."""
    page.goto(f"{address}/runs?policy=tight")
    wait_until_idle(page)
    assert page.url == f"{address}/?policy=tight"
    page.get_by_text("5 rows, ").first.wait_for()
    assert page.get_by_text("Page not found").count() == 0


def test_broken_run_is_named_without_an_action(page):
    """The start page names the run with a changed log as soon as it is verified."""
    page.locator(".ockham-broken").wait_for()
    page.get_by_text("changed: changed after it was signed").first.wait_for()


def test_four_losses_are_in_one_chart_after_three_actions(page):
    """Choose the newest four, smooth, and switch to a logarithmic axis. The address opens them again."""
    press(page, "Newest 4")
    page.locator("[data-drawn]").first.wait_for()
    page.get_by_label("Smoothing").evaluate(
        "slider => { slider.value = 0.8; slider.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    page.get_by_role("button", name="log").first.click()
    names = page.locator(".head button").all_inner_texts()
    assert sum("tight" in name for name in names) >= 3
    page.reload()
    page.locator("[data-drawn]").first.wait_for()
    page.get_by_text("4 chosen").wait_for()


def test_savings_of_a_policy_are_shown_after_four_actions(page):
    """Filter by policy (two actions), choose all, and open the savings."""
    choose_policy(page, "tight")
    press(page, "All 5")
    choose_view(page, "Savings")
    answer = page.get_by_text("Quality floor: loss").first.inner_text()
    assert "best of base + 0.01" in answer
    assert "5 of 5 runs reach it" in answer
    page.get_by_text("where list_contains($policies, policy)").first.wait_for()


def test_report_is_downloaded_after_two_actions(page):
    """The file has the savings of each policy."""
    press(page, "All 7")
    with page.expect_download() as download:
        page.get_by_role("button", name="HTML report").click()
    text = download.value.path().read_text()
    assert "Savings per group, at equal quality" in text
    assert "NOT INTACT: changed" in text


def test_cost_and_quality_of_policies_are_shown_after_two_actions(page):
    """Choose all runs, and compare them after the same length."""
    press(page, "All 7")
    choose_view(page, "Same length")
    page.get_by_text("After 30 iterations each").wait_for()
    page.locator("[data-testid=stVegaLiteChart]").wait_for()
