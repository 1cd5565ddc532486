"""Where tables come from: kept until a file changes, and one bad run hides no other."""

from __future__ import annotations

import logging
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dashboard import data_source, layout
from dashboard.data_source import CatalogStore, TimedResult
from ockham.record.repair import rebuild
from tests.helpers.runs import made_run

logging.getLogger("streamlit").setLevel(logging.CRITICAL)
pytestmark = pytest.mark.filterwarnings("ignore")
LOOK_SECONDS = 0.05


@pytest.fixture(autouse=True)
def _looks_are_short(monkeypatch):
    monkeypatch.setattr(data_source, "LOOK_SECONDS", LOOK_SECONDS)


def runs_of(store: CatalogStore) -> list[str]:
    time.sleep(2 * LOOK_SECONDS)
    return [row["run_id"] for row in store.catalog().rows("select run_id from runs order by run_id")]


def damage(run) -> None:
    """A whole line that is no event, in a segment that Parquet does not stand for."""
    segment = run.folder.segments(1, 0)[-1]
    for kind in ("contexts", "decisions", "events"):
        for path in (run.folder.path / kind).rglob("*.parquet"):
            path.unlink()
    segment.write_bytes(segment.read_bytes() + b"this is no event\n")


def test_a_run_that_cannot_be_read_hides_no_other(tmp_path):
    """It is left out, named, and its place given."""
    made_run(tmp_path, "good", batches=12)
    damage(made_run(tmp_path, "bad", batches=12))
    store = CatalogStore(tmp_path, tmp_path / "no-odr")
    assert runs_of(store) == ["good"]
    assert list(store.broken) == ["bad"]
    assert "bad" in store.broken["bad"]


def junk(run) -> None:
    """A Parquet file that is none, where the lines are good."""
    next((run.folder.path / "decisions").rglob("*.parquet")).write_bytes(b"no Parquet" * 500)


@pytest.mark.parametrize("spoil", [damage, junk])
def test_a_run_is_back_once_it_is_mended(tmp_path, spoil):
    """Junk in one run's Parquet hides no other run either."""
    made_run(tmp_path, "good", batches=12)
    bad = made_run(tmp_path, "bad", batches=12)
    spoil(bad)
    store = CatalogStore(tmp_path, tmp_path / "no-odr")
    assert runs_of(store) == ["good"]
    segment = bad.folder.segments(1, 0)[-1]
    segment.write_bytes(segment.read_bytes().removesuffix(b"this is no event\n"))
    rebuild(bad.folder)
    assert runs_of(store) == ["bad", "good"]


def test_a_run_that_breaks_while_pages_are_open_is_left_out(tmp_path):
    """The others stay, and a new one still appears."""
    made_run(tmp_path, "good", batches=12)
    bad = made_run(tmp_path, "bad", batches=12)
    store = CatalogStore(tmp_path, tmp_path / "no-odr")
    assert runs_of(store) == ["bad", "good"]
    damage(bad)
    assert runs_of(store) == ["good"]
    made_run(tmp_path, "later", batches=12)
    assert runs_of(store) == ["good", "later"]


def test_the_version_moves_with_the_files_and_only_then(tmp_path):
    """Answers are kept by it."""
    store = CatalogStore(tmp_path, tmp_path / "no-odr")
    before = store.version
    time.sleep(2 * LOOK_SECONDS)
    assert store.version == before
    made_run(tmp_path, "new", batches=12)
    time.sleep(2 * LOOK_SECONDS)
    assert store.version != before


def test_a_new_record_is_seen(tmp_path):
    """Decision records are read again when one comes."""
    store = CatalogStore(tmp_path / "runs", tmp_path / "odr")
    assert store.catalog().rows("select count(*) as n from odrs")[0]["n"] == 0
    (tmp_path / "odr").mkdir()
    (tmp_path / "odr" / "0001-x.md").write_text("# not a record\n")
    time.sleep(2 * LOOK_SECONDS)
    assert store.catalog().rows("select count(*) as n from odrs")[0]["n"] == 1


def test_a_link_to_nothing_among_the_records_is_a_record_that_cannot_be_read(tmp_path):
    """It ended every query of every page."""
    (tmp_path / "odr").mkdir()
    (tmp_path / "odr" / "0001-x.md").symlink_to("/nowhere")
    store = CatalogStore(tmp_path / "runs", tmp_path / "odr")
    assert store.catalog().rows("select code from odr_findings") == [{"code": "ODR007"}]


def test_csv_runs_nothing_in_a_spreadsheet():
    """Cells and names of columns that begin like a formula are text; quotes are doubled."""
    answer = TimedResult(
        pa.table({"=a": ["=cmd|' /C calc'!A0", "@x", '"q"', "-1", "-1+cmd|x", None]}), "select", {}, 0.0
    )
    assert layout.csv_bytes(answer).decode().splitlines() == [
        "\"'=a\"", "\"'=cmd|' /C calc'!A0\"", "\"'@x\"", '"""q"""', '"-1"', "\"'-1+cmd|x\"", '""',
    ]  # fmt: skip


def test_parquet_says_what_was_asked(tmp_path):
    """The SQL and its parameters stand in the file; NaN stays NaN."""
    answer = TimedResult(pa.table({"x": [float("nan")]}), "select $a", {"a": 1}, 0.0)
    (tmp_path / "x.parquet").write_bytes(layout.parquet_bytes(answer))
    read = pq.read_table(tmp_path / "x.parquet")
    assert read.schema.metadata[b"ockham.sql"] == b"select $a"
    assert str(read["x"][0].as_py()) == "nan"
