"""Spark catalog in local mode: the rows equal those of DuckDB for Parquet, live lines and a resume."""

from __future__ import annotations

import decimal
import math
import shutil

import pytest

from ockham.catalog import Catalog
from ockham.catalog.views import load_question, question_names
from ockham.errors import QueryError
from ockham.spark_catalog import SparkCatalog, spark_sql
from tests.helpers.resumed_run import resumed_run
from tests.helpers.runs import make_run

pytestmark = [
    # pyspark itself warns about pandas and sockets.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(900),
]
HERE = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.shuffle.partitions": "1",
    # Code generation costs more than it saves for a hundred rows: a fifth of the CPU time.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # The second compiler of the JVM costs more than it saves: 32 s of CPU time instead of 66 without it.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    make_run(folder, "a", nan_at=50)
    resumed_run(folder, "b", policy="balanced")
    # A live run has lines that no Parquet file covers yet.
    for kind in ("contexts", "decisions", "events"):
        for path in (folder / "b" / kind).rglob("2-0-*"):
            path.unlink()
    return folder


@pytest.fixture(scope="module")
def fleet(runs):
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("no Java")
    made = SparkCatalog(runs, master="local[1]", settings=HERE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def catalog(runs):
    return Catalog(runs)


def plain(value):
    """Round floats, because sums in another order differ in their last digits. NaN becomes a text."""
    if isinstance(value, (float, decimal.Decimal)):
        return "NaN" if math.isnan(value) else float(f"{value:.10g}")
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, plain(item)) for key, item in value.items())
    return value


def rows(table):
    return sorted((tuple(plain(value) for value in row.values()) for row in table.to_pylist()), key=repr)


def test_spark_views_have_the_rows_of_duckdb(fleet, catalog):
    """Column names, column order, superseded rows and live lines are compared."""
    for name in ("contexts", "decisions", "decision_contexts", "checkpoints", "run_summary"):
        theirs, ours = fleet.sql(f"select * from {name}"), catalog.sql(f"select * from {name}")
        assert theirs.column_names == ours.column_names, name
        assert rows(theirs) == rows(ours), name
    assert fleet.sql("select count(*) as n from decisions where superseded").to_pylist()[0]["n"] > 0


def test_parquet_folders_are_read_by_spark_without_ockham(fleet, runs):
    """The folder of a kind contains only Parquet files, and Spark finds the days."""
    for kind in ("contexts", "decisions", "events"):
        read = fleet.session.read.parquet(str(runs / "a" / kind))
        assert read.count() == Catalog(runs, run_ids=["a"]).rows(f"select count(*) n from {kind}")[0]["n"]
        assert "day" in read.columns


def test_spark_saved_questions_have_the_rows_of_duckdb(fleet, catalog):
    """Both catalogs read the same SQL files."""
    snapshot = catalog.rows("select snapshot_id from checkpoints order by sequence")[0]["snapshot_id"]
    values = {
        "why_skipped": {"run": "a", "iter": 10},
        "lineage": {"snapshot": snapshot},
        "compare_by_tokens": {"run_a": "a", "run_b": "b"},
    }
    for name in question_names():
        given = values.get(name, {})
        assert rows(fleet.ask(name, **given)) == rows(catalog.ask(name, **given)), name


def test_spark_invalid_question_raises_query_error(fleet):
    """DuckDB raises the same class."""
    with pytest.raises(QueryError, match="takes these parameters: run, iter"):
        fleet.ask("why_skipped", run="a")
    with pytest.raises(QueryError, match="no_such_view"):
        fleet.sql("select * from no_such_view")


@pytest.mark.parametrize("name", question_names())
def test_question_translated_for_spark_has_no_duckdb_expression(name):
    """The translation does not need Spark."""
    message = spark_sql(load_question(name).sql).lower()
    assert not any(
        word in message
        for word in ("isfinite", "quantile_cont", "percentile_cont", "list_sum", "$run", "unnest")
    )


def test_spark_sql_of_invalid_syntax_raises_query_error():
    """The translation does not need Spark."""
    with pytest.raises(QueryError, match="not understood"):
        spark_sql("select from where (")
