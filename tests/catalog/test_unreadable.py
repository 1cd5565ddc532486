"""Unreadable Parquet files, run.json and policies."""

from __future__ import annotations

import hashlib
import os

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ockham.catalog import Catalog
from ockham.catalog.run_tables import policies_tables, read_run_rows, runs_table
from ockham.cli import build_app
from ockham.errors import UnverifiableError
from ockham.guard import Guard
from ockham.record.parquet.builder import update_parquet
from ockham.record.parquet.coverage import sidecar_path
from tests.helpers.events import lines, log_folder
from tests.helpers.log_edits import replace_data, sign_log

COUNT = "select count(*) as n from events"


@pytest.fixture
def run(tmp_path):
    folder = log_folder(tmp_path)
    update_parquet(folder, 1, 0, last=True)
    return folder


def parquet_file(run, kind="decisions"):
    return next((run.path / kind).glob("day=*/*.parquet"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.timeout(120)
def test_catalog_with_pipe_or_folder_as_parquet_reads_lines(run, make):
    """Readers do not block on the file, and read the lines. doctor reports the missing Parquet file."""
    path = parquet_file(run)
    path.unlink()
    make(path)
    assert Catalog(run.runs).rows(COUNT) == [{"n": len(lines(run))}]
    with Guard(run.runs) as guard:
        assert guard.query(COUNT).table.to_pylist() == [{"n": len(lines(run))}]
    result = CliRunner().invoke(build_app(), ["--runs", str(run.runs), "doctor"])
    assert "segments without Parquet" in result.stdout


def invalid_file(path):
    path.write_bytes(b"no Parquet" * 500)


def empty_file(path):
    path.write_bytes(b"")


def other_columns(path):
    pq.write_table(pa.table({"x": [1]}), path)


def broken_footer(path):
    data = path.read_bytes()
    path.write_bytes(data[:-3000] + bytes(2992) + data[-8:])


@pytest.mark.parametrize("has_digest", [False, True])
@pytest.mark.parametrize("damage", [invalid_file, empty_file, other_columns, broken_footer])
def test_invalid_parquet_file_is_not_read(run, damage, has_digest):
    """The catalog and the guard read the lines, also if the sidecar has the digest of the invalid file."""
    damage(parquet_file(run))
    if has_digest:
        sidecar = sidecar_path(parquet_file(run))
        digest = hashlib.sha256(parquet_file(run).read_bytes()).hexdigest()
        sidecar.write_bytes(orjson.dumps({**orjson.loads(sidecar.read_bytes()), "sha256": digest}))
    expected = [{"n": len(lines(run))}]
    assert Catalog(run.runs).rows(COUNT) == expected
    with Guard(run.runs) as guard:
        assert guard.query(COUNT).table.to_pylist() == expected


@pytest.mark.parametrize(
    "content", [b'{"facts":5,"data":[],"git":"x"}', b'{"created":7,"user":[1]}', b"[]", b"\xff"]
)
def test_runs_table_with_invalid_run_json_contains_run_id(run, content):
    """The row contains only the run ID if run.json has values of the wrong type."""
    run.run_json.write_bytes(content)
    assert [row["run_id"] for row in runs_table([read_run_rows(run)]).to_pylist()] == ["a"]


@pytest.mark.parametrize(
    "content", [b'{"plugins":5}', b'{"plugins":[1,{"name":2}]}', b'{"name":["x"]}', b"5"]
)
def test_policies_table_with_invalid_policy_contains_revision(run, content):
    """An invalid policy still has a row with its revision."""
    path = run.path / "policies" / f"{'0' * 64}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    policies, _ = policies_tables([read_run_rows(run)])
    assert f"sha256:{'0' * 64}" in policies.column("policy_revision").to_pylist()


GARBAGE = (
    b"garbage",
    b"",
    b"{}",
    b"[]",
    b"\xff\xfe",
    b'{"type":7,"data":[]}',
    b'{"type":"ockham.run.finished.v1","data":{"sequence":"x"},"source":"ockham://runs/a","subject":1}',
    b"[" * 60_000,
)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("has_parquet", [False, True])
def test_unsigned_line_that_is_no_event_is_dropped_and_counted(tmp_path, garbage, has_parquet):
    """Queries answer from all other lines. Lines after it are read, and are unsigned too."""
    folder = log_folder(tmp_path)
    if has_parquet:
        update_parquet(folder, 1, 0, last=False)
    signed = len(lines(folder))
    catalog = Catalog(folder.runs)
    segment = folder.segments(1, 0)[-1]
    last = segment.read_bytes().splitlines()[-1]
    for count in (1, 2):
        with segment.open("ab") as file:
            file.write(garbage + b"\n" + replace_data(last, sequence=signed + 1) + b"\n")
        for each in (catalog, Catalog(folder.runs)):
            rows = each.rows("select signed, count(*) as n from events group by signed order by signed")
            assert rows == [{"signed": False, "n": count}, {"signed": True, "n": signed}]
            assert each.rows("select unsigned_events as n from run_summary") == [{"n": 2 * count}]
    with Guard(folder.runs) as guard:
        assert guard.query(COUNT).table.to_pylist() == [{"n": signed + 2}]
    assert Catalog(folder.runs, verified=True).rows(COUNT) == [{"n": signed}]
    for command in ("runs", "show a"):
        result = CliRunner().invoke(build_app(), ["--runs", str(folder.runs), *command.split()])
        assert (result.exit_code, "4 unsigned events not counted" in result.stderr) == (0, True)


def test_signed_line_that_is_no_event_is_an_error(tmp_path):
    """The message has its location."""
    folder = log_folder(tmp_path)
    segment = folder.segments(1, 0)[-1]
    number = len(segment.read_bytes().splitlines())
    with segment.open("ab") as file:
        file.write(b"garbage\n")
    sign_log(folder)
    with pytest.raises(UnverifiableError, match=rf"{segment}: line {number + 1} is not an event of Ockham"):
        Catalog(folder.runs)
