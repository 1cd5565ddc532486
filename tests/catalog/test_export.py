"""One portable copy, read by others."""

from __future__ import annotations

import csv
import hashlib
import json

import duckdb
import pyarrow.parquet as pq
import pytest

from ockham.catalog.export import export_views
from ockham.errors import BadInputError
from ockham.run import Run
from tests.helpers.runs import made_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("export"), batches=30)


def test_parquet_with_a_manifest_of_the_logs(run, tmp_path):
    """The digest in the manifest is that of the log's lines."""
    export_views(run.folder.runs, tmp_path / "out", "parquet")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    log = b"".join(path.read_bytes() for path in run.folder.segments(1, 0))
    assert manifest["logs"] == [
        {
            "run_id": "a",
            "attempt": 1,
            "rank": 0,
            "events": log.count(b"\n"),
            "sha256": hashlib.sha256(log).hexdigest(),
        }
    ]
    assert pq.read_table(tmp_path / "out/contexts.parquet").num_rows >= 30


def test_one_duckdb_file(run, tmp_path):
    """Opened by plain DuckDB."""
    export_views(run.folder.runs, tmp_path / "a.duckdb", "duckdb")
    with duckdb.connect(str(tmp_path / "a.duckdb"), read_only=True) as c:
        assert c.execute("select count(*) from gate_decisions").fetchone() == (30,)
        assert c.execute(
            "select json_extract_string(manifest, '$.logs[0].run_id') from manifest"
        ).fetchone() == ("a",)


def test_csv(run, tmp_path):
    """Nested columns are JSON."""
    export_views(run.folder.runs, tmp_path / "out", "csv")
    assert (tmp_path / "out/decisions.csv").read_text().splitlines()[0].startswith('"decision_id"')


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    """What a run says of itself reaches a spreadsheet as text; numbers stay numbers, and other forms what was logged."""
    for run_id, said in (("a", "=HYPERLINK(1)"), ("b", "-1e3")):
        with Run("balanced", runs=tmp_path / "runs", run_id=run_id, data={"name": said}):
            pass
    export_views(tmp_path / "runs", tmp_path / "out", "csv")
    export_views(tmp_path / "runs", tmp_path / "same", "parquet")
    texts = [path.read_text().splitlines() for path in (tmp_path / "out").glob("*.csv")]
    cells = [cell for lines in texts for row in csv.reader(lines) for cell in row]
    assert not [cell for cell in cells if cell[:1] in "=+@-" and cell and not number(cell)]
    assert {"'=HYPERLINK(1)", "-1e3"} <= {*cells}
    kept = pq.read_table(tmp_path / "same/runs.parquet")["data"].to_pylist()
    assert kept == ["=HYPERLINK(1)", "-1e3"]


def number(cell):
    try:
        return float(cell) is not None
    except ValueError:
        return False


def test_an_export_overwrites_nothing(run, tmp_path):
    """What is there stays."""
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInputError, match="exists"):
        export_views(run.folder.runs, tmp_path / "out", "csv")
