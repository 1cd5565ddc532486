"""Charts are functions of a table: the right marks on the right columns, and no colour alone."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dashboard import charts
from ockham.catalog import Catalog
from ockham.catalog.views import page_query
from tests.made import made_run


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("charts")
    made_run(folder, "a", nan_at=50)
    return Catalog(folder)


def asked(catalog, name, **parameters):
    return catalog.sql(page_query(name).sql, {"run": "a", **parameters})


def test_every_chart_draws_its_own_table(catalog):
    """The specification is made without an error, with every encoded column in the table."""
    bins = asked(catalog, "run_bins", low=0, high=119)
    made = [
        charts.loss_lane(bins, asked(catalog, "marks")),
        charts.plugin_lane(asked(catalog, "plugin_bins", low=0, high=119)),
        charts.lines(bins, {"learning_rate": (charts.UPDATE, [1, 0])}, "rate"),
        charts.rate_band(asked(catalog, "gate_bins"), 0.5, 0.7),
        charts.margin_histogram(asked(catalog, "margins")),
        charts.funnel(asked(catalog, "funnel")),
        charts.oq_trend(asked(catalog, "memory_points")),
        charts.pareto(asked(catalog, "memory_points")),
        charts.threshold_curve(catalog.ask("thresholds", run="a")),
        charts.overlay(catalog.sql(page_query("overlay").sql, {"run": "a", "other": "a"})),
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
            "loss": [1.0],
            "drift": [0.1],
            "oq_improvement": [0.1],
            "oq_limit": [0.1],
        }
    )
    encoding = charts.oq_trend(table).to_dict()["encoding"]
    assert encoding["shape"]["field"] == encoding["color"]["field"] == "outcome"
