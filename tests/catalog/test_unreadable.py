"""Parquet that is none: the lines are read where nothing stands for them, and junk gets one clear error."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ockham.catalog import Catalog
from ockham.catalog.run_tables import policies_tables, runs_table
from ockham.cli import build_app
from ockham.errors import UnverifiableError
from ockham.guard import Guard
from ockham.record.parquet.builder import update_parquet
from tests.helpers.events import lines, log_folder

COUNT = "select count(*) as n from events"
MENDED = "`ockham repair RUN` makes it anew"


@pytest.fixture
def run(tmp_path):
    folder = log_folder(tmp_path)
    update_parquet(folder, 1, 0, last=True)
    return folder


def parquet(run, kind="decisions"):
    return next((run.path / kind).glob("day=*/*.parquet"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.timeout(60)
def test_a_pipe_or_folder_stands_for_nothing(run, make):
    """Nobody waits for it, the answer comes from the lines, and repair clears it away."""
    path = parquet(run)
    path.unlink()
    make(path)
    assert Catalog(run.runs).rows(COUNT) == [{"n": len(lines(run))}]
    with Guard(run.runs) as guard:
        assert guard.query(COUNT).table.to_pylist() == [{"n": len(lines(run))}]
    done = CliRunner().invoke(build_app(), ["--runs", str(run.runs), "doctor"])
    assert "segments without Parquet" in done.stdout


def junk(path):
    path.write_bytes(b"no Parquet" * 500)


def nothing(path):
    path.write_bytes(b"")


def other_columns(path):
    pq.write_table(pa.table({"x": [1]}), path)


def broken_footer(path):
    data = path.read_bytes()
    path.write_bytes(data[:-3000] + bytes(2992) + data[-8:])


@pytest.mark.parametrize("spoil", [junk, nothing, other_columns, broken_footer])
def test_junk_gets_one_clear_error(run, spoil):
    """Not a traceback, and no word of memory or time; exit status 3 whatever asks."""
    spoil(parquet(run))
    with pytest.raises(UnverifiableError, match=r"a Parquet file cannot be read .* makes it anew"):
        Catalog(run.runs)
    with Guard(run.runs) as guard, pytest.raises(UnverifiableError, match="a Parquet file cannot be read"):
        guard.query(COUNT)


@pytest.mark.parametrize(
    "about", [b'{"facts":5,"data":[],"git":"x"}', b'{"created":7,"user":[1]}', b"[]", b"\xff"]
)
def test_run_json_of_any_shape_gives_a_row(run, about):
    """With the ID alone where nothing else can be read."""
    run.run_json.write_bytes(about)
    assert [row["run_id"] for row in runs_table([run]).to_pylist()] == ["a"]


@pytest.mark.parametrize(
    "content", [b'{"plugins":5}', b'{"plugins":[1,{"name":2}]}', b'{"name":["x"]}', b"5"]
)
def test_a_policy_of_any_shape_gives_a_row(run, content):
    """Its text can still be read, and its digest is verify's business."""
    path = run.path / "policies" / f"{'0' * 64}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    policies, _ = policies_tables([run])
    assert f"sha256:{'0' * 64}" in policies.column("policy_revision").to_pylist()
