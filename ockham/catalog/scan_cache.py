"""Scans of runs, which are used again while no file of the run has changed.

A scan is valid while every file and folder of its run has the same stamp, see `run_stamps`. The scans of many
runs are also kept in the user's cache folder, see `cache_folder`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ockham.catalog.cache_folder import (
    MIN_RUNS,
    cache_folder,
    create_private,
    is_private,
    read_content,
    write_content,
)
from ockham.catalog.file_index import FileListing, ParquetFile
from ockham.catalog.run_stamps import Stamps, are_current
from ockham.catalog.run_tables import RunRows
from ockham.catalog.tails import LogSize
from ockham.record.parquet.file_check import FileStamp, LogKey

# Fewer new scans are not worth writing the file again.
_MIN_NEW_SCANS = 16
_FILE = "scans"


class RunScan(NamedTuple):
    """Result of one scan of a run whose lines are all in Parquet files.

    Attributes:
        stamps: Files and folders of the run, relative to its folder.
        parquet: Kind -> Parquet files.
        sizes: Size of each log.
        rows: Rows of run.json and of the policies.

    """

    stamps: dict[str, FileStamp | None]
    parquet: dict[str, list[ParquetFile]]
    sizes: list[tuple[LogKey, LogSize]]
    rows: RunRows


class ScanCache:
    """Scans of the runs of one folder.

    Args:
        runs: Folder of runs.
        persistent: Also keep the scans of many runs in the cache folder.

    """

    def __init__(self, runs: Path, *, persistent: bool) -> None:
        self._runs = runs
        self._folder = cache_folder(runs) if persistent else None
        self._scans: dict[str, RunScan] = {}
        self._is_loaded = False
        self._new = 0

    def get(self, run_id: str) -> RunScan | None:
        """Return the scan of a run, or None if it does not exist or a file of the run has changed."""
        scan = self._scans.get(run_id)
        return scan if scan is not None and are_current(f"{self._runs}/{run_id}", scan.stamps) else None

    def add(self, scans: Mapping[str, RunScan]) -> None:
        """Store the scans of further runs, and keep all if several are new."""
        self._scans.update(scans)
        self._new += len(scans)
        if len(self._scans) >= MIN_RUNS and self._new >= _MIN_NEW_SCANS:
            self._save()

    def load(self, names: Sequence[str]) -> None:
        """Forget all other runs. If the runs are many, read their kept scans once."""
        for name in self._scans.keys() - set(names):
            del self._scans[name]
        if self._is_loaded or self._folder is None or len(names) < MIN_RUNS or not is_private(self._folder):
            return
        self._is_loaded = True
        data = read_content(self._folder / _FILE)
        scans = msgspec.msgpack.decode(data, type=dict[str, RunScan]) if data else {}
        for name in scans.keys() & set(names):
            self._scans[name] = _move(scans[name], f"{self._runs / name}{os.sep}")

    def _save(self) -> None:
        self._new = 0
        if self._folder is None or not create_private(self._folder):
            return
        scans = {name: _move(scan, "", len(f"{self._runs / name}/")) for name, scan in self._scans.items()}
        # A run.json can contain values that have no encoding.
        with contextlib.suppress(OSError, msgspec.MsgspecError, TypeError, ValueError, OverflowError):
            write_content(self._folder / _FILE, msgspec.msgpack.encode(scans))


def group_scans(
    listing: FileListing,
    sizes: Mapping[LogKey, LogSize],
    rows: Mapping[str, RunRows],
    stamps: Mapping[str, Stamps],
) -> dict[str, RunScan]:
    """Return the scans of the runs whose lines are all in Parquet files."""
    has_lines = {segment.log[0] for segment in listing.segments}
    scans = {
        name: RunScan(dict(stamps[name]), {kind: [] for kind in listing.parquet}, [], found)
        for name, found in rows.items()
        if name not in has_lines
    }
    for log, size in sizes.items():
        if log[0] in scans:
            scans[log[0]].sizes.append((log, size))
    for kind, files in listing.parquet.items():
        for file in files:
            if file.log[0] in scans:
                scans[file.log[0]].parquet[kind].append(file)
    return scans


def join_scans(
    listing: FileListing,
    sizes: Mapping[LogKey, LogSize],
    rows: Mapping[str, RunRows],
    scans: Mapping[str, RunScan],
) -> tuple[FileListing, dict[LogKey, LogSize], dict[str, RunRows]]:
    """Return files, sizes and rows of all runs, in the order of the run IDs."""
    parquet = {
        kind: sorted(
            [*files, *(file for scan in scans.values() for file in scan.parquet[kind])],
            key=lambda file: (file.log, file.first),
        )
        for kind, files in listing.parquet.items()
    }
    all_sizes = sorted([*sizes.items(), *(pair for scan in scans.values() for pair in scan.sizes)])
    logs = sorted([*listing.logs, *(log for scan in scans.values() for log, _ in scan.sizes)])
    old_rows = [(name, scan.rows) for name, scan in scans.items()]
    all_rows = sorted([*rows.items(), *old_rows], key=lambda pair: pair[0])
    return FileListing(parquet, listing.segments, logs), dict(all_sizes), dict(all_rows)


def _move(scan: RunScan, prefix: str, removed: int = 0) -> RunScan:
    """Return a scan whose Parquet files have other paths: without the first characters, after a prefix."""
    return scan._replace(
        parquet={
            kind: [file._replace(path=f"{prefix}{file.path[removed:]}") for file in files]
            for kind, files in scan.parquet.items()
        }
    )
