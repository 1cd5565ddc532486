"""Parquet folders of a run, read by programs that do not know Ockham."""

from __future__ import annotations

import json

import duckdb
import pyarrow.dataset as ds
import pytest

from ockham.record.repair import rebuild
from ockham.record.run_folder import PARQUET_TABLES
from tests.helpers.events import lines
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("readers"), batches=30).folder


def expected_ids(folder, kind):
    """Return the event IDs of a kind from the lines of the log."""
    events = [json.loads(line) for line in lines(folder)]
    parts = {"contexts": "context.recorded", "decisions": "decision.made", "events": ""}
    return sorted(event["id"] for event in events if parts[kind] in event["type"])


@pytest.mark.parametrize("kind", PARQUET_TABLES)
def test_folder_of_a_kind_contains_only_parquet_files(run, kind):
    """Readers take each file of a folder as Parquet, or refuse other endings."""
    files = [path for path in (run.path / kind).rglob("*") if path.is_file()]
    assert files
    assert {path.suffix for path in files} == {".parquet"}


@pytest.mark.parametrize("kind", PARQUET_TABLES)
def test_folder_is_read_by_pandas_arrow_and_duckdb(run, kind):
    """All rows are read from the folder, with the day as a column."""
    pandas = pytest.importorskip("pandas")
    folder, expected = run.path / kind, expected_ids(run, kind)
    frame = pandas.read_parquet(folder)
    assert sorted(frame["event_id"]) == expected
    assert "day" in frame.columns
    table = ds.dataset(folder, format="parquet", partitioning="hive").to_table()
    assert sorted(table.column("event_id").to_pylist()) == expected
    rows = duckdb.sql(
        f"select event_id, day from read_parquet('{folder}/**/*.parquet', hive_partitioning=true)"
    )
    assert sorted(row[0] for row in rows.fetchall()) == expected


def test_folder_is_read_by_polars(run):
    """Polars refuses a folder with files of several endings."""
    polars = pytest.importorskip("polars")
    for kind in PARQUET_TABLES:
        frame = polars.read_parquet(run.path / kind)
        assert sorted(frame["event_id"]) == expected_ids(run, kind)


def test_repair_removes_files_of_another_version_from_the_folders(tmp_path):
    """Sidecars next to the Parquet files would end every reader of the folder."""
    folder = make_run(tmp_path, batches=5).folder
    day = next((folder.path / "contexts").glob("day=*"))
    (day / "1-0-000000000000.json").write_text("{}")
    rebuild(folder)
    assert {path.suffix for path in day.iterdir()} == {".parquet"}
