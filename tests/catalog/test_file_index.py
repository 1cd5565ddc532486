"""File index: current files are listed, and unchanged folders are not scanned again."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import orjson
import pytest

from ockham.catalog import file_index
from ockham.catalog.file_index import FileIndex
from ockham.record.parquet.coverage import read_coverage
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from tests.helpers.runs import make_run


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return make_run(tmp_path, "a", 30).folder


def make_old(folder: RunFolder) -> None:
    """Set the modification time of all folders to an hour ago, so that the index uses its cache."""
    past = time.time_ns() - 3_600_000_000_000
    for path in [folder.path, *folder.path.rglob("*")]:
        if path.is_dir():
            os.utime(path, ns=(past, past))


def equals_full_scan(index: FileIndex, folder: RunFolder) -> bool:
    """Return True if the index lists the same files as a full scan."""
    listing, coverage = index.scan([folder]), read_coverage(folder, 1, 0)
    return [file.path.name for file in listing.segments] == coverage.segments and all(
        [Path(file.path).name for file in files] == coverage.names for files in listing.parquet.values()
    )


def test_sealed_run_is_listed_as_parquet_files(folder):
    """A sealed run has one Parquet file per kind and no segments, also in the second scan."""
    index = FileIndex()
    make_old(folder)
    for _ in range(2):
        listing = index.scan([folder])
        counts = {kind: len(paths) for kind, paths in listing.parquet.items()}
        assert counts == dict.fromkeys(PARQUET_TABLES, 1)
        assert listing.segments == []
        assert listing.attempts == [("a", 1)]


@pytest.mark.parametrize("kind", PARQUET_TABLES)
def test_missing_parquet_file_lists_segment(folder, kind):
    """If one Parquet file is missing, the segment is listed, also after an earlier scan."""
    index = FileIndex()
    make_old(folder)
    index.scan([folder])
    next((folder.path / kind).rglob("*.parquet")).unlink()
    assert [file.path for file in index.scan([folder]).segments] == folder.segments(1, 0)
    assert equals_full_scan(index, folder)


def test_grown_segment_is_listed_as_segment(folder):
    """A Parquet file that covers fewer bytes than the segment is not used."""
    index = FileIndex()
    make_old(folder)
    index.scan([folder])
    segment = folder.segments(1, 0)[-1]
    segment.write_bytes(segment.read_bytes() + segment.read_bytes().splitlines(keepends=True)[-1])
    make_old(folder)
    assert [file.path for file in index.scan([folder]).segments] == [segment]
    assert equals_full_scan(index, folder)


def test_log_without_a_segment_has_no_files(folder):
    """A run that was killed at its start must not hide all other runs."""
    for path in folder.log_dir(1, 0).iterdir():
        if path.is_file():
            path.unlink()
    listing = FileIndex().scan([folder])
    assert listing.logs == [("a", 1, 0)]
    assert listing.segments == []


def test_replaced_sidecar_is_read_again(folder):
    """A sidecar that is replaced with a rename is read again."""
    index = FileIndex()
    make_old(folder)
    index.scan([folder])
    sidecar = next((folder.path / "sidecars" / PARQUET_TABLES[-1]).rglob("*.json"))
    replacement = sidecar.with_name("x.tmp")
    replacement.write_bytes(
        orjson.dumps(
            {**orjson.loads(sidecar.read_bytes()), "segments": [{"name": "000000000000.jsonl", "bytes": 1}]}
        )
    )
    replacement.rename(sidecar)
    assert [file.path for file in index.scan([folder]).segments] == folder.segments(1, 0)


def test_file_added_in_same_clock_tick_is_listed(folder, monkeypatch):
    """A folder with a very recent modification time is scanned again."""
    index = FileIndex()
    parquet = next((folder.path / "contexts").rglob("*.parquet"))
    moved = Path(f"{parquet}.moved")
    parquet.rename(moved)
    changed = parquet.parent.stat().st_mtime_ns
    monkeypatch.setattr(file_index.time, "time_ns", itertools.count(changed + 1).__next__)
    assert index.scan([folder]).segments
    moved.rename(parquet)
    os.utime(parquet.parent, ns=(changed, changed))
    assert not index.scan([folder]).segments


def test_new_run_folder_lists_no_files(tmp_path):
    """A new run folder has no logs and no Parquet files."""
    folder = RunFolder(tmp_path, "new")
    folder.create()
    listing = FileIndex().scan([folder])
    assert listing.segments == []
    assert listing.attempts == []
