"""Index of the files that contain the events of runs, updated before each query.

An unchanged folder costs one `stat`. The modification time of a folder shows whether names were added or
removed. A sealed segment never grows, so only the last segment of each log is measured again. Without the
index a query over 500 segments took 0.6 s longer.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ockham.record.parquet.coverage import SourceSegments, log_of_file, select_coverage
from ockham.record.parquet.file_check import FileChecker, FileStamp, LogKey
from ockham.record.run_folder import PARQUET_TABLES, RunFolder, first_sequence

_MTIME_GRANULARITY_NS = 100_000_000


class ParquetFile(NamedTuple):
    """Parquet file of one or more sealed segments.

    Attributes:
        log: Run ID, attempt and rank.
        path: Path of the file.
        first: Sequence number of the first line of its segments.
        end: Sequence number after their last line.
        stamp: Stamp of the file when its digest was checked.

    """

    log: LogKey
    path: str
    first: int
    end: int
    stamp: FileStamp


class TailFile(NamedTuple):
    """Segment without Parquet files.

    Attributes:
        log: Run ID, attempt and rank.
        path: Path of the segment.
        first: Sequence number of its first line, from its name.
        following: Sequence number in the name of the next segment. None for the last one.

    """

    log: LogKey
    path: Path
    first: int
    following: int | None


class FileListing(NamedTuple):
    """Files of some runs: Parquet files by kind, segments without Parquet files, and all logs."""

    parquet: dict[str, list[ParquetFile]]
    segments: list[TailFile]
    logs: list[LogKey]

    @property
    def attempts(self) -> list[tuple[str, int]]:
        """Run ID and attempt of every log."""
        return [(run_id, attempt) for run_id, attempt, _ in self.logs]


class _Log(NamedTuple):
    changed: int
    # Segment name -> bytes.
    sizes: dict[str, int]


class FileIndex:
    """Scans run folders, and caches results that cannot have changed.

    Args:
        use_parquet: False lists every segment and no Parquet file.

    """

    def __init__(self, *, use_parquet: bool = True) -> None:
        self._use_parquet = use_parquet
        self._logs: dict[Path, _Log] = {}
        self._days: dict[str, tuple[int, dict[str, dict[str, str]]]] = {}
        self._checker = FileChecker()

    def scan(self, folders: Iterable[RunFolder]) -> FileListing:
        """Return the Parquet files and uncovered segments of the given runs."""
        listing = FileListing({kind: [] for kind in PARQUET_TABLES}, [], [])
        kinds = PARQUET_TABLES if self._use_parquet else ()
        for folder in folders:
            parquet = {kind: self._parquet(folder.path / kind) for kind in kinds}
            for attempt, rank in folder.logs():
                key = (folder.run_id, attempt, rank)
                paths = {kind: logs.get(f"{attempt}-{rank}", {}) for kind, logs in parquet.items()}
                listing.logs.append(key)
                self._add_log(listing, folder, key, paths)
        return listing

    def _add_log(
        self, listing: FileListing, folder: RunFolder, key: LogKey, paths: Mapping[str, Mapping[str, str]]
    ) -> None:
        sizes = self._log(folder, *key[1:]).sizes
        names = list(sizes)
        # A run that was killed at its start has a log without a segment.
        following = dict(itertools.zip_longest(names, map(_first, names[1:])))
        checked: dict[str, list[ParquetFile]] = {}

        def made_from(name: str) -> SourceSegments | None:
            files = self._check(key, {kind: paths[kind][name] for kind in PARQUET_TABLES}, following)
            checked[name] = [file for file, _ in files]
            return files[0][1] if files else None

        complete = set.intersection(*map(set, paths.values())) if paths else set()
        coverage = select_coverage(complete, sizes, made_from)
        path = folder.log_dir(*key[1:])
        listing.segments.extend(
            TailFile(key, path / name, _first(name), following[name]) for name in coverage.segments
        )
        for name in coverage.names:
            for kind, file in zip(PARQUET_TABLES, checked[name], strict=True):
                listing.parquet[kind].append(file)

    def _check(
        self, key: LogKey, paths: Mapping[str, str], following: Mapping[str, int | None]
    ) -> list[tuple[ParquetFile, SourceSegments]]:
        """Return the files of one name in every kind, or an empty list if one of them must not be read."""
        files = {kind: self._checker.check(path, kind, key) for kind, path in paths.items()}
        found = [file for file in files.values() if file is not None]
        if len(found) < len(PARQUET_TABLES) or len({file.segments for file in found}) > 1:
            return []
        # `events` has one row for each line.
        segments, rows = found[-1].segments, found[-1].rows
        first = _first(segments[0][0])
        expected_next = following.get(segments[-1][0])
        if expected_next is not None and expected_next != first + rows:
            return []
        return [
            (ParquetFile(key, path, first, first + rows, file.stamp), segments)
            for path, file in zip(paths.values(), found, strict=True)
        ]

    def _log(self, folder: RunFolder, attempt: int, rank: int) -> _Log:
        path = folder.log_dir(attempt, rank)
        changed = _mtime_key(path)
        known = self._logs.get(path)
        if known is None or known.changed != changed:
            segments = folder.segments(attempt, rank)
            known = _Log(changed, {segment.name: segment.stat().st_size for segment in segments})
            self._logs[path] = known
        elif known.sizes:
            newest = next(reversed(known.sizes))
            known.sizes[newest] = os.stat(path / newest).st_size  # noqa: PTH116
        return known

    def _parquet(self, kind: Path) -> dict[str, dict[str, str]]:
        """Return log -> name -> path of the Parquet files of all days."""
        logs: dict[str, dict[str, str]] = {}
        for day in _day_folders(kind):
            try:
                changed = _mtime_key(day)
                known = self._days.get(day)
                if known is None or known[0] != changed:
                    known = (changed, _parquet_files(day))
                    self._days[day] = known
            except FileNotFoundError:
                # `ockham repair` removes the folder before it writes the files again. The lines are read.
                continue
            for log, files in known[1].items():
                logs.setdefault(log, {}).update(files)
        return logs


def _first(name: str) -> int:
    return first_sequence(Path(name))


def _mtime_key(folder: str | Path) -> int:
    """Return the modification time of a folder, or a unique value if it is too recent.

    The clock of a file system has a resolution of some milliseconds. A name added in the
    same tick as the scan would not change the modification time.
    """
    changed = os.stat(folder).st_mtime_ns  # noqa: PTH116 - a Path object costs more than the call
    now = time.time_ns()
    return changed if now - changed > _MTIME_GRANULARITY_NS else -now


def _day_folders(kind: Path) -> list[str]:
    try:
        with os.scandir(kind) as entries:
            return sorted(entry.path for entry in entries if entry.name.startswith("day=") and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _parquet_files(day: str) -> dict[str, dict[str, str]]:
    """Return log -> name -> path of the Parquet files of one day."""
    logs: dict[str, dict[str, str]] = {}
    with os.scandir(day) as entries:
        for entry in entries:
            # Opening a named pipe would block, so only regular files count.
            if (log := log_of_file(entry.name)) and entry.is_file():
                logs.setdefault(log, {})[entry.name] = entry.path
    return logs
