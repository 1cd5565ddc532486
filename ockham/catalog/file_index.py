"""Index of the files that contain the events of runs, updated before each query.

An unchanged folder costs one `stat`. The modification time of a folder shows whether names were added or
removed. A sealed segment never grows, so only the last segment of each log is measured again. Without the
index a query over 500 segments took 0.6 s longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ockham.record.parquet.coverage import (
    SourceSegments,
    log_of_file,
    read_sidecar,
    select_coverage,
    source_segments,
)
from ockham.record.run_folder import PARQUET_TABLES, RunFolder

_MTIME_GRANULARITY_NS = 100_000_000


class ParquetFile(NamedTuple):
    """Parquet file of one or more sealed segments."""

    run_id: str
    attempt: int
    path: str


class FileListing(NamedTuple):
    """Files of some runs: Parquet files by kind, segments without Parquet files, and all attempts."""

    parquet: dict[str, list[ParquetFile]]
    segments: list[Path]
    attempts: list[tuple[str, int]]


class _Log(NamedTuple):
    changed: int
    # Segment name -> bytes.
    sizes: dict[str, int]


class FileIndex:
    """Scans run folders, and caches results that cannot have changed."""

    def __init__(self) -> None:
        self._logs: dict[Path, _Log] = {}
        self._days: dict[str, tuple[int, dict[str, dict[str, str]]]] = {}
        self._source_cache: dict[str, SourceSegments] = {}

    def scan(self, folders: Iterable[RunFolder]) -> FileListing:
        """Return the Parquet files and uncovered segments of the given runs."""
        listing = FileListing({kind: [] for kind in PARQUET_TABLES}, [], [])
        for folder in folders:
            parquet = {kind: self._parquet(folder.path / kind) for kind in PARQUET_TABLES}
            for attempt, rank in folder.logs():
                listing.attempts.append((folder.run_id, attempt))
                self._add_log(listing, folder, (attempt, rank), parquet)
        return listing

    def _add_log(
        self,
        listing: FileListing,
        folder: RunFolder,
        log: tuple[int, int],
        parquet: Mapping[str, Mapping[str, Mapping[str, str]]],
    ) -> None:
        attempt, rank = log
        paths = {kind: parquet[kind].get(f"{attempt}-{rank}", {}) for kind in PARQUET_TABLES}
        # Files are written in the order of PARQUET_TABLES, so the sidecar of the last one is the newest.
        last = paths[PARQUET_TABLES[-1]]
        complete = [name for name in last if all(name in paths[kind] for kind in PARQUET_TABLES)]
        coverage = select_coverage(
            complete, self._log(folder, attempt, rank).sizes, lambda name: self._source_segments(last[name])
        )
        listing.segments.extend(folder.log_dir(attempt, rank) / name for name in coverage.segments)
        for kind in PARQUET_TABLES:
            listing.parquet[kind] += [
                ParquetFile(folder.run_id, attempt, paths[kind][name]) for name in coverage.names
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
            changed = _mtime_key(day)
            known = self._days.get(day)
            if known is None or known[0] != changed:
                known = (changed, _parquet_files(day))
                self._days[day] = known
                # A new sidecar also changes the folder, so read the sidecars again.
                for files in known[1].values():
                    for path in files.values():
                        self._source_cache.pop(path, None)
            for log, files in known[1].items():
                logs.setdefault(log, {}).update(files)
        return logs

    def _source_segments(self, parquet: str) -> SourceSegments | None:
        """Return the segments from which a Parquet file was built, or None if it has no sidecar."""
        if parquet not in self._source_cache:
            segments = source_segments(read_sidecar(Path(parquet)))
            if segments is None:
                return None
            self._source_cache[parquet] = segments
        return self._source_cache[parquet]


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
