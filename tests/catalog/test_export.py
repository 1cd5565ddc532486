"""Export of the views to Parquet, DuckDB and CSV."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys

import duckdb
import pyarrow.parquet as pq
import pytest

from ockham.catalog import Catalog
from ockham.catalog.export import export_views
from ockham.errors import BadInputError
from ockham.run import Run
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("export"), batches=30)


def test_parquet_export_has_manifest_with_log_digests(run, tmp_path):
    """The digest in the manifest is the digest of the log lines."""
    export_views(run.folder.runs, tmp_path / "out", "parquet")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    log = b"".join(path.read_bytes() for path in run.folder.segments(1, 0))
    assert manifest["logs"] == [
        {
            "run_id": "a",
            "attempt": 1,
            "rank": 0,
            "events": log.count(b"\n"),
            "signed": log.count(b"\n"),
            "sha256": hashlib.sha256(log).hexdigest(),
        }
    ]
    assert pq.read_table(tmp_path / "out/contexts.parquet").num_rows >= 30


def test_duckdb_export_is_readable_with_duckdb(run, tmp_path):
    """Plain DuckDB can open the exported file."""
    export_views(run.folder.runs, tmp_path / "a.duckdb", "duckdb")
    with duckdb.connect(str(tmp_path / "a.duckdb"), read_only=True) as c:
        assert c.execute("select count(*) from gate_decisions").fetchone() == (30,)
        assert c.execute(
            "select json_extract_string(manifest, '$.logs[0].run_id') from manifest"
        ).fetchone() == ("a",)


def test_duckdb_export_has_the_storage_format_of_duckdb_1_0(run, tmp_path):
    """The version number in the header is one that all later versions read."""
    export_views(run.folder.runs, tmp_path / "it's.duckdb", "duckdb")
    header = (tmp_path / "it's.duckdb").read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") == 64


def test_csv_export_contains_nested_columns_as_json(run, tmp_path):
    """The CSV files have quoted headers, and nested columns are JSON."""
    export_views(run.folder.runs, tmp_path / "out", "csv")
    assert (tmp_path / "out/decisions.csv").read_text().splitlines()[0].startswith('"decision_id"')


def test_csv_export_escapes_formulas(tmp_path):
    """Text that looks like a formula is escaped in CSV only. Numbers stay numbers."""
    for run_id, message in (("a", "=HYPERLINK(1)"), ("b", "-1e3")):
        with Run("balanced", runs=tmp_path / "runs", run_id=run_id, data={"name": message}):
            pass
    export_views(tmp_path / "runs", tmp_path / "out", "csv")
    export_views(tmp_path / "runs", tmp_path / "same", "parquet")
    texts = [path.read_text().splitlines() for path in (tmp_path / "out").glob("*.csv")]
    cells = [cell for lines in texts for row in csv.reader(lines) for cell in row]
    assert not [cell for cell in cells if cell[:1] in "=+@-" and cell and not number(cell)]
    assert {"'=HYPERLINK(1)", "-1e3"} <= {*cells}
    names = pq.read_table(tmp_path / "same/runs.parquet")["data"].to_pylist()
    assert names == ["=HYPERLINK(1)", "-1e3"]


def number(cell):
    try:
        return float(cell) is not None
    except ValueError:
        return False


def test_export_to_existing_path_raises_error(run, tmp_path):
    """An existing folder is not overwritten."""
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInputError, match="exists"):
        export_views(run.folder.runs, tmp_path / "out", "csv")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from ockham.catalog.export import export_views
from ockham.errors import BadInputError
runs, folder, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in map(int, sys.argv[4:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        print(limit, export_views(runs, folder / f"{limit}.out", kind))
    except BadInputError as error:
        print(limit, "refused", "cannot write" in str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("kind", ["duckdb", "parquet", "csv"])
def test_export_without_space_is_complete_or_leaves_nothing(run, tmp_path, kind):
    """A limit of the file size takes the place of a full disk."""
    limits = [0, 4_096, 20_000, 60_000, 300_000, 1_000_000, 3_000_000, 6_000_000, 100_000_000]
    words = [sys.executable, "-c", FULL_DISK, str(run.folder.runs), str(tmp_path), kind, *map(str, limits)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    results = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    complete = [limit for limit, result in results.items() if not result.startswith("refused")]
    assert 0 < len(complete) < len(limits)
    assert {results[limit] for limit in complete} == {results["100000000"]}
    assert {result for result in results.values() if result.startswith("refused")} == {"refused True"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{limit}.out" for limit in complete)
    expected = Catalog(run.folder.runs).rows("select count(*) as n from contexts")[0]["n"]
    for limit in complete if kind == "duckdb" else ():
        with duckdb.connect(str(tmp_path / f"{limit}.out"), read_only=True) as connection:
            assert connection.execute("select count(*) from contexts").fetchone() == (expected,)
