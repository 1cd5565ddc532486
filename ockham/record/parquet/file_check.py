"""Check of Parquet files before they are read: digest, columns, and the positions of their rows.

The digest in a sidecar detects a file that was changed or damaged. It is not a proof: anyone who can write
the Parquet file can also write its sidecar. Only `verify` compares the rows with the signed lines.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ockham.record.parquet.coverage import SourceSegments, read_sidecar, read_source_segments, sidecar_name
from ockham.record.parquet.tables import ROWS_PER_ROW_GROUP, SCHEMAS
from ockham.record.run_folder import first_sequence, open_regular_file

# A change within one tick of the file system's clock would not change the stamp.
_RECENT_NS = 100_000_000
_UNREADABLE = (OSError, ValueError, OverflowError, pa.ArrowException)
LogKey = tuple[str, int, int]


class FileStamp(NamedTuple):
    """Values that change when a file changes."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class CheckedFile(NamedTuple):
    """Parquet file that matches its sidecar.

    Attributes:
        segments: Source segments, from the sidecar.
        rows: Number of rows.
        stamp: Stamp of the checked bytes.

    """

    segments: SourceSegments
    rows: int
    stamp: FileStamp


def read_stamp(path: str | Path) -> FileStamp | None:
    """Return the stamp of a file, or None if it does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path object costs more than the call
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileStamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class FileChecker:
    """Checks Parquet files. A file is read again only after it or its sidecar has changed."""

    def __init__(self) -> None:
        self._results: dict[str, tuple[tuple[FileStamp, FileStamp], CheckedFile | None]] = {}

    def check(self, parquet: str, kind: str, log: LogKey) -> CheckedFile | None:
        """Return the file, or None if it does not match its sidecar, its name or its log.

        Args:
            parquet: Path of the file.
            kind: Its kind, see `PARQUET_TABLES`.
            log: Run ID, attempt and rank of the log that it belongs to.

        """
        stamps = (read_stamp(parquet), read_stamp(sidecar_name(parquet)))
        if stamps[0] is None or stamps[1] is None:
            return None
        known = self._results.get(parquet)
        if known is not None and known[0] == stamps:
            return known[1]
        result = _check_file(Path(parquet), kind, log, stamps[0])
        newest = max(max(stamp.mtime_ns, stamp.ctime_ns) for stamp in stamps if stamp is not None)
        if time.time_ns() - newest > _RECENT_NS:
            self._results[parquet] = ((stamps[0], stamps[1]), result)
        return result


def _check_file(path: Path, kind: str, log: LogKey, stamp: FileStamp) -> CheckedFile | None:
    sidecar, segments = read_sidecar(path), read_source_segments(path)
    if sidecar is None or segments is None:
        return None
    try:
        with open_regular_file(path) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sidecar.get("sha256"):
                return None
            file.seek(0)
            rows = _check_rows(file, kind, log, first_sequence(Path(segments[0][0])))
    except _UNREADABLE:
        return None
    return None if rows is None else CheckedFile(segments, rows, stamp)


def _check_rows(file: IO[bytes], kind: str, log: LogKey, first: int) -> int | None:
    """Return the number of rows, or None if the file cannot have been made from the segments in its name.

    `events` has one row for each line, so its sequence numbers are consecutive. An unsigned line could have
    the sequence number of a signed one.
    """
    parquet = pq.ParquetFile(file)
    metadata = parquet.metadata
    groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if not parquet.schema_arrow.equals(SCHEMAS[kind]) or max(groups, default=0) > ROWS_PER_ROW_GROUP:
        return None
    if kind == "events":
        # On a small file threads cost more than they save.
        columns = ["run_id", "attempt", "rank", "sequence"]
        table = parquet.read(columns=columns, use_threads=len(groups) > 1)
        if leading_rows(table, log, first) != table.num_rows:
            return None
    return metadata.num_rows


def leading_rows(events: pa.Table, log: LogKey, first: int) -> int:
    """Return how many leading rows of `events` have the identity of *log* and consecutive sequence numbers.

    Args:
        events: Table of the kind `events`.
        log: Run ID, attempt and rank.
        first: Sequence number of the first row.

    """
    before = pa.array([first - 1], pa.int64())
    sequences = pa.concat_arrays([before, *events.column("sequence").chunks])
    matches = pc.equal(pc.pairwise_diff(sequences).slice(1), pa.scalar(1))
    expected: dict[str, pa.Scalar[Any]] = {
        "run_id": pa.scalar(log[0]),
        "attempt": pa.scalar(log[1]),
        "rank": pa.scalar(log[2]),
    }
    for name, value in expected.items():
        matches = pc.and_(matches, pc.equal(events.column(name), value))
    position = pc.index(matches.fill_null(False), False).as_py()
    return events.num_rows if position < 0 else int(position)
