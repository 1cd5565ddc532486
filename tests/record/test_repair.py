"""Repair: rebuilding and compacting derived files. Log lines and the files of a live writer are unchanged."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from ockham.catalog import Catalog
from ockham.cli import build_app
from ockham.errors import RunError
from ockham.record.log_writer import LogWriter
from ockham.record.parquet import builder
from ockham.record.parquet.builder import update_parquet
from ockham.record.parquet.coverage import is_compacted, read_coverage
from ockham.record.repair import compact, rebuild
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
