"""Which files stand for which events, looked at again before each query: what has not changed costs one `stat`.

A folder's time of change says whether names came or went; a sealed segment never grows, so only the last one of each
log is measured again. Asking for every file instead took 0.6 s a query over 500 segments.
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
    """The Parquet file of one or more sealed segments."""

    run_id: str
    attempt: int
    path: str


class FileListing(NamedTuple):
    """What a reader of some runs reads: Parquet files by kind, segments without them, and the attempts that there are."""

    parquet: dict[str, list[ParquetFile]]
    segments: list[Path]
    attempts: list[tuple[str, int]]


class _Log(NamedTuple):
    changed: int
    sizes: dict[str, int]  # of segments, by name


class FileIndex:
    """Looks at run folders, and remembers what cannot have changed."""

    def __init__(self) -> None:
        self._logs: dict[Path, _Log] = {}
        self._days: dict[str, tuple[int, dict[str, dict[str, str]]]] = {}
        self._made_from: dict[str, SourceSegments] = {}

    def scan(self, folders: Iterable[RunFolder]) -> FileListing:
        """Parquet files and uncovered segments of runs."""
        found = FileListing({kind: [] for kind in PARQUET_TABLES}, [], [])
        for folder in folders:
            parquet = {kind: self._parquet(folder.path / kind) for kind in PARQUET_TABLES}
            for attempt, rank in folder.logs():
                found.attempts.append((folder.run_id, attempt))
                self._add(found, folder, (attempt, rank), parquet)
        return found

    def _add(
        self, found: FileListing, folder: RunFolder, log: tuple[int, int],
        parquet: Mapping[str, Mapping[str, Mapping[str, str]]],
    ) -> None:  # fmt: skip
        attempt, rank = log
        paths = {kind: parquet[kind].get(f"{attempt}-{rank}", {}) for kind in PARQUET_TABLES}
        # The files of a segment are written in this order, so what stands beside the last says that all are there.
        last = paths[PARQUET_TABLES[-1]]
        whole = [name for name in last if all(name in paths[kind] for kind in PARQUET_TABLES)]
        read = select_coverage(
            whole, self._log(folder, attempt, rank).sizes, lambda name: self._source_segments(last[name])
        )
        found.segments.extend(folder.log_dir(attempt, rank) / name for name in read.segments)
        for kind in PARQUET_TABLES:
            found.parquet[kind] += [
                ParquetFile(folder.run_id, attempt, paths[kind][name]) for name in read.names
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
        """By log, the names of Parquet files of all days, with their paths."""
        logs: dict[str, dict[str, str]] = {}
        for day in _folders(kind):
            changed = _mtime_key(day)
            known = self._days.get(day)
            if known is None or known[0] != changed:
                known = (changed, _files(day))
                self._days[day] = known
                for files in known[1].values():  # what stands beside it came by a rename into this folder too
                    for path in files.values():
                        self._made_from.pop(path, None)
            for log, files in known[1].items():
                logs.setdefault(log, {}).update(files)
        return logs

    def _source_segments(self, parquet: str) -> SourceSegments | None:
        """The segments that a Parquet file was made from, None where nothing says so."""
        if parquet not in self._made_from:
            made = source_segments(read_sidecar(Path(parquet)))
            if made is None:
                return None
            self._made_from[parquet] = made
        return self._made_from[parquet]


def _mtime_key(folder: str | Path) -> int:
    """When names in a folder last came or went; a value of its own where that is too fresh to rely on.

    The clock of a file system ticks every few milliseconds: a name that comes in the same tick as our look at the
    folder would leave no trace.
    """
    changed = os.stat(folder).st_mtime_ns  # noqa: PTH116 - a Path for each of thousands costs more than the call
    now = time.time_ns()
    return changed if now - changed > _MTIME_GRANULARITY_NS else -now


def _folders(kind: Path) -> list[str]:
    try:
        with os.scandir(kind) as entries:
            return sorted(entry.path for entry in entries if entry.name.startswith("day=") and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(day: str) -> dict[str, dict[str, str]]:
    """By log and name, the Parquet files of a day."""
    logs: dict[str, dict[str, str]] = {}
    with os.scandir(day) as entries:
        for entry in entries:
            if (
                log := log_of_file(entry.name)
            ) and entry.is_file():  # to open a pipe would be to wait for ever
                logs.setdefault(log, {})[entry.name] = entry.path
    return logs
