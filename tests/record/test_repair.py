"""Repair: rebuilding and compacting derived files. Log lines and the files of a live writer are unchanged."""

from __future__ import annotations

import shutil
from contextlib import closing

import orjson
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ockham.catalog import Catalog
from ockham.cli import build_app
from ockham.errors import RunError
from ockham.record.log_writer import LogWriter
from ockham.record.parquet import builder
from ockham.record.parquet.builder import update_parquet
from ockham.record.parquet.coverage import is_compacted, read_coverage
from ockham.record.recovery import recover_log
from ockham.record.repair import compact, rebuild
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.run import verify_run
from tests.helpers.events import REVISION, decision, lines, log_folder, run_folder


def test_compact_joins_small_parquet_files(tmp_path, monkeypatch):
    """Answers to queries stay the same."""
    folder = log_folder(tmp_path, 60)
    monkeypatch.setattr(builder, "_compact", lambda *_, **__: None)
    update_parquet(folder, 1, 0, last=True)
    monkeypatch.undo()
    before = lines(folder)
    done = CliRunner().invoke(build_app(), ["--runs", str(tmp_path), "repair", "a", "--compact"])
    assert (done.exit_code, done.stderr) == (0, "a: 21 Parquet files before, 3 now\n")
    assert compact(folder) == (3, 3)
    assert rebuild(folder).parquet == 3
    assert lines(folder) == before
    assert Catalog(tmp_path).rows("select count(*) as n from events") == [{"n": len(before)}]


def test_compact_skips_the_last_segment_of_a_running_run(tmp_path):
    """It still grows."""
    folder = run_folder(tmp_path)
    log = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=10)
    for i in range(35):
        log.append("decision.made", decision(i), iter_num=i)
    log.flush()
    # Three segments are sealed. That is too few to compact them while the run continues.
    assert rebuild(folder).parquet == 9
    found = read_coverage(folder, 1, 0)
    assert [is_compacted(name) for name in found.names] == [False] * 3
    assert len(found.segments) == 1
    log.close()
    assert compact(folder) == (9, 3)


@pytest.mark.parametrize(
    "place", ["contexts", "contexts/day=2026-01-01", "log", "log/1-0/tile", "log/1-0/lock"]
)
@pytest.mark.parametrize("command", [rebuild, compact])
def test_repair_does_not_follow_links(tmp_path, place, command):
    """A link could point to another folder."""
    folder = log_folder(tmp_path / "runs")
    victim = tmp_path / "victim"
    (victim / "day=2026-01-01").mkdir(parents=True)
    (victim / "day=2026-01-01" / "precious.parquet").write_bytes(b"x")
    link = folder.path / place
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim)
    with pytest.raises(RunError, match=r"is a link|no log to judge"):
        command(folder)
    assert [p.name for p in victim.rglob("*")] == ["day=2026-01-01", "precious.parquet"]


def test_repair_reports_a_file_in_place_of_a_folder(tmp_path):
    """The error is a RunError that names the path."""
    folder = log_folder(tmp_path)
    shutil.rmtree(folder.path / "contexts", ignore_errors=True)
    (folder.path / "contexts").write_bytes(b"")
    with pytest.raises(RunError, match=r"cannot rebuild .*contexts"):
        compact(folder)


def test_repair_refuses_an_unfinished_line_within_the_log(tmp_path):
    """No crash leaves it, and new Parquet files would hide it."""
    folder = run_folder(tmp_path)
    with closing(LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=10)) as log:
        for i in range(25):
            log.append("decision.made", decision(i), iter_num=i)
    with folder.segments(1, 0)[0].open("ab") as file:
        file.write(b"torn")
    with pytest.raises(RunError, match="nothing is rebuilt: corruption"):
        rebuild(folder)


def test_repair_writes_tiles_of_signed_lines_only(tmp_path):
    """A tile over an unsigned line would make it look signed to a reader of tiles."""
    folder = log_folder(tmp_path, 7)
    count = len(lines(folder))
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(lines(folder)[-1] + b"\n")
    tile = folder.log_dir(1, 0) / "tile" / "0" / "000.p"
    shutil.rmtree(tile)
    rebuild(folder)
    assert [path.name for path in tile.iterdir()] == [str(count)]


def test_recovery_removes_parquet_rows_of_cut_lines(tmp_path):
    """A repair before the resume wrote rows of unsigned lines, compacted with those of other segments."""
    folder = log_folder(tmp_path, 60)
    count = len(lines(folder))
    event = orjson.loads(lines(folder)[-1])
    event["data"]["sequence"] = count
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(orjson.dumps(event) + b"\n")
    key = load_or_create_signer().verifier
    rebuild(folder)
    assert sum(count_rows(folder)) == count + 1
    assert recover_log(folder, 1, 0, [key])["cut_events"] == 1
    assert sum(count_rows(folder)) == count
    assert "derived" not in verify_run(folder, keys=[key]).counts


def count_rows(folder):
    """Return the number of rows of each Parquet file of the largest table."""
    return [pq.read_metadata(path).num_rows for path in (folder.path / "events").glob("day=*/*.parquet")]
