"""Runs page: filter, equal length, savings that count, and the report."""

from __future__ import annotations

import json
import logging

import pytest

from dashboard.run_groups import group_savings
from dashboard.runs_report import report_html
from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query
from tests.helpers.runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("streamlit").setLevel(logging.CRITICAL)


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path, "short", batches=40)
    make_run(tmp_path, "long", batches=90, policy="tight")
    return tmp_path


def evaluations(runs, run_id):
    """Return iteration and loss of all evaluations, from the lines of the log."""
    lines = [line for path in (runs / run_id).rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    events = [json.loads(line) for line in lines]
    return [
        (event["data"]["iter_num"], event["data"]["val_loss"])
        for event in events
        if event["type"] == "ockham.evaluation.recorded.v1"
    ]


def query(folder, name, **parameters):
    return Catalog(folder).sql(load_page_query(name).sql, parameters).to_pylist()


def equal(runs, baseline=""):
    names = ["short", "long"]
    rows = query(runs, "workbench_equal", runs=names, baseline=baseline, margin=0.01, basis="iterations")
    return {row["run_id"]: row for row in rows}


def test_runs_of_different_length_are_compared_at_equal_iterations(runs):
    """Losses after the end of the shorter run are left out."""
    measured = {name: evaluations(runs, name) for name in ("short", "long")}
    last = min(max(i for i, _ in points) for points in measured.values())
    rows = equal(runs)
    for name, points in measured.items():
        assert rows[name]["equal_length"] == last
        assert rows[name]["equal_loss"] == min(loss for i, loss in points if i <= last)
    assert rows["long"]["equal_loss"] > min(loss for _, loss in measured["long"])


def test_filter_returns_only_runs_that_match(runs):
    """Name, policy and state limit the rows. Empty lists do not."""
    every = {"text": "", "policies": [], "states": [], "datasets": []}
    assert {row["run_id"] for row in query(runs, "workbench", **every)} == {"short", "long"}
    assert [row["run_id"] for row in query(runs, "workbench", **{**every, "policies": ["tight"]})] == ["long"]
    assert [row["run_id"] for row in query(runs, "workbench", **{**every, "text": "SHO"})] == ["short"]
    assert query(runs, "workbench", **{**every, "states": ["FAILED"]}) == []


def test_savings_of_a_group_contain_only_runs_that_count():
    """The mean and its interval omit runs above the quality floor."""
    saved = [(0.2, 0.1, 0.3, "counts"), (0.4, 0.2, 0.6, "counts"), (0.9, 0.8, 1.0, "does not count: x")]
    rows = [
        {"policy": "tight", "savings": d, "compute_saved": a, "compute_saved_low": b, "compute_saved_high": c}
        for a, b, c, d in saved
    ]
    [row] = group_savings(rows, "policy").to_pylist()
    assert (row["runs"], row["runs_that_count"]) == (3, 2)
    half = (0.1**2 + 0.2**2) ** 0.5 / 2
    assert row["compute_saved"] == pytest.approx(0.3)
    assert row["compute_saved_low"] == pytest.approx(0.3 - half)
    assert row["compute_saved_high"] == pytest.approx(0.3 + half)
    [row] = group_savings(rows[2:], "policy").to_pylist()
    assert row["compute_saved"] is None


def test_report_escapes_text_of_runs():
    """Names of data are not read as markup."""
    table = group_savings([{"data": "<script>", "savings": "not known"}], "data")
    page = report_html(["a < b"], [("Groups", table)]).decode()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "a &lt; b" in page


def test_page_lists_runs_with_links(open_page, runs):
    """The name of each run is a link to its page."""
    test = open_page(runs, "runs")
    assert not test.exception
    assert [code.value for code in test.code if test.error] == []
    assert set(test.dataframe[0].value["run_id"]) == {"run?run=short", "run?run=long"}


def test_chosen_runs_are_compared_at_equal_length(open_page, runs):
    """The address chooses the runs. The answer names the length, and savings need a quality floor."""
    test = open_page(runs, "runs", chosen="short,long")
    assert not test.exception
    assert [code.value for code in test.code if test.error] == []
    last = min(max(i for i, _ in evaluations(runs, name)) for name in ("short", "long"))
    texts = [text.value for text in test.text]
    assert any(text.startswith(f"After {last + 1} iterations each, ") for text in texts)
    assert any("different lengths" in text for text in texts)
    # The losses of both runs follow the same formula, so neither is better.
    assert any("2 runs have the same lowest validation loss" in text for text in texts)
    compared = next(frame.value for frame in test.dataframe if "savings" in frame.value)
    assert set(compared["savings"]) == {"no quality floor"}
    assert compared["compute_saved"].isna().all()
