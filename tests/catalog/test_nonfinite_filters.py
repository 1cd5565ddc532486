"""Filters on columns that contain NaN or infinite values, in each way of reading the rows."""

from __future__ import annotations

import json
import math

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.catalog import Catalog
from ockham.catalog.export import export_views
from ockham.run import Run

# Condition in SQL, and in Python by the rule of DuckDB: NaN is the greatest value and equals itself.
CONDITIONS = {
    "isnan(task_loss)": math.isnan,
    "not isfinite(task_loss)": lambda loss: not math.isfinite(loss),
    "isfinite(task_loss)": math.isfinite,
    "task_loss > 100": lambda loss: math.isnan(loss) or loss > 100,
    "task_loss < 3.5": lambda loss: loss < 3.5,
    "task_loss = 3.0": lambda loss: loss == 3.0,
    "task_loss <> 3.0": lambda loss: loss != 3.0,
    "task_loss between 2 and 3.5": lambda loss: 2 <= loss <= 3.5,
    "task_loss in (3.0, 'nan'::double)": lambda loss: loss == 3.0 or math.isnan(loss),
}
LOSSES = st.sampled_from([3.0, 3.25, math.nan, math.inf])


def write_run(runs, losses):
    with Run(plugins=[], runs=runs, run_id="a") as run:
        for iter_num, loss in enumerate(losses):
            run.end_batch(run.start_batch(iter_num, loss))


@settings(max_examples=10, deadline=None)
@given(losses=st.lists(LOSSES, min_size=1, max_size=4))
@pytest.mark.parametrize("sandboxed", [False, True])
def test_filter_on_nonfinite_values_returns_the_right_rows(tmp_path_factory, sandboxed, losses):
    """Minimum and maximum of a Parquet file leave out NaN, so a reader may not prune by them."""
    runs = tmp_path_factory.mktemp("runs")
    write_run(runs, losses)
    catalog = Catalog(runs, sandboxed=sandboxed)
    for condition, holds in CONDITIONS.items():
        rows = catalog.rows(f"select iter_num from contexts where hook = 'batch' and {condition} order by 1")
        expected = [iter_num for iter_num, loss in enumerate(losses) if holds(loss)]
        assert [row["iter_num"] for row in rows] == expected, (condition, losses)


@pytest.mark.parametrize("suffix", ["", ".duckdb"])
def test_filter_on_nonfinite_values_of_an_export_returns_the_right_rows(tmp_path, suffix):
    """The reader is DuckDB without Ockham."""
    losses = [math.nan, 3.0]
    write_run(tmp_path / "runs", losses)
    target = tmp_path / f"out{suffix}"
    export_views(tmp_path / "runs", target, "duckdb" if suffix else "parquet")
    connection = duckdb.connect(str(target) if suffix else ":memory:")
    table = "contexts" if suffix else f"read_parquet('{target}/contexts.parquet')"
    for condition, holds in CONDITIONS.items():
        rows = connection.execute(f"select count(*) from {table} where {condition}").fetchall()
        assert rows == [(sum(map(holds, losses)),)], condition


def test_parquet_files_of_a_run_have_no_statistics_of_floats(tmp_path):
    """Columns of text and integers keep theirs."""
    write_run(tmp_path, [3.0, math.nan])
    files = list(tmp_path.glob("a/contexts/*/*.parquet"))
    assert files
    for file in files:
        group = pq.ParquetFile(file).metadata.row_group(0)
        columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        assert columns["iter_num"].is_stats_set
        floats = [column for column in columns.values() if column.physical_type in ("DOUBLE", "FLOAT")]
        assert floats
        assert not any(column.is_stats_set for column in floats), json.dumps(list(columns))
