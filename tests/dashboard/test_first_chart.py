"""The chart that is shown before Streamlit: the same as the one of the page, and only for this machine."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
import urllib.request

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright import sync_api

from dashboard import first_chart
from dashboard.chart_kinds import CHART_KINDS
from dashboard.first_chart import first_chart_element, read_first_chart
from ockham.record.run_folder import RunFolder
from tests.helpers.chromium import BROWSER_MARKS
from tests.helpers.damaged_runs import append_invalid_line
from tests.helpers.dashboard_server import start_dashboard
from tests.helpers.runs import make_run
from tests.helpers.tampering import change_one_digit

pytestmark = pytest.mark.filterwarnings("ignore")
HOST = "127.0.0.1:8501"
STREAMLIT = "**/static/js/index.*.js"
LIVE_CHART = "[data-testid^=stBidi] [data-drawn] .panel canvas"


@pytest.fixture
def runs(monkeypatch, tmp_path):
    monkeypatch.setenv("OCKHAM_RUNS", str(tmp_path))
    monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
    # A slow machine must not change the result.
    monkeypatch.setattr(first_chart, "LIMIT_SECONDS", 60)
    return tmp_path


def read_element(page, query="", host=HOST):
    """Return the data of the element, or None if there is no element."""
    element = asyncio.run(first_chart_element(page, query, host)).decode()
    match = re.fullmatch(r'<script type="application/json" id="first-chart-data">([^<]*)</script>\n', element)
    assert bool(match) == bool(element)
    return json.loads(match[1]) if match else None


@pytest.mark.parametrize("page", CHART_KINDS)
@pytest.mark.parametrize("query", [{}, {"run": "first"}, {"run": "first", "from": "5", "to": "20"}])
def test_first_chart_is_the_message_that_the_page_sends(open_page, runs, page, query):
    """No figure changes when the chart of the page replaces it."""
    make_run(runs, "first", batches=40)
    test = open_page(runs, page, **query)
    [sent] = [proto for proto in (e.proto for e in test.get("bidi_component")) if "panels" in proto.json]
    data = read_element(page, "&".join(f"{name}={value}" for name, value in query.items()))
    assert data["chart"] == json.loads(sent.json)
    assert data["run"] == "first"
    assert data["title"] == test.title[0].value
    assert not data["isBroken"]


def test_first_chart_of_a_changed_log_names_the_finding(runs, verify_all):
    """No curve of a broken log is shown without a warning."""
    make_run(runs, "first", batches=40)
    change_one_digit(RunFolder(runs, "first"))
    verify_all()
    data = read_first_chart("run", {})
    assert data["isBroken"]
    assert "changed" in data["log"] or "differ" in data["log"]


@pytest.mark.parametrize("page", ["", "gate", "runs", "__proto__", "run/"])
def test_page_without_a_chart_has_no_element(runs, page):
    """Such a page is sent as it is."""
    make_run(runs, "first", batches=12)
    assert read_element(page) is None


@pytest.mark.parametrize("query", ["run=gone", "run=", "run=..%2Ffirst", "run=first%00"])
def test_unknown_run_has_no_element(runs, query):
    """The page shows that it was not found."""
    make_run(runs, "first", batches=12)
    assert read_element("run", query) is None


def test_unreadable_run_and_empty_folder_have_no_element(runs):
    """The page shows the error."""
    assert read_element("run") is None
    append_invalid_line(make_run(runs, "bad", batches=12))
    assert read_element("run", "run=bad") is None


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:8501", "", "127.0.0.1.attacker.example", "[", "[::1"]
)
def test_other_host_has_no_element(runs, host):
    """Another site can lead its name to this machine, and would then read the page as its own."""
    make_run(runs, "first", batches=12)
    assert read_element("run", host=host) is None
    for known in (HOST, "localhost", "[::1]:8501"):
        assert read_element("run", host=known)["run"] == "first"


def test_slow_query_leaves_the_chart_to_streamlit(runs, monkeypatch):
    """The page must not stay white until a large folder is read."""
    make_run(runs, "first", batches=12)
    monkeypatch.setattr(first_chart, "LIMIT_SECONDS", 0)
    assert read_element("run") is None


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("<>/!-scriptSCRIPT&\"'\\\u2028 ")))
def test_no_text_ends_the_element(text):
    """A plugin can have any name."""
    element = first_chart.make_element({"log": f"</script>{text}"}).decode()
    body = element.removeprefix(first_chart.ELEMENT.partition("%s")[0])
    assert body.count("<") == 1
    assert json.loads(body.partition("<")[0])["log"] == f"</script>{text}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    make_run(folder / "runs", "demo", batches=60)
    return folder


def has_element(address):
    request = urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request) as response:
        return b'id="first-chart-data"' in gzip.decompress(response.read())


@pytest.fixture(scope="module")
def address(folder):
    server, port = start_dashboard(folder / "runs", folder)
    address = f"http://127.0.0.1:{port}"
    # Just after the start, queries can take longer than the limit.
    deadline = time.monotonic() + 60
    while not all(has_element(f"{address}/{page}?run=demo") for page in CHART_KINDS):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield address
    server.terminate()
    server.wait(20)


@pytest.fixture
def tab(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    yield tab
    context.close()


@pytest.mark.parametrize("page", CHART_KINDS)
class TestInBrowser:
    pytestmark = BROWSER_MARKS

    def test_chart_is_drawn_without_streamlit_and_at_the_place_of_the_later_one(self, tab, address, page):
        """Nothing moves when Streamlit has drawn the page, and one chart is left."""
        held = []
        tab.route(STREAMLIT, lambda route: held.append(route) or None)
        tab.goto(f"{address}/{page}?run=demo", wait_until="commit")
        first = tab.locator("#first-chart .chart")
        first.locator(".panel canvas").first.wait_for()
        sync_api.expect(tab.locator("#first-chart .state")).to_contain_text("log")
        before = first.bounding_box()
        assert tab.locator(LIVE_CHART).count() == 0
        for route in held:
            route.continue_()
        tab.locator(LIVE_CHART).first.wait_for()
        sync_api.expect(first).to_have_count(0)
        tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        after = tab.locator("[data-testid^=stBidi]:has([data-drawn] .plots)").first.bounding_box()
        assert [before[name] for name in ("x", "y", "width")] == pytest.approx(
            [after[name] for name in ("x", "y", "width")], abs=3
        )

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_colours_are_those_of_the_page(self, tab, address, page, scheme):
        """The page does not flash when Streamlit has drawn it."""
        names = [f"--st-{name}-color" for name in ("background", "text", "border")]
        script = "(node, names) => names.map((name) => getComputedStyle(node).getPropertyValue(name).trim())"
        tab.emulate_media(color_scheme=scheme)
        held = []
        tab.route(STREAMLIT, lambda route: held.append(route) or None)
        tab.goto(f"{address}/{page}?run=demo", wait_until="commit")
        before = tab.locator("#first-chart .chart canvas").first.evaluate(script, names)
        for route in held:
            route.continue_()
        assert tab.locator(LIVE_CHART).first.evaluate(script, names) == before

    def test_step_in_the_history_removes_the_chart(self, tab, address, page):
        """The chart of another page would cover the page."""
        tab.goto(f"{address}/sql")
        tab.get_by_role("heading", level=1).wait_for()
        tab.route(STREAMLIT, lambda _: None)
        tab.goto(f"{address}/{page}?run=demo", wait_until="commit")
        tab.locator("#first-chart .panel canvas").first.wait_for()
        tab.evaluate("window.dispatchEvent(new PopStateEvent('popstate'))")
        sync_api.expect(tab.locator("#first-chart")).to_have_count(0)
