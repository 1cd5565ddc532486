"""The view that is shown before Streamlit: the same as that of the page, and only for this machine."""

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

from dashboard import first_element
from dashboard.chart_kinds import CHART_KINDS
from dashboard.first_element import read_view
from ockham.record.run_folder import RunFolder
from tests.helpers.chromium import BROWSER_MARKS, open_tab
from tests.helpers.damaged_runs import append_invalid_line
from tests.helpers.dashboard_server import serve_dashboard
from tests.helpers.runs import make_run
from tests.helpers.tampering import change_one_digit

pytestmark = pytest.mark.filterwarnings("ignore")
HOST = "127.0.0.1:8501"
STREAMLIT = "**/static/js/index.*.js"
SHOWN_COLOURS = """node => ["background", "text", "border"].map(
  (name) => getComputedStyle(node).getPropertyValue(`--st-${name}-color`).trim()
)"""
LIVE_CHART = "[data-testid^=stBidi] [data-drawn] .panel canvas"


@pytest.fixture
def runs(monkeypatch, tmp_path):
    monkeypatch.setenv("OCKHAM_RUNS", str(tmp_path))
    monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
    # A slow machine must not change the result.
    monkeypatch.setattr(first_element, "LIMIT_SECONDS", 60)
    return tmp_path


def read_element(page, query="", host=HOST):
    """Return the data of the element, or None if there is no element."""
    element = asyncio.run(first_element.first_element(page, query, host)).decode()
    match = re.fullmatch(r'<script type="application/json" id="first-view-data">([^<]*)</script>\n', element)
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
    assert data["path"] == "Runs / first"
    assert data["heading"] == test.title[0].value
    assert not data["isBroken"]


def test_first_table_has_the_newest_rows_of_the_table_of_the_page(open_page, runs, verify_all):
    """No name or figure changes when the table of the page replaces it."""
    for number in range(12):
        make_run(runs, f"run-{number:02d}", batches=12 + number, policy="tight" if number % 2 else "balanced")
    verify_all()
    test = open_page(runs, "runs")
    shown = test.dataframe[0].value
    labels = json.loads(test.dataframe[0].proto.columns)
    data = read_element("")
    assert data["heading"] == test.title[0].value
    assert data["columns"] == [labels[name]["label"] for name in shown.columns]
    assert len(data["rows"]) == 10
    for (_, row), cells in zip(shown.iterrows(), data["rows"], strict=False):
        texts = dict(zip(shown.columns, cells, strict=True))
        assert row["run_id"] == f"run?run={texts['run_id']}"
        assert texts["log"] == row["log"]
        assert texts["policy"] == row["policy"]
        assert int(texts["batches"]) == row["batches"]
        assert float(texts["update_rate"].rstrip("%")) == pytest.approx(100 * row["update_rate"])
        assert float(texts["val_loss"]) == pytest.approx(row["val_loss"], rel=1e-4)
        assert texts["created"] == f"{row['created']:%Y-%m-%d %H:%M:%S}"
    assert data["state"] == "12 of 12 logs verified"


def test_first_table_of_a_folder_with_a_changed_log_begins_with_a_warning(runs, verify_all):
    """No row of a broken log is shown without a warning. An address with a filter has another table."""
    for name in ("changed", "intact"):
        make_run(runs, name, batches=40)
    change_one_digit(RunFolder(runs, "changed"))
    assert read_element("")["state"] == "2 not verified yet"
    verify_all()
    data = read_element("")
    assert data["isBroken"]
    assert data["state"] == "Do not rely on figures of these runs: 1 of 2 logs verified; 1 broken"
    assert read_element("", "policy=tight") is None


def test_first_chart_of_a_changed_log_names_the_finding(runs, verify_all):
    """No curve of a broken log is shown without a warning."""
    make_run(runs, "first", batches=40)
    change_one_digit(RunFolder(runs, "first"))
    verify_all()
    data = read_view("run", {})
    assert data["isBroken"]
    assert "changed" in data["state"] or "differ" in data["state"]


@pytest.mark.parametrize("page", ["gate", "runs", "__proto__", "run/"])
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
        assert read_element("run", host=known)["path"] == "Runs / first"


def test_slow_query_leaves_the_chart_to_streamlit(runs, monkeypatch):
    """The page must not stay white until a large folder is read."""
    make_run(runs, "first", batches=12)
    monkeypatch.setattr(first_element, "LIMIT_SECONDS", 0)
    assert read_element("run") is None


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("<>/!-scriptSCRIPT&\"'\\\u2028 ")))
def test_no_text_ends_the_element(text):
    """A plugin can have any name."""
    element = first_element.make_element({"log": f"</script>{text}"}).decode()
    body = element.removeprefix(first_element.ELEMENT.partition("%s")[0])
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
        return b'id="first-view-data"' in gzip.decompress(response.read())


@pytest.fixture(scope="module")
def address(folder):
    pages = ["", *(f"{page}?run=demo" for page in CHART_KINDS)]
    with serve_dashboard(folder / "runs", folder) as address:
        # Just after the start, queries can take longer than the limit.
        deadline = time.monotonic() + 60
        while not all(has_element(f"{address}/{page}") for page in pages):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield address


@pytest.fixture
def tab(chromium):
    with open_tab(chromium, 60_000) as tab:
        yield tab


@pytest.mark.parametrize("page", CHART_KINDS)
class TestInBrowser:
    pytestmark = BROWSER_MARKS

    def test_chart_is_drawn_without_streamlit_and_at_the_place_of_the_later_one(self, tab, address, page):
        """Nothing moves when Streamlit has drawn the page, and one chart is left."""
        held = []
        tab.emulate_media(color_scheme="dark" if page == "control" else "light")
        tab.route(STREAMLIT, lambda route: held.append(route) or None)
        tab.goto(f"{address}/{page}?run=demo", wait_until="commit")
        first = tab.locator("#first-view .content")
        colours = first.locator(".panel canvas").first.evaluate(SHOWN_COLOURS)
        sync_api.expect(tab.locator("#first-view .state")).to_contain_text("log")
        before = first.bounding_box()
        assert tab.locator(LIVE_CHART).count() == 0
        for route in held:
            route.continue_()
        # The page does not flash.
        assert tab.locator(LIVE_CHART).first.evaluate(SHOWN_COLOURS) == colours
        sync_api.expect(first).to_have_count(0)
        tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        after = tab.locator("[data-testid^=stBidi]:has([data-drawn] .plots)").first.bounding_box()
        assert [before[name] for name in ("x", "y", "width")] == pytest.approx(
            [after[name] for name in ("x", "y", "width")], abs=3
        )


class TestPageInBrowser:
    pytestmark = BROWSER_MARKS

    def test_first_table_is_at_the_place_of_the_later_one(self, tab, address):
        """Nothing moves when Streamlit has drawn the table."""
        held = []
        tab.route(STREAMLIT, lambda route: held.append(route) or None)
        tab.goto(address, wait_until="commit")
        first = tab.locator("#first-view .content")
        first.get_by_text("demo").wait_for()
        before = first.bounding_box()
        for route in held:
            route.continue_()
        table = tab.locator("[data-testid=stDataFrame]").first
        table.locator("canvas").first.wait_for()
        sync_api.expect(first).to_have_count(0)
        tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        after = table.bounding_box()
        assert [before[name] for name in ("x", "y", "width")] == pytest.approx(
            [after[name] for name in ("x", "y", "width")], abs=3
        )

    def test_step_in_the_history_removes_the_chart(self, tab, address):
        """The chart of another page would cover the page."""
        tab.goto(f"{address}/sql")
        tab.get_by_role("heading", level=1).wait_for()
        tab.route(STREAMLIT, lambda _: None)
        tab.goto(f"{address}/run?run=demo", wait_until="commit")
        tab.locator("#first-view .panel canvas").first.wait_for()
        tab.evaluate("window.dispatchEvent(new PopStateEvent('popstate'))")
        sync_api.expect(tab.locator("#first-view")).to_have_count(0)
