"""`ockham roi` and `ockham compare` against the lines of generated runs."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ockham.errors import UnverifiableError
from ockham.study.compare import compare
from ockham.study.roi import Prices, roi
from ockham.study.run_data import load_run_data
from tests.helpers.example_counts import examples
from tests.oracle import reports
from tests.oracle.comparison import assert_equal_rows
from tests.oracle.generated_runs import Scenario, scenarios, written_runs
from tests.oracle.log_lines import contexts, read_run


@settings(max_examples=examples(8), deadline=None)
@given(scenario=scenarios(), floor=st.sampled_from([None, 0.1, 2.5]))
@example(scenario=Scenario(killed=True), floor=None)
@example(scenario=Scenario(killed=True, resumed=(9, 20)), floor=2.5)
def test_roi_equals_the_lines(scenario, floor):
    """Every figure has no difference. A run without a counted batch is an error."""
    with written_runs([scenario]) as runs:
        if contexts(read_run(runs / "r0")):
            compare_roi(runs, "r0", floor)
        else:
            with pytest.raises(UnverifiableError):
                load_run_data(runs, "r0")


def compare_roi(runs, run_id, floor):
    """Compare all figures of `ockham roi` with the lines."""
    rows = roi(load_run_data(runs, run_id), Prices(**reports.PRICES), floor)
    figures = {row.figure: row.value for row in rows}
    expected = reports.roi(read_run(runs / run_id), floor)
    assert set(figures) == set(expected)
    assert_equal_rows([figures], [expected])


@settings(max_examples=examples(8), deadline=None)
@given(first=scenarios(), second=scenarios(), has_same_batches=st.booleans())
def test_compare_equals_the_lines(first, second, has_same_batches):
    """Every number of both runs has no difference, and the difference is b - a."""
    if has_same_batches:
        second = dataclasses.replace(second, seed=first.seed, micro_steps=first.micro_steps)
    with written_runs([first, second]) as runs:
        lines = [read_run(runs / run_id) for run_id in ("r0", "r1")]
        if not all(map(contexts, lines)):
            return
        table, _ = compare(*(load_run_data(runs, run_id) for run_id in ("r0", "r1")), all_losses=True)
    found = {
        (row.section, row.name): row for row in table if row.section in ("figures", "losses", "verdicts")
    }
    expected = reports.comparison(*lines)
    others = {("figures", "backward_over_forward"), ("figures", "occam_quotient")}
    assert set(found) - others == set(expected)
    for key, (a, b) in expected.items():
        row = found[key]
        assert_equal_rows([{"key": key, "a": row.a, "b": row.b}], [{"key": key, "a": a, "b": b}])
        if None not in (a, b) and key[0] != "verdicts":
            assert row.difference == pytest.approx(b - a)
            assert row.relative_difference == (pytest.approx(b / a - 1) if a > 0 else None)
