"""Which files a reader reads: always those of now, though what has not changed is not asked for again."""

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


def test_a_sealed_run_is_read_as_parquet(folder):
    """One file of each kind, no line; the second look says the same."""
    listing = FileIndex()
    age(folder)
    for _ in range(2):
        found = listing.scan([folder])
        assert {kind: len(paths) for kind, paths in found.parquet.items()} == dict.fromkeys(PARQUET_TABLES, 1)
        assert (found.segments, found.attempts) == ([], [("a", 1)])


@pytest.mark.parametrize("kind", PARQUET_TABLES)
def test_a_missing_file_sends_the_reader_to_the_lines(folder, kind):
    """Whichever kind is gone, at once, also for one who has looked before."""
    listing = FileIndex()
    age(folder)
    listing.scan([folder])
    next((folder.path / kind).rglob("*.parquet")).unlink()
    assert listing.scan([folder]).segments == folder.segments(1, 0)
    assert agrees(listing, folder)


def test_a_segment_that_grew_is_read_as_lines(folder):
    """Parquet of fewer bytes than the segment has is not the segment."""
    listing = FileIndex()
    age(folder)
    listing.scan([folder])
    segment = folder.segments(1, 0)[-1]
    segment.write_bytes(segment.read_bytes() + segment.read_bytes().splitlines(keepends=True)[-1])
    age(folder)
    assert listing.scan([folder]).segments == [segment]
    assert agrees(listing, folder)


def test_what_stands_beside_is_read_again_where_it_is_replaced(folder):
    """As `write_durably` replaces it: by a rename."""
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


def test_what_comes_in_the_same_tick_of_the_clock_is_seen(folder):
    """A folder that changed just now is not trusted, whatever its time of change says."""
    listing = FileIndex()
    parquet = next((folder.path / "contexts").rglob("*.parquet"))
    away = Path(f"{parquet}.away")
    parquet.rename(away)
    changed = parquet.parent.stat().st_mtime_ns
    assert listing.scan([folder]).segments
    away.rename(parquet)
    os.utime(parquet.parent, ns=(changed, changed))
    assert not listing.scan([folder]).segments


def test_no_runs_no_files(tmp_path):
    """A folder that is being made has neither logs nor days."""
    folder = RunFolder(tmp_path, "new")
    folder.create()
    found = FileIndex().scan([folder])
    assert (found.segments, found.attempts) == ([], [])
