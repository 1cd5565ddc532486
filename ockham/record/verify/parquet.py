"""Verification of Parquet files: each contains exactly the rows of its segments, and its sidecar matches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ockham.record.parquet.coverage import (
    log_of_file,
    read_coverage,
    read_source_segments,
    segment_entry,
    sidecar_bytes,
    sidecar_path,
)
from ockham.record.parquet.tables import (
    ROWS_PER_ROW_GROUP,
    SCHEMAS,
    merge_row_ranges,
    parquet_bytes,
    row_range,
    tables_from_lines,
)
from ockham.record.run_folder import PARQUET_TABLES, RunFolder, read_regular_file
from ockham.record.segment_reader import read_complete_lines
from ockham.record.verify.report import VerificationReport

# Sidecar entry of a segment, and its rows by kind.
SegmentRows = tuple[dict[str, Any], dict[str, pa.Table]]
_UNREADABLE = (OSError, ValueError, OverflowError, pa.ArrowException)  # OverflowError: an invalid time


class _ParquetCheck:
    """One Parquet file, compared with its source segments one after the other."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.made = [name for name, _ in read_source_segments(path) or ()]
        self.matches = True
        self._next = 0
        self._segments: list[dict[str, Any]] = []
        self._rows = row_range(SCHEMAS[kind].empty_table())
        self._file: pq.ParquetFile | None = None
        self._group = 0
        self._waiting = SCHEMAS[kind].empty_table()

    def compare_segment(self, segment: dict[str, Any], expected: pa.Table) -> None:
        """Compare the rows of one segment with the next rows of the file."""
        if not self.matches:
            return
        self._segments.append(segment)
        self._rows = merge_row_ranges(self._rows, row_range(expected))
        try:
            self.matches = _same(self._read(expected.num_rows), expected)
        except _UNREADABLE:
            self.matches = False

    def is_consistent(self) -> bool:
        """Return True if the file contains these rows and no others."""
        try:
            data = read_regular_file(self.path)
            content = read_regular_file(sidecar_path(self.path))
            return (
                self.matches
                and [segment["name"] for segment in self._segments] == self.made
                and self._read(1).num_rows == 0
                and content == sidecar_bytes(data, self._rows, self._segments)
            )
        except _UNREADABLE:
            return False
        finally:
            if self._file is not None:
                self._file.close()

    def _read(self, count: int) -> pa.Table:
        """Return the next rows, at most `count`."""
        if self._file is None:
            self._file = pq.ParquetFile(self.path)
        while self._waiting.num_rows < count and self._group < self._file.num_row_groups:
            if self._file.metadata.row_group(self._group).num_rows > ROWS_PER_ROW_GROUP:
                raise ValueError(
                    "a row group that no writer of ours makes: a few bytes may unfold into any memory"
                )
            group = self._file.read_row_group(self._group)
            self._waiting = pa.concat_tables([self._waiting, group])
            self._group += 1
        found = self._waiting.slice(0, count)
        self._waiting = self._waiting.slice(count)
        return found


def check_parquet(
    folder: RunFolder,
    attempt: int,
    rank: int,
    report: VerificationReport,
    workers: Executor | None = None,
) -> None:
    """Report each Parquet file of a log that differs from its lines.

    The workers read the lines of the segments. This process compares their rows with the files. Without
    workers, it does both.
    """
    log = {segment.name: segment for segment in folder.segments(attempt, rank)}
    claims = _claims(folder, attempt, rank, report, set(log))
    claimed = [segment for name, segment in log.items() if any(name in claim.made for claim in claims)]
    rows = map(read_segment_rows, claimed) if workers is None else _map_bounded(workers, claimed)
    broken = set()
    for segment, made in zip(claimed, rows, strict=True):
        about_it = [claim for claim in claims if segment.name in claim.made]
        if made is None:
            # The lines are broken, which is reported elsewhere.
            broken |= {claim.path for claim in about_it}
            continue
        content, tables = made
        for claim in about_it:
            claim.compare_segment(content, tables[claim.kind])
    for claim in claims:
        if not claim.is_consistent() and claim.path not in broken:
            what = "does not hold what the lines hold, or its sidecar does not"
            cause = f"Parquet of log {attempt}-{rank}"
            report.add("derived", claim.path.relative_to(folder.path), what, cause=cause)


def read_segment_rows(segment: Path) -> SegmentRows | None:
    """Return the sidecar entry of a segment and its rows by kind, or None if a line is not an event."""
    try:
        lines, _ = read_complete_lines(segment)
        return segment_entry(segment.name, lines), tables_from_lines(lines)
    except ValueError:
        return None


def _map_bounded(workers: Executor, segments: Sequence[Path]) -> Iterator[SegmentRows | None]:
    """Yield the rows of each segment in order. Only as many as there are cores wait in memory."""
    waiting: deque[Future[SegmentRows | None]] = deque()
    for segment in segments:
        waiting.append(workers.submit(read_segment_rows, segment))
        if len(waiting) > len(os.sched_getaffinity(0)):
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def _claims(
    folder: RunFolder, attempt: int, rank: int, report: VerificationReport, log: set[str]
) -> list[_ParquetCheck]:
    """Return the Parquet files with source segments. All others are reported."""
    read = set(read_coverage(folder, attempt, rank).names)
    claims = []
    for kind in PARQUET_TABLES:
        for path in sorted((folder.path / kind).glob(f"day=*/{attempt}-{rank}-*.parquet")):
            if not path.is_file():
                what = "not a regular file; run `ockham repair`"
                report.add("derived", path.relative_to(folder.path), what)
                continue
            report.count("Parquet files")
            claim = _ParquetCheck(path, kind)
            if log_of_file(path.name) and claim.made and set(claim.made) <= log:
                claims.append(claim)
            # else: left by a crash, and no reader uses it.
            elif path.name in read or sidecar_path(path).exists():
                report.add(
                    "derived",
                    path.relative_to(folder.path),
                    "belongs to no segment of the log, or was made by another version: rebuild it",
                )
    return claims


def _same(found: pa.Table, expected: pa.Table) -> bool:
    """Return True if the rows are equal. NaN equals NaN."""
    if found.num_rows != expected.num_rows or not found.schema.equals(expected.schema):
        return False
    if found.equals(expected) or parquet_bytes(found.combine_chunks()) == parquet_bytes(expected):
        return True
    return repr(found.to_pylist()) == repr(expected.to_pylist())
