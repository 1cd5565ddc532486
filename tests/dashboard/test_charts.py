"""Charts are functions of a table: the right marks on the right columns, and no colour alone."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dashboard import charts, style, timeline_charts
from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query, load_question
from tests.helpers.runs import made_run


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("charts")
    made_run(folder, "a", nan_at=50)
    return Catalog(folder)


def asked(catalog, name, **parameters):
    return catalog.sql(load_page_query(name).sql, {"run": "a", **parameters})


def test_every_chart_draws_its_own_table(catalog):
    """The specification is made without an error, with every encoded column in the table."""
    bins = asked(catalog, "run_bins", low=0, high=119)
    bands = catalog.sql(load_question("bands").sql)
    busiest = asked(catalog, "knob_most_changed", field="learning_rate")["iter"][0].as_py()
    made = [
        timeline_charts.loss_lane(bins, asked(catalog, "timeline_events", low=0, high=119), (0, 119)),
        timeline_charts.plugin_lane(asked(catalog, "plugin_bins", low=0, high=119), (0, 119)),
        timeline_charts.line_chart(bins, {"learning_rate": ("rate", style.UPDATE, [1, 0])}, (0, 119)),
        timeline_charts.line_chart(bins, {"grad_norm": ("norm", style.UPDATE, [1, 0])}, log=True),
        timeline_charts.rate_band(asked(catalog, "gate_bins"), 0.5, 0.7),
        timeline_charts.rate_band(asked(catalog, "gate_bins"), None, None),
        timeline_charts.overshoot_chart(asked(catalog, "overshoot", low=0, high=119), (0, 119)),
        charts.rate_vs_band(bands, "update"),
        charts.rate_vs_band(bands, "accept"),
        charts.margin_histogram(asked(catalog, "margin_histogram")),
        charts.funnel(asked(catalog, "memory_funnel")),
        charts.oq_trend(asked(catalog, "memory_points")),
        charts.pareto(asked(catalog, "memory_points")),
        charts.threshold_curve(asked(catalog, "run_thresholds")),
        charts.waterfall(asked(catalog, "knob_changes_of_batch", iter=busiest, field="learning_rate")),
        charts.bullet(1.5, 2.0),
        charts.bullet(2.0, 2.0),
        charts.loss_comparison(
            catalog.sql(load_page_query("loss_comparison").sql, {"run": "a", "other": "a"}), ["a", "b"]
        ),
    ]
    for chart in made:
        assert chart.to_dict()["$schema"]


def test_bins_hide_no_spike(catalog):
    """At most 501 bins, and the highest loss of the log is the highest of the bins."""
    bins = asked(catalog, "run_bins", low=0, high=119)
    top = catalog.rows(
        "select max(task_loss) filter (isfinite(task_loss)) as top, count(*) as n from contexts where hook = 'batch'"
    )[0]
    assert bins.num_rows <= 501
    assert sum(bins.column("batches").to_pylist()) == top["n"]
    assert sum(bins.column("nonfinite").to_pylist()) == 1
    finite = [v for v in bins.column("loss_high").to_pylist() if v is not None and v == v]
    assert max(finite) == pytest.approx(top["top"])


def test_the_interval_holds_the_rate(catalog):
    """Wilson's interval lies around the rate and inside 0..1."""
    for row in asked(catalog, "gate_bins").to_pylist():
        assert -1e-9 <= row["low"] <= row["rate"] <= row["high"] <= 1 + 1e-9


def test_outcomes_have_shape_and_colour():
    """Never colour alone."""
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


def test_many_marks_become_few_and_none_is_lost(catalog):
    """Of more than forty of a kind one stands for each fortieth, and says for how many."""
    rows = asked(catalog, "timeline_events", low=0, high=119).to_pylist()
    accepted = [row for row in rows if row["what"] == "accepted"]
    there = catalog.rows("select count(*) as n from checkpoints where kind = 'accepted'")[0]["n"]
    assert sum(row["times"] for row in accepted) == there
    assert sum(row["what"] == "not finite" for row in rows) == 1


def test_the_histogram_holds_every_batch(catalog):
    """What is farther out than the outermost bars is in them, not left out."""
    known = catalog.rows("select count(*) as n from gate_decisions where isfinite(margin)")[0]["n"]
    assert sum(asked(catalog, "margin_histogram").column("batches").to_pylist()) == known


def test_a_knob_goes_from_what_was_given_to_what_was_left(catalog):
    """The first row is the value before the first plugin, the last one that of the context."""
    at = catalog.rows("select iter_num from hyperparameter_changes where field = 'learning_rate' limit 1")[0][
        "iter_num"
    ]
    rows = asked(catalog, "knob_changes_of_batch", iter=at, field="learning_rate").to_pylist()
    left = catalog.rows(
        f"select base_learning_rate, learning_rate from contexts where hook = 'batch' and iter_num = {at}"
    )[0]
    assert rows[0]["before"] == left["base_learning_rate"]
    assert rows[-1]["after"] == left["learning_rate"]


def test_a_line_that_only_hides_another_is_left_out():
    """Where the highest of each bin is the median there is one line."""
    table = pa.table({"iter": [1, 2], "a": [1.0, 2.0], "b": [1.0, 2.0]})
    fields = {"a": ("median", style.UPDATE, [1, 0]), "b": ("highest", style.SKIP, [4, 2])}
    assert "highest" not in str(timeline_charts.line_chart(table, fields).to_dict())
    assert "highest" in str(
        timeline_charts.line_chart(table.set_column(2, "b", [[3.0, 4.0]]), fields).to_dict()
    )


def test_a_plugin_that_nobody_knows_has_a_colour():
    """Its own name, or that which a policy gives a built-in one: without a colour its cells are not drawn."""
    rows = [("gate", "SKIP"), ("Patience", "DAMP")]
    table = pa.table({"iter": [0, 0], "width": [1, 1], "plugin": [p for p, _ in rows], "action": [a for _, a in rows],
                      "decisions": [1, 1]})  # fmt: skip
    scale = timeline_charts.plugin_lane(table, (0, 1)).to_dict()["encoding"]["color"]["scale"]
    assert {"gate", "Patience"} <= set(scale["domain"])
    assert len(scale["domain"]) == len(scale["range"])


def test_what_a_plugin_made_of_a_knob_is_written_beside_its_bar():
    """A lowered one ends at the left: text there would lie on the bar."""
    table = pa.table({"step": [0, 1], "who": ["given", "a"], "before": [None, 2.0], "after": [2.0, 1.0]})
    text = charts.waterfall(table).to_dict()["layer"][2]
    assert (text["mark"]["type"], text["encoding"]["x"]["field"]) == ("text", "right")


def test_small_gains_have_ticks_of_their_own(catalog):
    """Whole percents would name five ticks of a gain of .2 % `+0%`."""
    drawn = charts.oq_trend(asked(catalog, "memory_points")).to_dict()
    assert drawn["layer"][0]["encoding"]["y"]["axis"]["format"] == "+.2~%"


def test_what_was_missing_is_a_share_of_the_limit(catalog):
    """Of each gate alike, or the nearest would not stand first: the quotient that was wanted is 1 + oq_limit baselines."""
    missed = asked(catalog, "run_near_misses").to_pylist()
    short = [row for row in missed if row["failed_gate"] == "efficiency"]
    assert short
    for row in short:
        had, wanted = 1 + row["oq_improvement"], 1 + row["oq_limit"]
        assert row["missing"] == pytest.approx(1 - had / wanted)


def test_lanes_stand_on_one_axis(catalog):
    """Every lane keeps the same room for labels and the same iterations, so that one place is one iteration."""
    bins = asked(catalog, "run_bins", low=20, high=80)
    made = (
        timeline_charts.loss_lane(bins, asked(catalog, "timeline_events", low=20, high=80), (20, 80)),
        timeline_charts.plugin_lane(asked(catalog, "plugin_bins", low=20, high=80), (20, 80)),
        timeline_charts.line_chart(bins, {"learning_rate": ("rate", style.UPDATE, [1, 0])}, (20, 80)),
        timeline_charts.overshoot_chart(asked(catalog, "overshoot", low=20, high=80), (20, 80)),
    )
    for chart in made:
        drawn = chart.to_dict()
        encoding = drawn.get("encoding") or next(
            e for e in (part["encoding"] for part in drawn["layer"]) if "axis" in e.get("y", {})
        )
        assert encoding["x"]["scale"]["domain"] == [20, 80]
        assert (
            encoding["y"]["axis"]["minExtent"] == encoding["y"]["axis"]["maxExtent"] == timeline_charts.LABELS
        )


def test_the_front_is_what_no_other_candidate_beats(catalog):
    """In loss and drift at once, by comparing each with each."""
    points = asked(catalog, "memory_points").to_pylist()
    assert any(p["frontier"] for p in points)
    for one in points:
        beaten = any(
            o["loss"] <= one["loss"]
            and o["drift"] <= one["drift"]
            and (o["loss"], o["drift"]) != (one["loss"], one["drift"])
            for o in points
        )
        assert not (one["frontier"] and beaten)


def test_several_ranks_count_once(tmp_path):
    """Every rank decides alike and logs it: the pages count the batches of one."""
    from ockham.run import Run

    for rank in (0, 1):
        with Run(
            runs=tmp_path, run_id="two", policy="balanced", rank=rank, world_size=2, facts={"vocab_size": 256}
        ) as run:
            for i in range(60):
                ctx = run.start_batch(i, 3.0 + 0.1 * (i % 7), learning_rate=1e-3)
                run.end_batch(ctx, grad_norm=2.0, complexity_cost=0.001)
                if i % 10 == 9:
                    run.evaluate(ctx, 3.0 - i / 100, tokens=10)
    two = Catalog(tmp_path)

    def count(name, column, **more):
        return sum(two.sql(load_page_query(name).sql, {"run": "two", **more})[column].to_pylist())

    for name in ("gate_reasons", "margin_histogram"):
        assert count(name, "batches") == 60
    assert count("gate_bins", "n") == count("run_bins", "batches", low=0, high=59) == 60
    assert two.sql(load_page_query("memory_funnel").sql, {"run": "two"})["candidates"].to_pylist()[0] == 6
    assert two.sql(load_page_query("memory_points").sql, {"run": "two"}).num_rows == 6
    assert two.sql(load_page_query("run_ranks").sql, {"run": "two"}).to_pylist() == [
        {"ranks": 2, "diverged": 0}
    ]
