"""Charts: correct encodings and data, and no fact shown only by colour."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dashboard import charts, run_equal, run_savings, timeline_charts
from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query, load_question
from ockham.run import Run
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("charts")
    make_run(folder, "a", nan_at=50)
    return Catalog(folder)


def run_query(catalog, name, **parameters):
    return catalog.sql(load_page_query(name).sql, {"run": "a", **parameters})


def test_all_charts_create_valid_specifications(catalog):
    """Every chart creates a valid specification from the table of its query."""
    bands = catalog.sql(load_question("bands").sql)
    busiest = run_query(catalog, "knob_most_changed", field="learning_rate")["iter"][0].as_py()
    equal = catalog.sql(load_page_query("workbench_equal").sql, {"runs": ["a"], "basis": "iterations"})
    costs = equal.append_column("group", pa.array(["balanced"]))
    shares = {name: [0.1] for name in run_savings.SHARES}
    savings = pa.table({"policy": ["balanced"], "runs": [1], "runs_that_count": [1], **shares})
    all_charts = [
        timeline_charts.rate_band(run_query(catalog, "gate_bins"), 0.5, 0.7),
        timeline_charts.rate_band(run_query(catalog, "gate_bins"), None, None),
        charts.rate_vs_band(bands, "update"),
        charts.rate_vs_band(bands, "accept"),
        charts.margin_histogram(run_query(catalog, "margin_histogram")),
        charts.funnel(run_query(catalog, "memory_funnel")),
        charts.oq_trend(run_query(catalog, "memory_points")),
        charts.pareto(run_query(catalog, "memory_points")),
        charts.threshold_curve(run_query(catalog, "run_thresholds")),
        charts.waterfall(run_query(catalog, "knob_changes_of_batch", iter=busiest, field="learning_rate")),
        charts.bullet(1.5, 2.0),
        charts.bullet(2.0, 2.0),
        run_equal.cost_chart(costs),
        run_savings.group_chart(savings, "policy"),
    ]
    for chart in all_charts:
        assert chart.to_dict()["$schema"]


def test_run_bins_keep_highest_loss(catalog):
    """There are at most 501 bins, and their highest loss is the highest loss of the log."""
    bins = run_query(catalog, "run_bins", low=0, high=119)
    top = catalog.rows(
        "select max(task_loss) filter (isfinite(task_loss)) as top, count(*) as n "
        "from contexts where hook = 'batch'"
    )[0]
    assert bins.num_rows <= 501
    assert sum(bins.column("batches").to_pylist()) == top["n"]
    assert sum(bins.column("nonfinite").to_pylist()) == 1
    finite = [v for v in bins.column("loss_high").to_pylist() if v is not None and v == v]
    assert max(finite) == pytest.approx(top["top"])


def test_gate_bins_interval_contains_rate(catalog):
    """The Wilson interval contains the rate and is inside 0..1."""
    for row in run_query(catalog, "gate_bins").to_pylist():
        assert -1e-9 <= row["low"] <= row["rate"] <= row["high"] <= 1 + 1e-9


def test_outcome_chart_encodes_shape_and_colour():
    """Outcomes have a shape in addition to a colour."""
    table = pa.table(
        {
            "iter": [1],
            "gain": [0.1],
            "outcome": ["accepted"],
            "accepted": [True],
            "decision_id": ["x"],
            "loss": [1.0],
            "drift": [0.1],
            "oq_improvement": [0.1],
            "oq_limit": [0.1],
        }
    )
    points = charts.oq_trend(table).to_dict()["layer"][1]["encoding"]
    assert points["shape"]["field"] == points["color"]["field"] == "outcome"


def test_timeline_events_with_many_events_keep_total_count(catalog):
    """With more than 40 events of a kind, each row contains the number of events that it represents."""
    rows = run_query(catalog, "timeline_events", low=0, high=119).to_pylist()
    accepted = [row for row in rows if row["what"] == "accepted"]
    total = catalog.rows("select count(*) as n from checkpoints where kind = 'accepted'")[0]["n"]
    assert sum(row["times"] for row in accepted) == total
    assert sum(row["what"] == "not finite" for row in rows) == 1


def test_margin_histogram_includes_all_batches(catalog):
    """The outermost bars include all batches beyond them."""
    total = catalog.rows("select count(*) as n from gate_decisions where isfinite(margin)")[0]["n"]
    assert sum(run_query(catalog, "margin_histogram").column("batches").to_pylist()) == total


def test_knob_changes_start_and_end_with_context_values(catalog):
    """The first row is the value before the chain, the last row the value of the context."""
    query = "select iter_num from hyperparameter_changes where field = 'learning_rate' limit 1"
    iteration = catalog.rows(query)[0]["iter_num"]
    rows = run_query(catalog, "knob_changes_of_batch", iter=iteration, field="learning_rate").to_pylist()
    context = catalog.rows(
        "select base_learning_rate, learning_rate from contexts "
        f"where hook = 'batch' and iter_num = {iteration}"
    )[0]
    assert rows[0]["before"] == context["base_learning_rate"]
    assert rows[-1]["after"] == context["learning_rate"]


def test_waterfall_label_is_next_to_bar():
    """The bar of a lowered knob ends at the left, where a label would cover the bar."""
    table = pa.table(
        {"step": [0, 1], "who": ["before the chain", "a"], "before": [None, 2.0], "after": [2.0, 1.0]}
    )
    text = charts.waterfall(table).to_dict()["layer"][2]
    assert text["mark"]["type"] == "text"
    assert text["encoding"]["x"]["field"] == "label_x"


def test_oq_trend_axis_has_distinct_ticks_for_small_gains(catalog):
    """With whole percents all ticks of a gain of 0.2 % would be `+0%`."""
    drawn = charts.oq_trend(run_query(catalog, "memory_points")).to_dict()
    assert drawn["layer"][0]["encoding"]["y"]["axis"]["format"] == "+.2~%"


def test_near_misses_are_shares_of_the_limit(catalog):
    """The required quotient of the efficiency gate is 1 + oq_limit times the baseline."""
    misses = run_query(catalog, "run_near_misses").to_pylist()
    efficiency_misses = [row for row in misses if row["failed_gate"] == "efficiency"]
    assert efficiency_misses
    for row in efficiency_misses:
        quotient, required = 1 + row["oq_improvement"], 1 + row["oq_limit"]
        assert row["missing"] == pytest.approx(1 - quotient / required)


def test_pareto_frontier_contains_only_undominated_candidates(catalog):
    """No other candidate is at least as good as a frontier candidate in both loss and drift."""
    points = run_query(catalog, "memory_points").to_pylist()
    assert any(p["frontier"] for p in points)
    for point in points:
        dominated = any(
            other["loss"] <= point["loss"]
            and other["drift"] <= point["drift"]
            and (other["loss"], other["drift"]) != (point["loss"], point["drift"])
            for other in points
        )
        assert not (point["frontier"] and dominated)


def test_page_queries_with_two_ranks_count_one_rank(tmp_path):
    """All ranks log the same decisions, and the pages count the batches of one rank."""
    for rank in (0, 1):
        with Run(
            runs=tmp_path, run_id="two", policy="balanced", rank=rank, world_size=2, facts={"vocab_size": 256}
        ) as run:
            for i in range(60):
                ctx = run.start_batch(i, 3.0 + 0.1 * (i % 7), learning_rate=1e-3)
                run.end_batch(ctx, grad_norm=2.0, complexity_cost=0.001)
                if i % 10 == 9:
                    run.evaluate(ctx, 3.0 - i / 100, tokens=10)
    catalog = Catalog(tmp_path)

    def total(name, column, **parameters):
        return sum(catalog.sql(load_page_query(name).sql, {"run": "two", **parameters})[column].to_pylist())

    for name in ("gate_reasons", "margin_histogram"):
        assert total(name, "batches") == 60
    assert total("gate_bins", "n") == 60
    assert total("run_bins", "batches", low=0, high=59) == 60
    assert catalog.sql(load_page_query("memory_funnel").sql, {"run": "two"})["candidates"].to_pylist()[0] == 6
    assert catalog.sql(load_page_query("memory_points").sql, {"run": "two"}).num_rows == 6
    assert catalog.sql(load_page_query("run_ranks").sql, {"run": "two"}).to_pylist() == [
        {"ranks": 2, "diverged": 0}
    ]
