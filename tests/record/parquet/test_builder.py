"""Parquet files of segments: build, compact, list. Each event is read exactly once after any crash."""

from __future__ import annotations

import concurrent.futures
import hashlib
import itertools
import math
import shutil
from pathlib import Path

import filelock
import orjson
import pyarrow.parquet as pq
import pytest

from ockham.catalog import Catalog
from ockham.record.parquet import builder, coverage, tables
from ockham.record.parquet.builder import update_parquet
from ockham.record.parquet.coverage import (
    is_compacted,
    read_coverage,
    read_sidecar,
    sidecar_bytes,
    sidecar_path,
)
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from ockham.record.segment_reader import read_complete_lines
from ockham.record.verify.parquet import check_parquet
from ockham.record.verify.report import VerificationReport
from tests.helpers.events import REVISION, lines, log_folder


@pytest.fixture
def folder(tmp_path):
    return log_folder(tmp_path)


def small(folder, last=True):
    """Write one Parquet file per segment. *last* selects a closed log, or a log with a live writer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "_compact", lambda *_, **__: None)
        return update_parquet(folder, 1, 0, last=last)


def files(folder, kind="decisions"):
    return sorted(path.name for path in (folder.path / kind).rglob("*.parquet"))


def rows(folder, kind):
    """Return the rows of the Parquet files of a log and of the lines that no Parquet file covers."""
    found = read_coverage(folder, 1, 0)
    paths = {path.name: path for path in (folder.path / kind).rglob("*.parquet")}
    read = [row for name in found.names for row in pq.read_table(paths[name], partitioning=None).to_pylist()]
    for segment in found.segments:
        left, _ = read_complete_lines(folder.log_dir(1, 0) / segment)
        read += tables.tables_from_lines(left)[kind].to_pylist()
    return sorted(read, key=lambda row: row["sequence"])


def complaints(folder):
    report = VerificationReport("a")
    check_parquet(folder, 1, 0, report)
    return [(Path(f.place).name, f.message) for f in report.findings]


@pytest.mark.parametrize("make", [small, lambda folder: update_parquet(folder, 1, 0, last=True)])
def test_parquet_equals_the_table_of_the_lines(folder, make):
    """This holds for single and compacted files of each kind."""
    make(folder)
    assert read_coverage(folder, 1, 0).segments == []
    for kind, table in tables.tables_from_lines(lines(folder)).items():
        assert repr(rows(folder, kind)) == repr(table.to_pylist())
    assert complaints(folder) == []


def test_segment_that_can_grow_is_read_as_lines(folder):
    """Two sealed segments are too few to compact."""
    update_parquet(folder, 1, 0)
    assert read_coverage(folder, 1, 0) == (
        ["1-0-000000000000.parquet", "1-0-000000000010.parquet"],
        ["000000000020.jsonl"],
    )


def test_segment_that_grew_is_read_as_lines_again(folder):
    """Parquet covers only the bytes that it was made from."""
    small(folder)
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(b'{"torn')
    assert read_coverage(folder, 1, 0).segments == ["000000000020.jsonl"]


def test_second_update_writes_nothing(folder):
    """Matching files remain."""
    assert update_parquet(folder, 1, 0, last=True) == 3
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*.parquet")}
    assert update_parquet(folder, 1, 0, last=True) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*.parquet")} == before


def test_finished_log_has_one_parquet_file_per_kind(folder):
    """The sidecar names range, digest and segments."""
    update_parquet(folder, 1, 0, last=True)
    for kind in PARQUET_TABLES:
        assert files(folder, kind) == ["1-0-000000000000-000000000025.parquet"]
    path = next((folder.path / "decisions").rglob("*.parquet"))
    metadata = read_sidecar(path)
    made = tables.tables_from_lines(lines(folder))["decisions"].column("sequence").to_pylist()
    assert path.parent.name == "day=" + orjson.loads(lines(folder)[0])["time"][:10]
    assert (metadata["first_sequence"], metadata["last_sequence"], metadata["rows"]) == (
        made[0],
        made[-1],
        len(made),
    )
    assert metadata["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(s["name"], s["sha256"]) for s in metadata["segments"]] == [
        (s.name, hashlib.sha256(s.read_bytes()).hexdigest()) for s in folder.segments(1, 0)
    ]


def test_running_log_is_compacted_in_fixed_numbers_of_segments(tmp_path, monkeypatch):
    """Other sealed segments wait."""
    monkeypatch.setattr(builder, "COMPACTED_SEGMENTS", 3)
    folder = log_folder(tmp_path, 84)
    update_parquet(folder, 1, 0)
    assert [(is_compacted(name), name[4:16]) for name in files(folder)] == [
        (True, "000000000000"),
        (True, "000000000030"),
        (True, "000000000060"),
    ]
    update_parquet(folder, 1, 0, last=True)
    assert complaints(folder) == []
    assert read_coverage(folder, 1, 0).segments == []


@pytest.mark.parametrize("last", [False, True])
def test_segments_of_two_days_are_not_joined(folder, last):
    """Readers select by day."""
    small(folder)
    for part in [part for kind in PARQUET_TABLES for part in (kind, f"sidecars/{kind}")]:
        day = next((folder.path / part).glob("day=*"))
        (later := day.with_name("day=2099-01-01")).mkdir()
        for path in day.glob("*0020.*"):
            path.rename(later / path.name)
    # A past day is compacted while the log grows.
    update_parquet(folder, 1, 0, last=last)
    assert files(folder) == ["1-0-000000000000-000000000019.parquet", "1-0-000000000020.parquet"]


def test_each_event_is_read_once_after_a_crash_at_any_step(tmp_path):
    """The crash precedes each change of the folder."""
    honest = log_folder(tmp_path / "honest", 12)
    ids = {
        kind: table.column("sequence").to_pylist()
        for kind, table in tables.tables_from_lines(lines(honest)).items()
    }
    for stop in itertools.count():
        folder = RunFolder(shutil.copytree(honest.runs, tmp_path / str(stop)), "a")
        ended = _update_until(folder, stop)
        for kind in PARQUET_TABLES:
            assert [row["sequence"] for row in rows(folder, kind)] == ids[kind], (stop, kind)
        if stop % 6 == 0:
            found = Catalog(folder.runs).sql("select sequence from events order by all")
            assert found.column("sequence").to_pylist() == ids["events"], stop
        assert complaints(folder) == []
        # The next update completes the work, and leaves no temporary file.
        update_parquet(folder, 1, 0, last=True)
        assert [len(files(folder, kind)) for kind in PARQUET_TABLES] == [1, 1, 1]
        assert not list(folder.path.rglob("*.tmp"))
        if ended:
            break
    # Two segments: 12 new names, 6 names of the compacted files, and 12 removed names.
    assert stop == 30


class _Crash(BaseException):
    """Error that no code catches. It simulates a kill."""


def _update_until(folder, changes):
    """Return True if the update needs at most *changes* renames and removals."""
    left = iter(range(changes))

    def dies(does):
        def instead(*words, **named):
            if next(left, None) is None:
                raise _Crash
            return does(*words, **named)

        return instead

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "unlink"):
            patch.setattr(Path, name, dies(getattr(Path, name)))
        try:
            update_parquet(folder, 1, 0, last=True)
        except _Crash:
            return False
    return True


def test_file_that_differs_from_its_sidecar_is_not_compacted(folder):
    """It remains and is reported."""
    small(folder)
    path = sorted((folder.path / "decisions").rglob("*.parquet"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    update_parquet(folder, 1, 0, last=True)
    assert len(files(folder)) == 3
    assert [name for name, _ in complaints(folder)] == [path.name]


@pytest.mark.parametrize("lie", ["row", "order", "missing", "more", "segments"])
def test_compacted_file_with_wrong_rows_is_reported(folder, lie):
    """Its sidecar agrees with it."""
    update_parquet(folder, 1, 0, last=True)
    path = next((folder.path / "contexts").rglob("*.parquet"))
    metadata = read_sidecar(path)
    table = pq.read_table(path, partitioning=None)
    if lie == "row":
        at = table.schema.get_field_index("task_loss")
        values = table.column(at).to_pylist()
        values[5] = 9.0
        table = table.set_column(at, table.schema.field(at), [values])
    elif lie == "segments":
        metadata["segments"] = metadata["segments"][:-1]
    else:
        table = {
            "order": table.take([1, 0, *range(2, 12)]),
            "missing": table.slice(0, 11),
            "more": table.take([*range(12), 11]),
        }[lie]
    data = tables.parquet_bytes(table.combine_chunks())
    path.write_bytes(data)
    sidecar_path(path).write_bytes(sidecar_bytes(data, tables.row_range(table), metadata["segments"]))
    assert [name for name, _ in complaints(folder)] == [path.name]


@pytest.mark.parametrize("kind", PARQUET_TABLES)
def test_file_without_sidecar_is_ignored_or_reported(folder, kind):
    """The sidecar of the last kind decides."""
    update_parquet(folder, 1, 0, last=True)
    next((folder.path / "sidecars" / kind).rglob("*.json")).unlink()
    assert (
        bool(complaints(folder)) == (not read_coverage(folder, 1, 0).segments) == (kind != PARQUET_TABLES[-1])
    )


def test_file_with_other_columns_is_ignored_and_rewritten(folder, monkeypatch):
    """The lines are read until then."""
    with pytest.MonkeyPatch.context() as older:
        short = {**tables.SCHEMAS, "contexts": tables.CONTEXTS.remove(10)}
        for module in (tables, builder):
            older.setattr(module, "SCHEMAS", short)
        whole = tables.context_row
        older.setattr(tables, "context_row", lambda data: whole(data)[:2] + whole(data)[3:])
        older.setattr(coverage, "COLUMNS", "an older one")
        update_parquet(folder, 1, 0, last=True)
    assert len(read_coverage(folder, 1, 0).segments) == 3
    names = tables.CONTEXTS.names
    assert Catalog(folder.runs).sql("select * from contexts").num_rows == 12
    assert len(complaints(folder)) == len(PARQUET_TABLES)
    assert update_parquet(folder, 1, 0, last=True) == 3
    assert complaints(folder) == []
    assert pq.read_schema(next((folder.path / "contexts").rglob("*.parquet"))).names == names


def test_nan_rows_are_equal(folder):
    """NaN equals NaN in the comparison."""
    update_parquet(folder, 1, 0, last=True)
    assert any(math.isnan(row["observed"]) for row in rows(folder, "decisions"))
    assert complaints(folder) == []
    assert REVISION == rows(folder, "decisions")[0]["policy_revision"]


def test_locked_update_is_left_to_the_other_process(folder, monkeypatch):
    """The lines are read meanwhile."""
    monkeypatch.setattr(builder, "_LOCK_SECONDS", 0.05)
    place = folder.path / "sidecars"
    place.mkdir()
    with filelock.FileLock(str(place / ".1-0.lock")), concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(update_parquet, folder, 1, 0, last=True).result() == 0
    assert files(folder) == []
    assert len(read_coverage(folder, 1, 0).segments) == 3
    assert update_parquet(folder, 1, 0, last=True) == 3


@pytest.mark.parametrize("tail", [b'{"torn', bytes(9)])
def test_torn_segment_waits_for_recovery(folder, tail):
    """The complete ones before it are written."""
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(tail)
    assert update_parquet(folder, 1, 0, last=True) == 2
    folder.segments(1, 0)[-1].write_bytes(tail)
    assert update_parquet(folder, 1, 0, last=True) == 0
    assert read_coverage(folder, 1, 0).segments == ["000000000020.jsonl"]


def test_temporary_files_of_a_crash_are_removed(folder):
    """Those of another log remain."""
    update_parquet(folder, 1, 0)
    day = next((folder.path / "events").glob("day=*"))
    for name in (".1-0-000000000000.parquet.9.tmp", ".1-1-000000000000.parquet.9.tmp"):
        (day / name).write_bytes(b"half")
    update_parquet(folder, 1, 0, last=True)
    assert [path.name for path in day.glob(".*.tmp")] == [".1-1-000000000000.parquet.9.tmp"]


def test_builder_process_covers_sealed_segments_of_every_log(folder, monkeypatch):
    """It runs at low priority on one core."""
    shutil.copytree(folder.log_dir(1, 0), folder.log_dir(1, 1))
    done = []
    monkeypatch.setattr(builder.os, "nice", done.append)
    monkeypatch.setattr(builder.pa, "set_cpu_count", done.append)
    assert builder.main([str(folder.runs), folder.run_id]) == 0
    assert done == [10, 1]
    for rank in (0, 1):
        assert read_coverage(folder, 1, rank).segments == ["000000000020.jsonl"]


@pytest.mark.parametrize("junk", [b"{\n", b"[]\n", b"\n", b"[" * 3_000 + b"\n"])
def test_segment_with_a_line_that_is_not_an_event_is_read_as_lines(folder, junk):
    """Someone can append such a line without a signature. Verification reports it."""
    last = folder.segments(1, 0)[-1]
    last.write_bytes(last.read_bytes() + junk)
    update_parquet(folder, 1, 0, last=True)
    assert read_coverage(folder, 1, 0).segments == [last.name]
