"""Dashboard in a browser: no errors on pages or the console, URLs, SQL, downloads and selections."""

from __future__ import annotations

import contextlib
import socket

import pytest
from playwright import sync_api

from ockham.run import Run
from tests.helpers.chromium import BROWSER_MARKS
from tests.helpers.dashboard_server import start_dashboard
from tests.helpers.runs import make_run

pytestmark = BROWSER_MARKS


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Start the dashboard in a folder with untrusted code and settings, and return its address."""
    folder = tmp_path_factory.mktemp("browser")
    make_run(folder / "runs", "demo")
    make_run(folder / "runs", "other", batches=40)
    (folder / "json.py").write_text(f"open({str(folder / 'executed')!r}, 'w').close()\n")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text('[server]\nbaseUrlPath = "elsewhere"\n')
    server, port = start_dashboard(folder / "runs", folder)
    yield f"http://127.0.0.1:{port}"
    # A service manager terminates only the command, and the server must end with it.
    server.terminate()
    server.wait(60)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not (folder / "executed").exists(), "code of the working folder was executed"


@pytest.fixture(scope="module")
def browser(chromium):
    # With one context Streamlit's scripts are loaded and compiled once for all tests.
    return chromium.new_context(viewport={"width": 1280, "height": 1000})


@pytest.fixture
def page(browser):
    """Return a new tab."""
    tab = _open_tab(browser)
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def tab(browser, address):
    """Return one tab for all pages, so that Streamlit's scripts run once."""
    tab = _open_tab(browser)
    tab.goto(address)
    yield tab
    tab.close()


def _open_tab(browser):
    """Open a tab that collects errors and requests to other hosts."""
    tab = browser.new_page()
    tab.set_default_timeout(120_000)
    tab.failures = []
    tab.external_urls = []

    def on_console(message):
        if message.type == "error" and not is_health_check(message):
            tab.failures.append(message.text)

    def on_request(request):
        if not is_local(request.url):
            tab.external_urls.append(request.url)

    tab.on("pageerror", lambda error: tab.failures.append(str(error)))
    tab.on("console", on_console)
    tab.on("request", on_request)
    return tab


def is_health_check(message):
    """Return True for the 404 of Streamlit's first health check, which uses the path of the page."""
    return "/_stcore/" in message.location.get("url", "")


def is_local(url):
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


@pytest.mark.parametrize(
    ("link", "has_chart"),
    [
        ("Runs", False),
        ("Run", True),
        ("Decision", False),
        ("Gate", True),
        ("Control", True),
        ("Memory and OQ", True),
        ("Integrity", False),
        ("Decision records", False),
        ("SQL", False),
    ],
)
def test_page_opened_from_menu_has_no_errors(tab, link, has_chart):
    """The page has a title and its charts, no exception, and sends no request to another host."""
    entry = tab.locator(".st-key-menu").get_by_role("link", name=link, exact=True)
    before = tab.locator("h1").first.inner_text()
    entry.click()
    if link != "Runs":
        tab.wait_for_function("before => document.querySelector('h1')?.innerText !== before", arg=before)
    tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    if has_chart:
        tab.locator("[data-testid=stVegaLiteChart] :is(canvas, svg), [data-drawn] canvas").first.wait_for()
    assert tab.locator("[data-testid=stException]").count() == 0
    assert tab.failures == []
    assert tab.external_urls == []


def wait_for_box(page, element):
    """Return the bounding box of an element after the script has ended and the element has stopped moving."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    box, previous = element.bounding_box(), None
    while box != previous:
        page.wait_for_timeout(300)
        box, previous = element.bounding_box(), box
    return box


def repeat_until_url(page, act, url):
    """Repeat an action until the URL matches, because a new chart may not handle events yet.

    A slow page gets the time to answer before the action is repeated.
    """
    for _ in range(20):
        act()
        with contextlib.suppress(sync_api.TimeoutError):
            return page.wait_for_url(url, timeout=4_000)
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        with contextlib.suppress(sync_api.TimeoutError):
            return page.wait_for_url(url, timeout=1_000)
    return page.wait_for_url(url)


def test_run_url_opens_run_and_iteration_range(page, address):
    """The URL contains the run and the iteration range."""
    page.goto(f"{address}/run?run=demo&from=10&to=60")
    page.wait_for_selector("h1")
    page.wait_for_selector("text=demo: completed")
    page.locator(".at", has_text="iteration 10 to 60").wait_for()


def test_sql_page_downloads_result_as_csv(page, address):
    """A query from the URL runs, and its result can be downloaded."""
    page.goto(f"{address}/sql?sql=select%2042%20as%20answer")
    page.get_by_text("SQL, table, download").first.click()
    with page.expect_download() as download:
        page.locator("[data-testid=stDownloadButton] button", has_text="CSV").last.click()
    assert "42" in download.value.path().read_text()


def open_run(page, address, query="run=demo"):
    """Open the Run page, and wait until its chart has been drawn and does not move."""
    page.goto(f"{address}/run?{query}")
    page.locator("[data-drawn]").wait_for()
    page.get_by_test_id("stPopoverButton").filter(has_text="Range").wait_for()
    return wait_for_box(page, page.locator(".plots"))


def drag_over_chart(page, box, start, end):
    middle = box["y"] + 120
    page.mouse.move(box["x"] + box["width"] * start, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * end, middle, steps=8)
    page.mouse.up()


def test_drag_over_chart_sets_iteration_range(page, address):
    """The range is in the inputs and in the URL, and a button resets it."""
    box = open_run(page, address)
    drag_over_chart(page, box, 0.4, 0.6)
    page.wait_for_url("**from=*")
    page.get_by_test_id("stPopoverButton").filter(has_text="Range").click()
    page.wait_for_function("document.querySelector('[aria-label=\"From iteration\"]')?.value > ''")
    low, high = (int(page.get_by_label(f"{word} iteration").input_value()) for word in ("From", "To"))
    assert 20 < low < high < 100
    page.get_by_text("Whole run").click()
    page.wait_for_url(lambda url: "from=" not in url)
    page.wait_for_function("() => document.querySelector('.stBidiComponent') !== null")
    page.locator(".at", has_text="iteration 0 to 119").wait_for()
    assert page.failures == []


def test_zoom_is_restored_from_url_and_taken_back_in_the_chart(page, address):
    """A link opens the range that it names, and the chart shows finer bins of it."""
    box = open_run(page, address, "run=demo&from=30&to=59")
    page.locator(".at", has_text="iteration 30 to 59").wait_for()
    drag_over_chart(page, box, 0.4, 0.6)
    page.wait_for_url(lambda url: "from=30" not in url)
    page.get_by_role("button", name="Back", exact=False).click()
    page.wait_for_url("**from=30&to=59*")
    assert page.failures == []


def test_run_page_loads_no_vega_and_no_data_grid(page, address):
    """Both take longer than all of the page. They are loaded with the table of a query."""
    loaded = []
    page.on("request", lambda request: loaded.append(request.url))
    open_run(page, address)
    page.locator(".list .row").first.wait_for()
    assert not [url for url in loaded if "embed." in url or "DataFrame" in url]
    page.get_by_text("SQL, table, download").first.click()
    page.locator("[data-testid=stDataFrame]").wait_for()
    assert page.failures == []


@pytest.mark.parametrize("width", [390, 900, 1280, 1440])
def test_metrics_fill_their_strip_at_every_width(page, address, width):
    """No cell is empty, and no text is cut."""
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto(f"{address}/run?run=demo")
    page.locator(".metric").nth(5).wait_for()
    strip = page.locator(".strip").bounding_box()
    boxes = [metric.bounding_box() for metric in page.locator(".metric").all()]
    area = sum((box["width"] + 1) * (box["height"] + 1) for box in boxes)
    assert area == pytest.approx((strip["width"] - 1) * (strip["height"] - 1), rel=0.02)
    cut = page.locator(".metric").evaluate_all("all => all.filter(e => e.scrollWidth > e.clientWidth).length")
    assert cut == 0


def test_live_run_is_drawn_in_place_without_grey(browser, tmp_path):
    """While events arrive, no element is dimmed, and the chart follows in the same element."""
    with Run("balanced", runs=tmp_path, run_id="live", facts={"vocab_size": 256, "max_iters": 400}) as run:
        write_batches(run, 0, 50)
        server, port = start_dashboard(tmp_path)
        tab = _open_tab(browser)
        try:
            open_run(tab, f"http://127.0.0.1:{port}", "run=live")
            tab.locator(".root").evaluate("root => { root.dataset.mark = 'same' }")
            tab.evaluate(WATCH_OPACITY)
            for i in range(1, 4):
                write_batches(run, 50 * i, 50 * i + 50)
                tab.locator(".at", has_text=f"iteration 0 to {50 * i + 49}").wait_for()
            assert tab.locator(".root").get_attribute("data-mark") == "same"
            assert tab.evaluate("window.samples") > 20
            assert tab.evaluate("window.dimmed") == 0
            assert tab.failures == []
        finally:
            tab.close()
            server.terminate()
            server.wait(20)


# Count frames in which an element of the page is transparent, also in the middle of a transition.
WATCH_OPACITY = """() => {
    window.samples = window.dimmed = 0;
    const look = () => {
        window.samples++;
        const elements = document.querySelectorAll('[data-testid=stElementContainer], [data-stale=true]');
        if ([...elements].some(node => Number(getComputedStyle(node).opacity) < 1)) window.dimmed++;
        requestAnimationFrame(look);
    };
    look();
}"""


def write_batches(run, start, end):
    for i in range(start, end):
        ctx = run.start_batch(i, 3.0 + 0.1 * (i % 7), learning_rate=1e-3)
        run.end_batch(ctx, stepped=ctx.updated, grad_norm=1.0, complexity_cost=0.001)
    run.flush()


def test_keys_j_and_k_open_adjacent_decisions(page, address):
    """J opens the next decision and K the previous one. The URL contains the decision."""
    page.goto(f"{address}/decision?run=demo&iter=60")
    table = page.locator("[data-testid=stDataFrame]").first
    table.wait_for()

    def tick():
        box = wait_for_box(page, table)
        page.mouse.click(box["x"] + 18, box["y"] + 52)

    repeat_until_url(page, tick, "**decision=*")
    page.get_by_text("Iteration 60:").wait_for()
    page.get_by_text("Cited by").wait_for()
    first = page.url
    page.get_by_role("heading", name="What was decided").click()
    repeat_until_url(page, lambda: page.keyboard.press("j"), lambda url: "decision=" in url and url != first)
    repeat_until_url(page, lambda: page.keyboard.press("k"), first)


def test_selected_run_stays_on_other_page(page, address):
    """The selected run stays when another page is opened from the menu."""
    page.goto(f"{address}/run?run=demo")
    page.get_by_text("demo: completed").wait_for()
    page.locator(".st-key-menu").get_by_role("link", name="Gate").click()
    page.get_by_text("Is the update rate of the gate in its band?").wait_for()
    page.wait_for_url("**run=demo*")


def test_click_on_mark_lists_its_decisions_in_view(page, address):
    """The list next to the chart has the decisions of the mark, and a button shows all again."""
    box = open_run(page, address)
    row = page.locator(".rows button", has_text="gate: update").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 12, row["y"] + row["height"] / 2)
    page.wait_for_url("**of=gate*")
    page.get_by_text("show all visible").wait_for()
    page.wait_for_function(
        """() => {
            const hosts = [...document.querySelectorAll('.stBidiComponent *')];
            const lists = hosts.flatMap(node => [...(node.shadowRoot?.querySelectorAll('.list') ?? [])]);
            const rows = lists.flatMap(list => [...list.querySelectorAll('.what')]);
            return rows.length > 0 && rows.every(node => node.textContent === 'gate: update');
        }"""
    )
    assert page.locator(".list .row").first.bounding_box()["y"] < 1000
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == 0
    page.get_by_text("show all visible").click()
    page.get_by_text("show all visible").wait_for(state="detached")
    assert page.failures == []


def test_click_on_decision_opens_it_without_a_reload(page, address):
    """A click stays in the app. The row is a link, so it can be opened in a new tab."""
    open_run(page, address)
    row = page.locator(".list .row").first
    row.wait_for()
    assert "/decision?run=demo&decision=" in row.evaluate("link => link.href")
    page.evaluate("window.stays = true")
    row.click()
    page.wait_for_url("**/decision?run=demo&decision=*")
    page.get_by_text("What was decided").wait_for()
    assert page.evaluate("window.stays")
