"""Panels of the Run and Control pages: values are those of the lines of the log."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from dashboard import run_panels
from dashboard.components.timeseries import Axis, message
from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("panels")
    make_run(runs, "shadow", policy="observe")
    return make_run(runs, "a", nan_at=50)


def read_lines(folder):
    lines = [line for path in folder.segments(1, 0) for line in path.read_bytes().splitlines()]
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def events(run):
    return read_lines(run.folder)


@pytest.fixture(scope="module")
def catalog(run):
    return Catalog(run.folder.runs)


def run_query(catalog, name, **parameters):
    limits = {"low": 0, "high": 119, **parameters}
    return catalog.sql(load_page_query(name).sql, {"run": "a", **limits})


def count_rows(events):
    """Return the number of decisions of each row of the plugin panel, from the lines of the log."""
    counts = {}
    for event in events:
        if event["type"] == "ockham.decision.made.v1":
            data = event["data"]
            suffix = " shadow" if data["shadow"] else ""
            key = f"{data['plugin']} {data['action']}{suffix}"
            counts[key] = counts.get(key, 0) + 1
    return counts


def find_line(panel, name):
    return next(line for line in panel.lines if line.name == name)


def used_rates(events):
    """Return iteration -> learning rate of the batches that were updated, from the lines of the log."""
    rates, changed = {}, {}
    for event in events:
        data = event["data"]
        for change in data.get("changes", ()):
            if change["field"] == "learning_rate":
                changed[data["iter_num"]] = float(change["after"])
        if data.get("hook") == "batch" and "applied" in data and data["applied"]["updated"]:
            rates[data["iter_num"]] = changed.get(data["iter_num"], 1e-3)
    return rates


def test_rate_panel_has_values_of_updated_batches_and_gaps_elsewhere(catalog, events):
    """A skipped batch used no learning rate, so its bin is a gap, not the scheduled rate."""
    line = find_line(run_panels.rate_panel(run_query(catalog, "run_bins")), "used by updates")
    expected = used_rates(events)
    assert 20 < len(expected) < 110
    assert len(set(expected.values())) > 3
    for x, value in zip(line.x, line.y, strict=True):
        assert value == (pytest.approx(expected[x]) if x in expected else None)


def test_lambda_panel_has_gaps_where_nothing_was_updated(catalog, events):
    """Lambda acts in an update only."""
    line = find_line(run_panels.lambda_panel(run_query(catalog, "run_bins")), "used by updates")
    expected = used_rates(events)
    assert [x for x, value in zip(line.x, line.y, strict=True) if value is not None] == sorted(expected)


def test_rate_panel_of_wide_bins_is_the_median_of_updated_batches(catalog, events):
    """With bins of several iterations, skipped batches do not pull the value to the schedule."""
    query = load_page_query("run_bins").sql.replace("/ 500.0", "/ 12.0")
    bins = catalog.sql(query, {"run": "a", "low": 0, "high": 119})
    line = find_line(run_panels.rate_panel(bins), "used by updates")
    expected = used_rates(events)
    assert len(line.x) == 12
    for x, value in zip(line.x, line.y, strict=True):
        rates = sorted(rate for iteration, rate in expected.items() if x <= iteration < x + 10)
        middle = len(rates) // 2
        median = None
        if rates:
            median = rates[middle] if len(rates) % 2 else (rates[middle - 1] + rates[middle]) / 2
        assert value == (None if median is None else pytest.approx(median))


def test_event_panel_has_one_mark_per_event_of_the_log(catalog, events):
    """Rows are kinds, and the counts are those of the log."""
    panel = run_panels.event_panel(run_query(catalog, "timeline_events"))
    counts = {row.key: sum(row.counts) for row in panel.rows}
    types = [event["type"] for event in events]
    assert counts["anchor moved"] == types.count("ockham.anchor.consolidated.v1")
    assert counts["accepted"] == types.count("ockham.checkpoint.saved.v1")
    assert counts["not finite"] == 1


def test_plugin_panel_counts_all_decisions_in_the_order_of_the_chain(catalog, events):
    """Each plugin and action is a row. A mark of full height has a decision at every iteration of its bin."""
    panel = run_panels.plugin_panel(run_query(catalog, "plugin_bins"))
    assert {row.key: sum(row.counts) for row in panel.rows} == count_rows(events)
    assert not any(row.hollow for row in panel.rows)
    assert "shadow" not in panel.unit
    assert all(row.full == row.width == 2 for row in panel.rows)
    plugins = [row.key.split()[0] for row in panel.rows]
    assert plugins == sorted(plugins, key=list(run_panels.PLUGIN_COLOURS).index)


def test_plugin_panel_draws_decisions_in_shadow_as_hollow_rows(catalog, run):
    """They changed nothing, so they are not in the rows of acting plugins."""
    panel = run_panels.plugin_panel(run_query(catalog, "plugin_bins", run="shadow"))
    expected = count_rows(read_lines(type(run.folder)(run.folder.runs, "shadow")))
    assert {row.key: sum(row.counts) for row in panel.rows} == expected
    assert "gate SKIP shadow" in expected
    assert all(row.hollow == row.key.endswith(" shadow") for row in panel.rows)
    assert "a hollow mark is in shadow and changed nothing" in panel.unit


def test_plugin_panel_shows_unknown_plugins_in_neutral_colour():
    """A plugin of another package has its own row."""
    columns = {"iter": [0], "width": [1], "plugin": ["Patience"], "action": ["DAMP"], "decisions": [1]}
    panel = run_panels.plugin_panel(pa.table({**columns, "shadow": [False]}))
    [row] = panel.rows
    assert (row.name, row.colour, row.hollow) == ("Patience: damp", run_panels.NEUTRAL, False)
    assert "shadow" not in panel.unit
    [row] = run_panels.plugin_panel(pa.table({**columns, "shadow": [True]})).rows
    assert row.name == "Patience: damp (in shadow)"


@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize("plugin", ["gate", "my plugin", "in shadow", "shadow"])
def test_decision_kind_is_parsed_from_its_key(plugin, shadow):
    """The key is in the URL. A plugin may have any name."""
    kind = run_panels.DecisionKind(plugin, "SKIP", shadow)
    assert run_panels.parse_kind(kind.key) == kind


def test_panels_without_data_are_left_out(catalog):
    """A range without events has no panel of events."""
    empty = run_query(catalog, "timeline_events", low=0, high=0)
    assert run_panels.event_panel(empty) is None
    assert run_panels.plugin_panel(run_query(catalog, "plugin_bins", low=900, high=901)) is None
    assert run_panels.overshoot_panel(run_query(catalog, "overshoot", low=900, high=901)) is None


def test_norm_panel_draws_one_line_if_highest_equals_median(catalog):
    """With one batch per bin both are the same."""
    assert len(run_panels.norm_panel(run_query(catalog, "run_bins")).lines) == 1


def test_messages_of_both_pages_are_json(catalog):
    """All panels of both pages can be sent."""
    bins = run_query(catalog, "run_bins")
    panels = [
        run_panels.loss_panel(bins),
        run_panels.event_panel(run_query(catalog, "timeline_events")),
        run_panels.plugin_panel(run_query(catalog, "plugin_bins")),
        run_panels.rate_panel(bins),
        run_panels.lambda_panel(bins),
        run_panels.drift_panel(bins),
        run_panels.norm_panel(bins),
        run_panels.overshoot_panel(run_query(catalog, "overshoot")),
    ]
    sent = message(panels, Axis(0, 119), description="d")
    assert len(json.loads(json.dumps(sent, allow_nan=False))["panels"]) == 8
