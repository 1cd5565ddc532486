"""Rebuilding Parquet files and tiles from the lines. Lines are never changed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import NamedTuple

import filelock

from ockham.errors import RunError
from ockham.record.durable_io import raise_run_errors
from ockham.record.evidence import read_leaves
from ockham.record.parquet.builder import update_parquet
from ockham.record.path_safety import reject_special_files
from ockham.record.run_folder import PARQUET_TABLES, SIDECARS, RunFolder
from ockham.record.tlog.tiles import rebuild_tiles
from ockham.record.verify.run import verify_run


class RebuildCounts(NamedTuple):
    """Number of files written."""

    parquet: int
    tiles: int


def rebuild(folder: RunFolder) -> RebuildCounts:
    """Write all Parquet files and tiles of a run again.

    Raises:
        RunError: If the run does not exist, its lines differ from what was signed, or it contains a link.
        UnverifiableError: If there is no log, or no key to check it.

    """
    signed = _require_untampered(folder.require_exists())
    with raise_run_errors("cannot rebuild", folder.path):
        return _rebuild(folder, signed)


def _rebuild(folder: RunFolder, signed: Mapping[tuple[int, int], int]) -> RebuildCounts:
    _remove_all_parquet(folder)
    tiles = 0
    for attempt, rank in folder.logs():
        update_parquet(folder, attempt, rank, last=_writer_is_gone(folder, attempt, rank))
        leaves = read_leaves(folder, attempt, rank, signed.get((attempt, rank), 0))
        tiles += rebuild_tiles(folder.log_dir(attempt, rank), leaves)
    return RebuildCounts(_parquet_files(folder), tiles)


def _remove_all_parquet(folder: RunFolder) -> None:
    """Remove all Parquet files, then their sidecars. A kill in between leaves no file without a sidecar."""
    for path in [path for kind in PARQUET_TABLES for path in (folder.path / kind).glob("day=*/*.parquet")]:
        if path.is_file():
            path.unlink()
    for kind in PARQUET_TABLES:
        for day in [*(folder.path / kind).glob("day=*"), *(folder.path / SIDECARS / kind).glob("day=*")]:
            shutil.rmtree(day, ignore_errors=True)


def compact(folder: RunFolder) -> tuple[int, int]:
    """Write missing Parquet files and compact the small ones. Return their number before and after.

    Raises:
        RunError: If the run does not exist, its lines differ from what was signed, or it contains a link.
        UnverifiableError: If there is no log, or no key to check it.

    """
    _require_untampered(folder.require_exists())
    before = _parquet_files(folder)
    with raise_run_errors("cannot rebuild", folder.path):
        for attempt, rank in folder.logs():
            update_parquet(folder, attempt, rank, last=_writer_is_gone(folder, attempt, rank))
    return before, _parquet_files(folder)


def _require_untampered(folder: RunFolder) -> dict[tuple[int, int], int]:
    """Refuse to rebuild a tampered log. Return the number of signed lines of each log.

    The existing tiles identify the changed line, and new ones would hide it. Traces of a crash, a gap that
    the log itself names, and unsigned lines are accepted.
    """
    reject_special_files(*(folder.path / part for part in ("log", *PARQUET_TABLES, SIDECARS)))
    report = verify_run(folder, parquet=False)
    wrong = [finding for finding in report.findings if finding.kind in ("tampering", "corruption")]
    if wrong:
        raise RunError(
            f"the lines differ from the signed ones, so nothing is rebuilt: {wrong[0].kind}, "
            f"{wrong[0].place}: {wrong[0].message}; run `ockham verify {folder.run_id}`"
        )
    return {(log.attempt, log.rank): log.signed for log in report.logs}


def _writer_is_gone(folder: RunFolder, attempt: int, rank: int) -> bool:
    """Return True if no process writes this log, so that its last segment does not grow."""
    try:
        with filelock.FileLock(str(folder.log_dir(attempt, rank) / "lock"), timeout=0):
            return True
    except filelock.Timeout:
        return False


def _parquet_files(folder: RunFolder) -> int:
    return sum(1 for kind in PARQUET_TABLES for _ in (folder.path / kind).glob("day=*/*.parquet"))
