"""Internal views and figures of a run, recomputed from the lines of its log with `json`."""

from __future__ import annotations

import math

import pytest

from ockham.catalog import Catalog
from tests.helpers.figure_runs import RUN_IDS, counted_contexts, counted_events, make_figure_runs

GAUGES = ("complexity_cost", "drift_raw", "drift_sq", "grad_norm", "val_loss", "kl_to_anchor")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_figure_runs(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def catalog(runs):
    return Catalog(runs)


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_acting_decisions_are_counted_lines_without_shadow(runs, catalog, run_id):
    """The view has the decisions of rank 0 that no resume superseded and no shadow plugin made."""
    lines = counted_events(runs, run_id, "decision.made")
    rows = catalog.rows("select decision_id from acting_decisions where run_id = $run", {"run": run_id})
    assert {row["decision_id"] for row in rows} == {d["id"] for d in lines if not d["shadow"]}
    assert len(rows) < len(lines) if run_id == "shadow" else len(rows) == len(lines)


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_current_batches_are_the_micro_batches_of_the_lines(runs, catalog, run_id):
    """One row per micro-batch. Finite, contributed and ends_step follow from the line."""
    lines = counted_contexts(runs, run_id)
    sql = "select event_id, finite, contributed, ends_step from current_batches where run_id = $run"
    expected = {
        data["id"]: (
            math.isfinite(data["loss"]),
            math.isfinite(data["loss"]) and data["updated"],
            data["micro_step"] == data["given"].get("micro_steps", 1) - 1,
        )
        for data in lines
    }
    rows = [tuple(row.values()) for row in catalog.rows(sql, {"run": run_id})]
    assert {row[0]: row[1:] for row in rows} == expected
    assert len(rows) == len(expected)


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_current_steps_have_one_row_per_iteration(runs, catalog, run_id):
    """A step was taken if a micro-batch measured it. Its micro-batches add up."""
    expected = {}
    for data in counted_contexts(runs, run_id):
        updated = math.isfinite(data["loss"]) and data["updated"]
        batches, updates, stepped = expected.get(data["iter_num"], (0, 0, False))
        expected[data["iter_num"]] = (
            batches + 1,
            updates + updated,
            stepped or bool(data["applied"]["updated"]),
        )
    sql = (
        "select iter_num, batches, updated_batches, stepped from current_steps where run_id = $run"
        " and batches = updated_batches + skipped_batches"
    )
    rows = [tuple(row.values()) for row in catalog.rows(sql, {"run": run_id})]
    assert {row[0]: row[1:] for row in rows} == expected


@pytest.mark.parametrize("run_id", RUN_IDS)
@pytest.mark.parametrize("gauge", GAUGES)
def test_measured_gauges_have_a_value_only_where_a_line_measured_it(runs, catalog, run_id, gauge):
    """A value that is carried over into later rows is not in the view a second time."""
    lines = [data for hook in ("batch", "on_evaluate") for data in counted_contexts(runs, run_id, hook)]
    sql = f"select sequence, attempt, {gauge} as value from measured_gauges where run_id = $run"
    rows = catalog.rows(sql + f" and {gauge} is not null", {"run": run_id})
    expected = {
        (data["attempt"], data["sequence"]): data["measured"][gauge]
        for data in lines
        if data["measured"].get(gauge) is not None
    }
    assert {(row["attempt"], row["sequence"]): row["value"] for row in rows} == expected
