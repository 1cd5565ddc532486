"""Snapshots of a catalog: several queries see the same version of the files."""

from __future__ import annotations

import pytest

from ockham.catalog import Catalog
from ockham.errors import QueryError
from ockham.run import Run
from tests.helpers.runs import make_run

COUNT = "select count(distinct iter_num) as n from contexts where run_id = 'live'"


def write_batches(run, first, count):
    for i in range(first, first + count):
        run.end_batch(run.start_batch(i, 2.0))
    run.flush()


def count_rows(source):
    return source.sql(COUNT)["n"][0].as_py()


def test_snapshot_does_not_change_with_new_events_and_runs(tmp_path):
    """A snapshot keeps its rows while the catalog reads more. A new snapshot has the new rows."""
    with Run(plugins=[], runs=tmp_path, run_id="live") as run:
        write_batches(run, 0, 5)
        catalog = Catalog(tmp_path)
        before = catalog.snapshot()
        assert count_rows(before) == 5
        write_batches(run, 5, 7)
        make_run(tmp_path, "new", batches=12)
        assert count_rows(catalog) == 12
        assert count_rows(before) == 5
        assert before.sql("select run_id from runs")["run_id"].to_pylist() == ["live"]
        after = catalog.snapshot()
        assert count_rows(after) == 12
        assert after.version > before.version


def test_snapshot_that_is_read_late_has_the_version_of_its_start(tmp_path):
    """The version is that of the call, not that of the first query."""
    make_run(tmp_path, "a", batches=12)
    catalog = Catalog(tmp_path)
    snapshot = catalog.snapshot()
    make_run(tmp_path, "b", batches=12)
    catalog.refresh()
    assert snapshot.sql("select count(*) as n from runs")["n"].to_pylist() == [1]


def test_snapshot_refuses_to_write_and_reports_errors_of_queries(tmp_path):
    """It is a transaction that reads only. A failed query raises QueryError."""
    make_run(tmp_path, "a", batches=12)
    catalog = Catalog(tmp_path)
    with pytest.raises(QueryError, match="read-only"):
        catalog.snapshot().sql("create table t as select 1")
    with pytest.raises(QueryError, match="nowhere"):
        catalog.snapshot().sql("select * from nowhere")
    snapshot = catalog.snapshot()
    snapshot.close()
    snapshot.close()
    assert catalog.sql("select count(*) as n from runs")["n"].to_pylist() == [1]
