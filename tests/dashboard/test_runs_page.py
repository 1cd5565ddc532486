"""Runs page: filter, choice, equal length, savings that count, groups, and downloads."""

from __future__ import annotations

import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dashboard.layout import csv_bytes, parquet_bytes
from dashboard.run_choice import format_choice, parse_choice
from dashboard.run_downloads import DownloadInputs, joined_result, make_report
from dashboard.run_figures import shown_rows
from dashboard.run_filter import add_labels, build_filter
from dashboard.run_groups import group_rows, group_savings, preset_revisions, run_groups
from dashboard.run_overlay import SERIES, build_panels, group_lines, run_lines
from dashboard.run_savings import SavingsInputs, default_baseline, run_table
from dashboard.runs_report import ReportChart, report_html
from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query
from ockham.policy import load_policy
from ockham.record.run_folder import RunFolder
from ockham.record.run_labels import RunLabels, set_tags
from ockham.study.compare import compare
from ockham.study.roi import Prices, roi
from ockham.study.run_data import load_run_data
from tests.helpers.runs import make_run
from tests.helpers.timed_runs import write_run

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("streamlit").setLevel(logging.CRITICAL)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workbench")
    write_run(folder, "base", "observe")
    write_run(folder, "short", "balanced", batches=40)
    write_run(folder, "good", "tight", batches=90)
    write_run(folder, "bad", "tight", floor=2.5)
    write_run(folder, "other", "tight", data={"name": "other", "sha256": "1" * 64})
    set_tags(RunFolder(folder, "good"), ["sweep", "keep"], "ada", "first", remove=False)
    return folder


def query(folder, name, **parameters):
    return Catalog(folder).sql(load_page_query(name).sql, parameters)


def evaluations(folder, run_id):
    """Return iteration and loss of all evaluations, from the lines of the log."""
    lines = [line for path in (folder / run_id).rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    events = [json.loads(line) for line in lines]
    return [
        (event["data"]["iter_num"], event["data"]["val_loss"])
        for event in events
        if event["type"] == "ockham.evaluation.recorded.v1"
    ]


def labelled(folder):
    return add_labels(query(folder, "workbench"), {"good": RunLabels("best", frozenset({"sweep", "keep"}))})


@pytest.mark.parametrize("floor", [None, 2.4, 0.1])
@pytest.mark.parametrize("run_id", ["short", "good", "bad"])
def test_savings_equal_the_figures_of_roi(runs, run_id, floor):
    """Floor, first iteration at it, verdict and saved compute are those of `ockham roi --against`."""
    inputs = SavingsInputs("base", floor, 2.5)
    [row] = query(runs, "workbench_savings", **inputs.parameters([run_id])).to_pylist()
    rows = roi(load_run_data(runs, run_id), Prices(hour=2.5), floor, load_run_data(runs, "base"))
    figures = {each.figure: each.value for each in rows}
    assert row["verdict"] == figures["verdict"]
    assert row["reached_at"] == figures["reached_at"]
    assert row["quality_floor"] == pytest.approx(figures["quality_floor"])
    assert row["compute_saved_to_floor"] == pytest.approx(figures.get("compute_saved_to_floor"))
    if row["verdict"] in ("SAVED", "FLOOR_REACHED"):
        for name in ("compute_saved", "device_hours_saved", "compute_money_saved"):
            assert row[name] == pytest.approx(figures[name])


def test_savings_that_do_not_count_are_not_shown_as_savings(runs):
    """A run above the floor and a run on other data have no figure that reads as a saving."""
    names = ["good", "bad", "other"]
    table = query(runs, "workbench_savings", **SavingsInputs("base", None, 2.5).parameters(names))
    rows = {row["run_id"]: row for row in table.to_pylist()}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "good": "SAVED",
        "bad": "NOTHING_SAVED",
        "other": "OTHER_DATA",
    }
    saved = [name for name in table.column_names if "saved" in name]
    assert all(rows["good"][name] is not None for name in saved)
    assert all(rows[run_id][name] is None for run_id in ("bad", "other") for name in saved)
    words = run_table(table).to_pylist()
    assert words[0]["savings"] == "does not count: the floor was not reached"


def test_measured_saving_above_its_bound_is_timing_noise(tmp_path):
    """With a baseline on a slower machine, the times show more than skipping can save."""
    write_run(tmp_path, "base", "observe", slowdown=5.0)
    write_run(tmp_path, "good", "tight", batches=90)
    table = query(tmp_path, "workbench_savings", **SavingsInputs("base").parameters(["good"]))
    [row] = table.to_pylist()
    assert row["time_saved"] > row["compute_saved_high"]
    assert row["timing_noise"]
    assert run_table(table)["time_note"].to_pylist() == ["timing noise"]


def test_runs_of_different_length_are_compared_at_equal_iterations(runs):
    """Losses after the end of the shorter run are left out."""
    names = ["short", "good"]
    rows = query(runs, "workbench_equal", runs=names, basis="iterations").to_pylist()
    found = {row["run_id"]: row for row in rows}
    measured = {name: evaluations(runs, name) for name in names}
    last = max(at for at, _ in measured["short"])
    for name, points in measured.items():
        assert found[name]["equal_length"] == last + 1
        assert found[name]["shortest_run"] == "short"
        assert found[name]["equal_loss"] == min(loss for at, loss in points if at <= last)
    assert found["good"]["equal_loss"] > min(loss for _, loss in measured["good"])


def test_runs_with_other_batch_sizes_are_compared_at_equal_tokens(tmp_path):
    """With half of the tokens per batch, a run of 80 batches has the tokens of 40."""
    write_run(tmp_path, "large", "observe", batches=60)
    write_run(tmp_path, "small", "observe", batches=80, tokens=50)
    rows = query(tmp_path, "workbench_equal", runs=["large", "small"], basis="tokens").to_pylist()
    found = {row["run_id"]: row for row in rows}
    assert {row["equal_length"] for row in rows} == {80 * 50}
    assert {row["shortest_run"] for row in rows} == {"small"}
    assert (found["large"]["iterations"], found["small"]["iterations"]) == (40, 80)
    assert found["large"]["equal_loss"] == min(loss for at, loss in evaluations(tmp_path, "large") if at < 40)


def test_compute_of_two_runs_is_that_of_ockham_compare(runs):
    """Both count forward passes at the mean times of the two runs together."""
    names = ["base", "bad"]
    rows = query(runs, "workbench_equal", runs=names, basis="iterations").to_pylist()
    found = {row["run_id"]: row["compute"] for row in rows}
    table, _ = compare(*(load_run_data(runs, name) for name in names))
    [row] = [row for row in table if row.name == "compute_forwards"]
    assert found == {"base": pytest.approx(row.a), "bad": pytest.approx(row.b)}


def test_filter_is_a_condition_with_bound_values(runs):
    """Text of the user is not a part of the SQL, and each control limits the rows."""
    table = labelled(runs)

    def names(**options):
        flags = {key: options.pop(key) for key in ("only_attention", "with_archived") if key in options}
        return set(build_filter(options, **flags).apply(table)["run_id"].to_pylist())

    everything = {"base", "short", "good", "bad", "other"}
    assert names() == everything
    assert names(policies=["tight"], datasets=["made"]) == {"good", "bad"}
    assert names(words=["SHO", "bas"]) == {"short", "base"}
    assert names(words=["best"]) == {"good"}
    assert names(tags=["sweep", "none"]) == {"good"}
    assert names(states=["FAILED"]) == set()
    assert names(only_attention=True) == {name for name in everything if needs_attention(table, name)}
    hostile = "x' or 1=1 --"
    assert names(words=[hostile]) == set()
    assert hostile not in build_filter({"words": [hostile], "tags": [hostile]}).condition


def needs_attention(table, run_id):
    return any(row["attention"] for row in table.to_pylist() if row["run_id"] == run_id)


def test_archived_runs_are_left_out_unless_requested(runs):
    """`ockham archive` hides a run from lists."""
    table = add_labels(query(runs, "workbench"), {"bad": RunLabels(archived=True)})
    assert "bad" not in build_filter({}).apply(table)["run_id"].to_pylist()
    assert "bad" in build_filter({}, with_archived=True).apply(table)["run_id"].to_pylist()


def test_choice_in_the_address_is_complete_and_short_for_all():
    """Any number of runs can be chosen, and only runs of the table are."""
    names = [f"run-{i}" for i in range(300)]
    assert format_choice(names, names) == "all"
    assert parse_choice("all", names) == names
    assert parse_choice(format_choice(names[:40], names), names) == names[:40]
    assert parse_choice("run-7,missing", names) == ["run-7"]
    assert parse_choice("", names) == []


def saving(run_id, verdict, saved, **values):
    row = {"run_id": run_id, "policy": "tight", "policy_revision": "x", "data": "made", "verdict": verdict}
    sums = {"device_hours_saved": None, "compute_money_saved": None}
    return {**row, **sums, "compute_saved_to_floor": saved, "timing_noise": False, **values}


def test_mean_of_a_group_has_the_interval_of_student(runs):
    """Runs without a saving are counted and left out of the mean, and so is the baseline."""
    rows = [
        saving("a", "SAVED", 0.2, device_hours_saved=1.0),
        saving("b", "SAVED", 0.4, device_hours_saved=2.0),
        saving("c", "LOST", -0.3, timing_noise=True),
        saving("d", "NOTHING_SAVED", None),
        saving("e", "BASELINE", None),
    ]
    [row] = group_savings(group_rows(rows, "policy", {}), "policy").to_pylist()
    assert (row["runs"], row["runs_that_count"], row["timing_noise"]) == (4, 3, 1)
    assert row["compute_saved_to_floor"] == pytest.approx(0.1)
    # Standard deviation of 0.2, 0.4 and -0.3, and t of two degrees of freedom.
    half = 4.302653 * ((0.01 + 0.09 + 0.16) / 2) ** 0.5 / 3**0.5
    assert row["compute_saved_to_floor_low"] == pytest.approx(0.1 - half, rel=1e-5)
    assert row["compute_saved_to_floor_high"] == pytest.approx(0.1 + half, rel=1e-5)
    assert row["device_hours_saved"] == 3.0
    [single] = group_savings(group_rows(rows[:1], "policy", {}), "policy").to_pylist()
    assert single["compute_saved_to_floor_low"] is None


def test_groups_are_policy_preset_data_and_tags():
    """A changed preset is not the preset, and a run with two tags is in both groups."""
    row = saving("a", "SAVED", 0.1, policy_revision=load_policy("tight").revision)
    assert set(preset_revisions().values()) >= {"tight", "balanced", "observe"}
    assert run_groups(row, "preset", {}) == ["tight"]
    assert run_groups({**row, "policy_revision": "sha256:0"}, "preset", {}) == ["own settings"]
    assert run_groups(row, "data", {}) == ["made"]
    assert run_groups({**row, "data": None}, "data", {}) == ["none"]
    assert run_groups(row, "tag", {"a": ["x", "y"]}) == ["x", "y"]
    assert run_groups(row, "tag", {}) == ["none"]


def test_default_baseline_updates_on_every_batch_of_the_same_data(runs):
    """A run of other data, or one that skips, is not the baseline."""
    table = query(runs, "workbench")
    assert default_baseline(table, ["good", "bad"]) == "base"
    assert default_baseline(table, ["other"]) is None


@pytest.mark.parametrize("position", ["iter", "tokens", "seconds", "compute"])
def test_every_series_is_drawn_on_every_axis(runs, position):
    """The validation loss is also drawn against seconds and compute."""
    table = query(runs, "workbench_curves", runs=["short", "good"])
    members = {"short": ["short"], "good": ["good"]}
    panels = build_panels(table, members, list(SERIES), position, run_lines)
    assert [line.name for panel in panels for line in panel.lines] == ["short", "good"] * len(SERIES)
    assert all(list(line.x) == sorted(line.x) for panel in panels for line in panel.lines)
    losses = {line.name: list(line.y) for line in panels[0].lines}
    assert losses["good"] == [loss for _, loss in evaluations(runs, "good")]


def test_mean_of_groups_is_drawn_with_its_interval():
    """Values at the same place are averaged. A single run has no interval."""
    points = {"a": ([0, 1], [1.0, 2.0]), "b": ([0, 1], [3.0, None])}
    [line] = group_lines(points, {"tight": ["a", "b"]})
    assert line.name == "tight (n = 2)"
    assert (line.x, line.y) == ([0, 1], [2.0, 2.0])
    # The standard error of 1 and 3 is 1.
    assert line.high[0] == pytest.approx(2 + 12.7062, rel=1e-5)
    assert line.low[1] is None


def download_inputs(folder):
    table = labelled(folder)
    tags = dict(zip(table["run_id"].to_pylist(), table["tags"].to_pylist(), strict=True))
    return DownloadInputs(table, "not archived", "policy", tags, SavingsInputs("base"), "iterations")


@pytest.fixture
def downloads(runs, monkeypatch, tmp_path):
    monkeypatch.setenv("OCKHAM_RUNS", str(runs))
    monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
    return download_inputs(runs)


def test_downloads_contain_the_chosen_runs(downloads, tmp_path):
    """CSV and Parquet have one row per run, with the comparison and what counts."""
    result = joined_result(downloads)
    rows = {row["run_id"]: row for row in result.table.to_pylist()}
    assert set(rows) == {"base", "short", "good", "bad", "other"}
    assert rows["good"]["savings"] == "counts"
    assert rows["good"]["tags"] == "keep sweep"
    assert rows["bad"]["compute_saved"] is None
    assert csv_bytes(result).decode().count("\n") == len(rows) + 1
    path = tmp_path / "runs.parquet"
    path.write_bytes(parquet_bytes(result))
    assert pq.read_table(path).num_rows == len(rows)


def test_report_has_answers_charts_and_tables_in_one_file(downloads):
    """The file has no script and no link to another host."""
    page = make_report(downloads).decode()
    assert "Quality floor: loss" in page
    assert "0 of 5 logs are verified" in page
    assert "After 40 iterations each" in page
    assert page.count("<svg") == 2
    assert page.count("<polyline") == 5
    assert "does not count: other or unknown data" in page
    assert "<script" not in page
    assert "http" not in page


def test_report_escapes_text_of_runs():
    """Names of data and runs are not read as markup."""
    table = pa.table({"data": ["<script>"]})
    chart = ReportChart("a < b", "<x>", "<y>", {"<i>": ([0.0, 1.0], [1.0, 2.0])})
    page = report_html("<t>", ["a < b"], [chart], [("<h>", table)]).decode()
    assert "&lt;script&gt;" in page
    assert not [word for word in ("<script>", "<x>", "<y>", "<i>", "<t>", "<h>") if word in page]


def test_page_lists_runs_with_links(open_page, runs):
    """The name of each run is a link. Savings are not listed, because nothing is compared."""
    test = open_page(runs, "runs")
    assert not test.exception
    assert not test.error
    shown = test.dataframe[0].value
    assert set(shown["run_id"]) == {f"run?run={name}" for name in ("base", "short", "good", "bad", "other")}
    assert not [name for name in shown.columns if "saved" in name]


def test_address_restores_filter_choice_and_view(open_page, runs):
    """Filter, chosen runs, view, baseline and price are in the address."""
    test = open_page(runs, "runs", policy="tight", chosen="all", view="Savings", baseline="base", price="2.5")
    assert not test.exception
    assert not test.error
    texts = [text.value for text in test.text]
    assert any("3 match the filter" in text for text in texts)
    [answer] = [text for text in texts if text.startswith("Quality floor")]
    assert "best of base + 0.01" in answer
    assert "tight" in answer
    assert "1 of 3 runs reach it" in answer
    groups = next(frame.value for frame in test.dataframe if "runs_that_count" in frame.value)
    assert groups["compute_money_saved"].iloc[0] > 0


def test_equal_length_is_the_default_and_named(open_page, runs):
    """The sentence contains the length and the shortest run."""
    test = open_page(runs, "runs", chosen="short,good,base", view="Same length")
    assert not test.exception
    texts = [text.value for text in test.text]
    assert any(text.startswith("After 40 iterations each, ") for text in texts)
    assert any("short is the shortest run. Later evaluations" in text for text in texts)


def test_more_runs_than_lines_are_not_cut_silently(open_page, runs, monkeypatch):
    """The page names the limit of the chart."""
    monkeypatch.setattr("dashboard.run_overlay.MAX_LINES", 2)
    test = open_page(runs, "runs", chosen="short,good,base")
    assert any("first 2 of 3 chosen runs" in caption.value for caption in test.caption)


@pytest.mark.parametrize("view", ["Curves", "Bands", "Two runs", "One run"])
def test_every_view_is_shown_without_error(open_page, runs, view):
    """Two chosen runs have all views."""
    test = open_page(runs, "runs", chosen="short,good", view=view, lines="mean of groups")
    assert not test.exception
    assert not test.error


def test_two_runs_draft_a_decision_record(open_page, runs):
    """The draft names both runs, pins their logs and contains measured values."""
    test = open_page(runs, "runs", chosen="short,base", view="Two runs")
    test.button(key="draft").click()
    test.run()
    draft = next(code.value for code in test.code if code.value.startswith("---"))
    assert 'run: "base"' in draft
    assert 'run: "short"' in draft
    assert "measured:" in draft


def test_figures_of_a_run_below_the_floor_do_not_count(open_page, runs):
    """The answer begins with the quality, and each saving is marked."""
    test = open_page(runs, "runs", chosen="bad", view="One run", baseline="base", price="2")
    [answer] = [text.value for text in test.text if text.value.startswith("Good enough?")]
    assert answer.startswith("Good enough? NO: the floor was never reached")
    assert "saved" not in answer.split("skipped")[1]
    assert test.code[-1].value == "ockham roi bad --against base --price-per-hour 2.0"
    rows = [
        {"figure": "compute_saved", "value": 0.4, "derivation": "x"},
        {"figure": "verdict", "value": "NOTHING_SAVED", "derivation": "y"},
    ]
    assert shown_rows(rows)[0]["derivation"].startswith("DOES NOT COUNT")


def test_runs_without_data_digest_do_not_claim_the_same_data(open_page, tmp_path):
    """Runs without a data digest may have different data."""
    for name in ("a", "b"):
        make_run(tmp_path, name, batches=12, data={"name": "made"})
    test = open_page(tmp_path, "runs", chosen="a,b", view="Same length")
    assert any("A run has no data digest" in text.value for text in test.text)


def test_answer_counts_logs_that_are_not_verified(open_page, tmp_path):
    """One log and several logs have their own words."""
    make_run(tmp_path, "first", batches=12)
    assert open_page(tmp_path, "runs").text[0].value.endswith("; 1 log is not verified yet.")
    make_run(tmp_path, "second", batches=12)
    assert open_page(tmp_path, "runs").text[0].value.endswith("; 2 logs are not verified yet.")
