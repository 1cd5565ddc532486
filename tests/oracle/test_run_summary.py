"""`run_summary` against the lines of generated runs."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ockham.catalog import Catalog
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from tests.helpers.example_counts import examples
from tests.helpers.log_edits import replace_data, sign_log
from tests.oracle.comparison import assert_equal_rows
from tests.oracle.figures import run_summary
from tests.oracle.generated_runs import Scenario, scenarios, write_run, written_runs
from tests.oracle.log_lines import read_run
from tests.oracle.savings import compute_savings


@settings(max_examples=examples(10), deadline=None)
@given(cases=st.lists(scenarios(), min_size=1, max_size=3))
@example(cases=[Scenario(batches=3, policy="observe", nonfinite=(2,))])
def test_run_summary_equals_the_lines(cases):
    """Every figure of every generated run has no difference."""
    with written_runs(cases) as runs:
        expected = [run_summary(read_run(path)) for path in sorted(runs.iterdir())]
        assert_equal_rows(Catalog(runs).rows("select * from run_summary"), expected)


def test_unsigned_attempt_does_not_change_the_number_of_ranks(tmp_path):
    """A resume that no tree head covers is not counted, and neither is its world size."""
    write_run(tmp_path, "r0", Scenario(batches=40, resumed=(20, 30)))
    folder = RunFolder(tmp_path, "r0")
    [segment] = folder.segments(2, 0)
    first, *others = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(replace_data(first, world_size=2) + b"\n" + b"".join(others))
    sign_log(folder, 2, size=0)
    for kind in PARQUET_TABLES:
        shutil.rmtree(folder.path / kind)
    [row] = Catalog(tmp_path).rows("select * from run_savings join runs using (run_id)")
    assert (row["world_size"], row["attempts"]) == (1, 1)
    assert row["chain_share"] == pytest.approx(compute_savings(read_run(folder.path))["chain_share"])
