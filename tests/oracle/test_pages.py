"""Numbers of the dashboard against the lines of generated runs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query
from tests.oracle import pages
from tests.oracle.comparison import assert_equal_rows
from tests.oracle.generated_runs import Scenario, scenarios, written_runs
from tests.oracle.log_lines import read_run

BY_RUN = (
    "iteration_range",
    "gate_bins",
    "gate_reasons",
    "margin_histogram",
    "run_thresholds",
    "skip_streaks",
    "sparklines",
    "memory_funnel",
    "run_ranks",
)
BY_RANGE = ("run_bins", "plugin_bins", "overshoot")


@settings(max_examples=20, deadline=None)
@given(scenario=scenarios())
def test_page_numbers_equal_the_lines(scenario):
    """Every number of every page has no difference."""
    with written_runs([scenario]) as runs:
        compare_pages(runs)


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(batches=130, micro_steps=4),
        Scenario(batches=700, policy="tight", nonfinite=(3, 100, 101)),
        Scenario(batches=120, resumed=(40, 80), world_size=2),
    ],
    ids=["accumulation", "several batches per bin", "resumed ranks"],
)
def test_page_numbers_of_longer_runs_equal_the_lines(scenario):
    """Bins contain several batches."""
    with written_runs([scenario]) as runs:
        compare_pages(runs)


def compare_pages(runs):
    rows = read_run(runs / "r0")
    catalog = Catalog(runs)
    last = max((batch.iter_num for batch in pages.contexts(rows)), default=0)
    ranges = [(0, last), (last // 3, last // 2)]
    calls = [(name, {}) for name in BY_RUN]
    calls += [(name, {"low": low, "high": high}) for name in BY_RANGE for low, high in ranges]
    calls += [("knob_most_changed", {"field": field}) for field in ("learning_rate", "surprise_threshold")]
    for name, parameters in calls:
        found = catalog.rows(load_page_query(name).sql, {"run": "r0", **parameters})
        try:
            assert_equal_rows(found, getattr(pages, name)(rows, **parameters))
        except AssertionError as error:
            raise AssertionError(f"{name} {parameters}: {error}") from error
