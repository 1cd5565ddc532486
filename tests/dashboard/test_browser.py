"""The pages in a real browser: no error on page or console, links, SQL, a download."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.made import made_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The dashboard as a person starts it."""
    folder = tmp_path_factory.mktemp("browser")
    made_run(folder / "runs", "demo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from ockham.cli import main; sys.argv[0] = 'ockham'; main()"
    server = subprocess.Popen(
        [sys.executable, "-c", code, "--runs", str(folder / "runs"), "dashboard", "--port", str(port)],
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
    os.killpg(server.pid, 15)
    server.wait(20)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.failures = []
    opened.on("pageerror", lambda error: opened.failures.append(str(error)))
    yield opened
    context.close()


@pytest.mark.parametrize("name", ["", "run", "gate", "control", "memory", "integrity"])
def test_pages_draw_without_an_error(page, address, name):
    """Title, charts, no exception on page or in a script."""
    page.goto(f"{address}/{name}")
    page.wait_for_selector("h1")
    if name in ("run", "gate", "control", "memory"):
        page.wait_for_selector("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg")
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.failures == []


def test_a_deep_link_opens_this_run(page, address):
    """The address names the run and the iterations."""
    page.goto(f"{address}/run?run=demo&from=10&to=60")
    page.wait_for_selector("h1")
    page.wait_for_selector("text=demo: COMPLETED")
    assert page.get_by_label("From iteration").input_value() == "10"


def test_sql_and_a_download(page, address):
    """Typed, run through the guard, taken home."""
    page.goto(f"{address}/sql?sql=select%2042%20as%20answer")
    page.wait_for_selector("text=1 rows")
    page.get_by_text("SQL, table, download").last.click()
    with page.expect_download() as download:
        page.locator("[data-testid=stDownloadButton] button", has_text="CSV").last.click()
    assert "42" in download.value.path().read_text()
