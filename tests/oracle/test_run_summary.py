"""`run_summary` against the lines of generated runs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.catalog import Catalog
from tests.oracle.comparison import assert_equal_rows
from tests.oracle.figures import run_summary
from tests.oracle.generated_runs import scenarios, written_runs
from tests.oracle.log_lines import read_run


@settings(max_examples=25, deadline=None)
@given(cases=st.lists(scenarios(), min_size=1, max_size=3))
def test_run_summary_equals_the_lines(cases):
    """Every figure of every generated run has no difference."""
    with written_runs(cases) as runs:
        expected = [run_summary(read_run(path)) for path in sorted(runs.iterdir())]
        assert_equal_rows(Catalog(runs).rows("select * from run_summary"), expected)
