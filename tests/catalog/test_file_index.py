"""File index: current files are listed, and unchanged folders are not scanned again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import orjson
import pytest

from ockham.catalog.file_index import FileIndex
from ockham.record.parquet.coverage import read_coverage
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from tests.helpers.runs import made_run


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return made_run(tmp_path, "a", 30).folder


def age(folder: RunFolder) -> None:
    """Every folder looks as if nothing had come for an hour, so that it is trusted."""
    past = time.time_ns() - 3_600_000_000_000
    for path in [folder.path, *folder.path.rglob("*")]:
        if path.is_dir():
            os.utime(path, ns=(past, past))


def agrees(listing: FileIndex, folder: RunFolder) -> bool:
    """The listing says what asking for every file says."""
    found, asked = listing.scan([folder]), read_coverage(folder, 1, 0)
    return [path.name for path in found.segments] == asked.segments and all(
        [Path(file.path).name for file in files] == asked.names for files in found.parquet.values()
    )


def test_sealed_run_is_listed_as_parquet_files(folder):
    """A sealed run has one Parquet file per kind and no segments, also in the second scan."""
    listing = FileIndex()
    age(folder)
    for _ in range(2):
        found = listing.scan([folder])
        assert {kind: len(paths) for kind, paths in found.parquet.items()} == dict.fromkeys(PARQUET_TABLES, 1)
        assert (found.segments, found.attempts) == ([], [("a", 1)])


@pytest.mark.parametrize("kind", PARQUET_TABLES)
def test_missing_parquet_file_lists_segment(folder, kind):
    """If one Parquet file is missing, the segment is listed, also after an earlier scan."""
    listing = FileIndex()
    age(folder)
    listing.scan([folder])
    next((folder.path / kind).rglob("*.parquet")).unlink()
    assert listing.scan([folder]).segments == folder.segments(1, 0)
    assert agrees(listing, folder)


def test_grown_segment_is_listed_as_segment(folder):
    """A Parquet file that covers fewer bytes than the segment is not used."""
    listing = FileIndex()
    age(folder)
    listing.scan([folder])
    segment = folder.segments(1, 0)[-1]
    segment.write_bytes(segment.read_bytes() + segment.read_bytes().splitlines(keepends=True)[-1])
    age(folder)
    assert listing.scan([folder]).segments == [segment]
    assert agrees(listing, folder)


def test_replaced_sidecar_is_read_again(folder):
    """A sidecar that is replaced with a rename is read again."""
    listing = FileIndex()
    age(folder)
    listing.scan([folder])
    beside = next((folder.path / PARQUET_TABLES[-1]).rglob("*.json"))
    other = beside.with_name("x.tmp")
    other.write_bytes(
        orjson.dumps(
            {**orjson.loads(beside.read_bytes()), "segments": [{"name": "000000000000.jsonl", "bytes": 1}]}
        )
    )
    other.rename(beside)
    assert listing.scan([folder]).segments == folder.segments(1, 0)


def test_file_added_in_same_clock_tick_is_listed(folder):
    """A folder with a very recent modification time is scanned again."""
    listing = FileIndex()
    parquet = next((folder.path / "contexts").rglob("*.parquet"))
    away = Path(f"{parquet}.away")
    parquet.rename(away)
    changed = parquet.parent.stat().st_mtime_ns
    assert listing.scan([folder]).segments
    away.rename(parquet)
    os.utime(parquet.parent, ns=(changed, changed))
    assert not listing.scan([folder]).segments


def test_new_run_folder_lists_no_files(tmp_path):
    """A new run folder has no logs and no Parquet files."""
    folder = RunFolder(tmp_path, "new")
    folder.create()
    found = FileIndex().scan([folder])
    assert (found.segments, found.attempts) == ([], [])
