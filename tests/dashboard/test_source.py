"""Data source of the dashboard: results are cached until a file changes, and unreadable runs are omitted."""

from __future__ import annotations

import logging
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dashboard import data_source, layout
from dashboard.data_source import CatalogStore, TimedResult
from ockham.record.repair import rebuild
from tests.helpers.damaged_runs import INVALID_LINE, append_invalid_line, overwrite_parquet
from tests.helpers.log_edits import sign_log
from tests.helpers.runs import make_run

logging.getLogger("streamlit").setLevel(logging.CRITICAL)
pytestmark = pytest.mark.filterwarnings("ignore")
SCAN_INTERVAL_SECONDS = 0.05


@pytest.fixture(autouse=True)
def _short_scan_interval(monkeypatch):
    monkeypatch.setattr(data_source, "SCAN_INTERVAL_SECONDS", SCAN_INTERVAL_SECONDS)


def wait_for_scan():
    time.sleep(2 * SCAN_INTERVAL_SECONDS)


def list_run_ids(store: CatalogStore) -> list[str]:
    wait_for_scan()
    return [row["run_id"] for row in store.catalog().rows("select run_id from runs order by run_id")]


def test_store_with_unreadable_run_lists_other_runs(tmp_path):
    """The unreadable run is omitted, and its error names it."""
    make_run(tmp_path, "good", batches=12)
    append_invalid_line(make_run(tmp_path, "bad", batches=12))
    store = CatalogStore(tmp_path, tmp_path / "no-odr")
    assert list_run_ids(store) == ["good"]
    assert list(store.broken) == ["bad"]
    assert "bad" in store.broken["bad"]


def test_store_lists_run_with_invalid_parquet(tmp_path):
    """The lines of the run are read."""
    make_run(tmp_path, "good", batches=12)
    overwrite_parquet(make_run(tmp_path, "bad", batches=12))
    store = CatalogStore(tmp_path, tmp_path / "no-odr")
    assert list_run_ids(store) == ["bad", "good"]
    assert store.broken == {}


def test_store_lists_run_again_after_repair(tmp_path):
    """A run that was unreadable appears again after its files are repaired."""
    make_run(tmp_path, "good", batches=12)
    bad = make_run(tmp_path, "bad", batches=12)
    append_invalid_line(bad)
    store = CatalogStore(tmp_path, tmp_path / "no-odr")
    assert list_run_ids(store) == ["good"]
    segment = bad.folder.segments(1, 0)[-1]
    segment.write_bytes(segment.read_bytes().removesuffix(INVALID_LINE))
    sign_log(bad.folder)
    rebuild(bad.folder)
    assert list_run_ids(store) == ["bad", "good"]


def test_open_store_omits_run_that_becomes_unreadable(tmp_path):
    """The other runs stay, and new runs still appear."""
    make_run(tmp_path, "good", batches=12)
    bad = make_run(tmp_path, "bad", batches=12)
    store = CatalogStore(tmp_path, tmp_path / "no-odr")
    assert list_run_ids(store) == ["bad", "good"]
    append_invalid_line(bad)
    assert list_run_ids(store) == ["good"]
    make_run(tmp_path, "later", batches=12)
    assert list_run_ids(store) == ["good", "later"]


def test_store_version_changes_only_with_files(tmp_path):
    """The version is the cache key of all results."""
    store = CatalogStore(tmp_path, tmp_path / "no-odr")
    before = store.version
    wait_for_scan()
    assert store.version == before
    make_run(tmp_path, "new", batches=12)
    wait_for_scan()
    assert store.version != before


def test_store_reads_new_decision_record(tmp_path):
    """Decision records are read again when a file is added."""
    store = CatalogStore(tmp_path / "runs", tmp_path / "odr")
    assert store.catalog().rows("select count(*) as n from odrs")[0]["n"] == 0
    (tmp_path / "odr").mkdir()
    (tmp_path / "odr" / "0001-x.md").write_text("# not a record\n")
    wait_for_scan()
    assert store.catalog().rows("select count(*) as n from odrs")[0]["n"] == 1


def test_store_reports_broken_link_as_unreadable_record(tmp_path):
    """A broken link in the records folder is a finding, and does not fail the queries of all pages."""
    (tmp_path / "odr").mkdir()
    (tmp_path / "odr" / "0001-x.md").symlink_to("/nowhere")
    store = CatalogStore(tmp_path / "runs", tmp_path / "odr")
    assert store.catalog().rows("select code from odr_findings") == [{"code": "ODR007"}]


def test_csv_download_escapes_formulas():
    """Cells and column names that look like a formula become text. Quotes are doubled."""
    values = ["=cmd|' /C calc'!A0", "@x", '"q"', "-1", "-1+cmd|x", None]
    result = TimedResult(pa.table({"=a": values}), "select", {}, 0.0)
    assert layout.csv_bytes(result).decode().splitlines() == [
        '"\'=a"',
        "\"'=cmd|' /C calc'!A0\"",
        '"\'@x"',
        '"""q"""',
        '"-1"',
        '"\'-1+cmd|x"',
        '""',
    ]


def test_parquet_download_contains_sql_and_nan(tmp_path):
    """The metadata contains the SQL, and NaN stays NaN."""
    result = TimedResult(pa.table({"x": [float("nan")]}), "select $a", {"a": 1}, 0.0)
    (tmp_path / "x.parquet").write_bytes(layout.parquet_bytes(result))
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.schema.metadata[b"ockham.sql"] == b"select $a"
    assert str(table["x"][0].as_py()) == "nan"
