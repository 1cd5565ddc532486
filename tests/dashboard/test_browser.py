"""The pages in a real browser: no error on page or console, links, SQL, a download."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from playwright import sync_api

from tests.helpers.runs import made_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The dashboard as a person starts it, in a folder whose code and settings are a stranger's."""
    folder = tmp_path_factory.mktemp("browser")
    made_run(folder / "runs", "demo")
    made_run(folder / "runs", "other", batches=40)
    (folder / "json.py").write_text(f"open({str(folder / 'caught')!r}, 'w').close()\n")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text('[server]\nbaseUrlPath = "elsewhere"\n')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from ockham.cli import main; sys.argv[0] = 'ockham'; main()"
    server = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "--runs", str(folder / "runs"), "dashboard", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env={**os.environ}, start_new_session=True,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{base}/_stcore/health", timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield base
    server.terminate()  # the verb alone, as a service manager does: no server may outlive it
    server.wait(20)
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", port)) != 0
    assert not (folder / "caught").exists(), "code of the working folder was run"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        # One context, so that Streamlit's scripts are read and compiled once; each test has a tab of its own.
        yield chromium.new_context(viewport={"width": 1280, "height": 1000})
        chromium.close()


@pytest.fixture
def page(browser):
    """A tab of its own."""
    opened = _watched(browser)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def tab(browser, address):
    """One tab for all pages, which its menu leads through: Streamlit's scripts are run once."""
    opened = _watched(browser)
    opened.goto(address)
    yield opened
    opened.close()


def _watched(browser):
    opened = browser.new_page()
    opened.set_default_timeout(30_000)
    opened.failures, opened.elsewhere = [], []
    opened.on("pageerror", lambda error: opened.failures.append(str(error)))
    opened.on(
        "console",
        lambda said: opened.failures.append(said.text) if said.type == "error" and not ours(said) else None,
    )
    opened.on("request", lambda asked: None if local(asked.url) else opened.elsewhere.append(asked.url))
    return opened


def ours(said):
    """Streamlit asks for its own health below the path of a page first, and is told 404."""
    return "/_stcore/" in said.location.get("url", "")


def local(url):
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


@pytest.mark.parametrize(
    ("link", "charted"),
    [
        ("Overview", False), ("Run", True), ("Decision", False), ("Gate", True), ("Control", True), ("Memory and OQ", True),
        ("Integrity", False), ("Compare", False), ("Value", False), ("Decision records", False), ("SQL", False),
    ],
)  # fmt: skip
def test_pages_draw_without_an_error(tab, link, charted):
    """Title, charts, no exception on page or in a script."""
    chosen = tab.get_by_test_id("stSidebarNav").get_by_role("link", name=link, exact=True)
    before = tab.locator("h1").first.inner_text()
    chosen.click()
    if link != "Overview":
        tab.wait_for_function("was => document.querySelector('h1')?.innerText !== was", arg=before)
    tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    if charted:
        tab.locator("[data-testid=stVegaLiteChart]").locator("canvas, svg").first.wait_for()
    assert tab.locator("[data-testid=stException]").count() == 0
    assert tab.failures == []
    assert tab.elsewhere == []


def drawn(page, element):
    """Where it is, once the script has ended and it has stopped moving."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    box, was = element.bounding_box(), None
    while box != was:
        page.wait_for_timeout(300)
        box, was = element.bounding_box(), box
    return box


def until(page, act, url):
    """Act until the address says so: a chart on a busy machine is there before it listens."""
    for _ in range(5):
        act()
        with contextlib.suppress(sync_api.TimeoutError):
            return page.wait_for_url(url, timeout=4_000)
    return page.wait_for_url(url)


def test_a_deep_link_opens_this_run(page, address):
    """The address names the run and the iterations."""
    page.goto(f"{address}/run?run=demo&from=10&to=60")
    page.wait_for_selector("h1")
    page.wait_for_selector("text=demo: COMPLETED")
    page.wait_for_function("document.querySelector('[aria-label=\"From iteration\"]')?.value === '10'")


def test_sql_and_a_download(page, address):
    """Typed, run through the guard, taken home."""
    page.goto(f"{address}/sql?sql=select%2042%20as%20answer")
    page.get_by_text("SQL, table, download").first.click()
    with page.expect_download() as download:
        page.locator("[data-testid=stDownloadButton] button", has_text="CSV").last.click()
    assert "42" in download.value.path().read_text()


def test_dragging_over_the_loss_looks_closer(page, address):
    """The range stands in the inputs and in the address, and a button leads back."""
    page.goto(f"{address}/run?run=demo")
    chart = page.locator("[data-testid=stVegaLiteChart]").first
    chart.locator("canvas, svg").first.wait_for()

    def drag():
        box = drawn(page, chart)
        middle = box["y"] + box["height"] * 0.45
        page.mouse.move(box["x"] + box["width"] * 0.4, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=8)
        page.mouse.up()

    until(page, drag, "**from=*")
    page.wait_for_function("document.querySelector('[aria-label=\"From iteration\"]')?.value > ''")
    low, high = (int(page.get_by_label(f"{word} iteration").input_value()) for word in ("From", "To"))
    assert 20 < low < high < 100
    page.get_by_text("Whole run").click()
    page.wait_for_url(lambda url: "from=" not in url)
    assert page.failures == []


def test_from_a_decision_to_its_neighbour_by_key(page, address):
    """J and K walk through the log; the address names where one is."""
    page.goto(f"{address}/decision?run=demo&iter=60")
    table = page.locator("[data-testid=stDataFrame]").first
    table.wait_for()

    def tick():
        box = drawn(page, table)
        page.mouse.click(box["x"] + 18, box["y"] + 52)

    until(page, tick, "**decision=*")
    page.get_by_text("At iteration 60").wait_for()
    page.get_by_text("Cited by").wait_for()
    first = page.url
    page.get_by_role("heading", name="What was decided here").click()
    page.keyboard.press("j")
    page.wait_for_url(lambda url: "decision=" in url and url != first)
    page.keyboard.press("k")
    page.wait_for_url(first)


def test_the_run_stays_from_page_to_page(page, address):
    """Also where the menu forgets the address."""
    page.goto(f"{address}/run?run=demo")
    page.get_by_text("demo: COMPLETED").wait_for()
    page.get_by_role("link", name="Gate").click()
    page.get_by_text("Does the gate keep its rate?").wait_for()
    page.wait_for_url("**run=demo*")


def test_a_click_on_a_strip_lists_its_decisions(page, address):
    """Those of the cell alone, by name in the menu and in the address; a button leads back to the whole range."""
    page.goto(f"{address}/run?run=demo")
    strips = page.locator("[data-testid=stVegaLiteChart]").nth(1)
    strips.locator("canvas, svg").first.wait_for()
    strips.scroll_into_view_if_needed()

    def click():
        box = drawn(page, strips)
        page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 36)

    until(page, click, "**of=gate*")
    page.get_by_text("show the whole range").click()
    page.get_by_text("show the whole range").wait_for(state="detached")
    assert page.failures == []
