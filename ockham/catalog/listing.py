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

from ockham.record.folder import DERIVED, RunFolder
from ockham.record.snapshots import sidecar

_TICK_NS = 100_000_000


class Sealed(NamedTuple):
    """The Parquet file of one segment."""

    run_id: str
    attempt: int
    path: str


class Found(NamedTuple):
    """What a reader of some runs reads: Parquet files by kind, segments without them, and the attempts that there are."""

    parquet: dict[str, list[Sealed]]
    segments: list[Path]
    attempts: list[tuple[str, int]]


class _Log(NamedTuple):
    changed: int
    segments: list[Path]
    sizes: list[int]


class Listing:
    """Looks at run folders, and remembers what cannot have changed."""

    def __init__(self) -> None:
        self._logs: dict[Path, _Log] = {}
        self._days: dict[str, tuple[int, dict[str, str]]] = {}
        self._made_from: dict[str, int] = {}

    def find(self, folders: Iterable[RunFolder]) -> Found:
        """Parquet files and uncovered segments of runs."""
        found = Found({kind: [] for kind in DERIVED}, [], [])
        for folder in folders:
            parquet = {kind: self._parquet(folder.path / kind) for kind in DERIVED}
            for attempt, rank in folder.logs():
                found.attempts.append((folder.run_id, attempt))
                log = self._log(folder, attempt, rank)
                for segment, size in zip(log.segments, log.sizes, strict=True):
                    name = f"{attempt}-{rank}-{segment.stem}.parquet"
                    files = [parquet[kind].get(name) for kind in DERIVED]
                    # The files of a segment are written in this order, so the last one says that all are there.
                    if files[-1] is None or None in files or self._size_of_source(files[-1]) != size:
                        found.segments.append(segment)
                    else:
                        for kind, path in zip(DERIVED, files, strict=True):
                            found.parquet[kind].append(Sealed(folder.run_id, attempt, str(path)))
        return found

    def _log(self, folder: RunFolder, attempt: int, rank: int) -> _Log:
        path = folder.log(attempt, rank)
        changed = _changed(path)
        known = self._logs.get(path)
        if known is None or known.changed != changed:
            segments = folder.segments(attempt, rank)
            known = _Log(changed, segments, [segment.stat().st_size for segment in segments])
            self._logs[path] = known
        elif known.segments:
            known.sizes[-1] = known.segments[-1].stat().st_size
        return known

    def _parquet(self, kind: Path) -> Mapping[str, str]:
        """Names of Parquet files of all days, with their paths."""
        names: dict[str, str] = {}
        for day in _folders(kind):
            changed = _changed(day)
            known = self._days.get(day)
            if known is None or known[0] != changed:
                known = (changed, _files(day))
                self._days[day] = known
                for path in known[1].values():  # what stands beside it came by a rename into this folder too
                    self._made_from.pop(path, None)
            names |= known[1]
        return names

    def _size_of_source(self, parquet: str) -> int | None:
        """Bytes of the segment that a Parquet file was made from, None where nothing says so."""
        if parquet not in self._made_from:
            size = (sidecar(Path(parquet)) or {}).get("segment_bytes")
            if not isinstance(size, int):
                return None
            self._made_from[parquet] = size
        return self._made_from[parquet]


def _changed(folder: str | Path) -> int:
    """When names in a folder last came or went; a value of its own where that is too fresh to rely on.

    The clock of a file system ticks every few milliseconds: a name that comes in the same tick as our look at the
    folder would leave no trace.
    """
    changed = os.stat(folder).st_mtime_ns  # noqa: PTH116 - a Path for each of thousands costs more than the call
    now = time.time_ns()
    return changed if now - changed > _TICK_NS else -now


def _folders(kind: Path) -> list[str]:
    try:
        with os.scandir(kind) as entries:
            return sorted(entry.path for entry in entries if entry.name.startswith("day=") and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(day: str) -> dict[str, str]:
    with os.scandir(day) as entries:
        return {entry.name: entry.path for entry in entries if entry.name.endswith(".parquet")}
