"""Rebuilding Parquet files and tiles from the lines. Lines are never changed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import filelock

from ockham.errors import RunError
from ockham.record.parquet.builder import update_parquet
from ockham.record.path_safety import reject_special_files
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.tiles import LEVEL_BITS, TileWriter, list_tiles
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
    _require_untampered(folder.require_exists())
    with _os_errors_as_run_errors():
        return _rebuild(folder)


def _rebuild(folder: RunFolder) -> RebuildCounts:
    for kind in PARQUET_TABLES:
        for day in (folder.path / kind).glob("day=*"):
            shutil.rmtree(day, ignore_errors=True)
    tiles = 0
    for attempt, rank in folder.logs():
        update_parquet(folder, attempt, rank, last=_writer_is_gone(folder, attempt, rank))
        tiles += _tiles(folder, attempt, rank)
    return RebuildCounts(_parquet_files(folder), tiles)


def compact(folder: RunFolder) -> tuple[int, int]:
    """Write missing Parquet files and compact the small ones. Return their number before and after.

    Raises:
        RunError: If the run does not exist, its lines differ from what was signed, or it contains a link.
        UnverifiableError: If there is no log, or no key to check it.

    """
    _require_untampered(folder.require_exists())
    before = _parquet_files(folder)
    with _os_errors_as_run_errors():
        for attempt, rank in folder.logs():
            update_parquet(folder, attempt, rank, last=_writer_is_gone(folder, attempt, rank))
    return before, _parquet_files(folder)


@contextlib.contextmanager
def _os_errors_as_run_errors() -> Iterator[None]:
    """Context manager that turns OSError into RunError.

    An untrusted folder can contain files in place of folders.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot rebuild {error.filename}: {error.strerror}") from None


def _require_untampered(folder: RunFolder) -> None:
    """Refuse to rebuild a tampered log.

    The existing tiles identify the changed line, and new ones would hide it. Traces of a crash, a gap that
    the log itself names, and unsigned lines are accepted.
    """
    reject_special_files(*(folder.path / part for part in ("log", *PARQUET_TABLES)))
    report = verify_run(folder, parquet=False)
    wrong = [finding for finding in report.findings if finding.kind in ("tampering", "corruption")]
    if wrong:
        raise RunError(
            f"the lines differ from the signed ones, so nothing is rebuilt: {wrong[0].kind}, "
            f"{wrong[0].place}: {wrong[0].message}; run `ockham verify {folder.run_id}`"
        )


def _writer_is_gone(folder: RunFolder, attempt: int, rank: int) -> bool:
    """Return True if no process writes this log, so that its last segment does not grow."""
    try:
        with filelock.FileLock(str(folder.log_dir(attempt, rank) / "lock"), timeout=0):
            return True
    except filelock.Timeout:
        return False


def _parquet_files(folder: RunFolder) -> int:
    return sum(1 for kind in PARQUET_TABLES for _ in (folder.path / kind).glob("day=*/*.parquet"))


def _tiles(folder: RunFolder, attempt: int, rank: int) -> int:
    path = folder.log_dir(attempt, rank)
    shutil.rmtree(path / "tile", ignore_errors=True)
    writer, frontier = TileWriter(path), CompactRange()
    for segment in folder.segments(attempt, rank):
        for line in read_complete_lines(segment)[0]:
            leaf = leaf_hash(line)
            writer.add(0, leaf)
            for level, node in frontier.append(leaf):
                if level % LEVEL_BITS == 0:
                    writer.add(level // LEVEL_BITS, node)
    writer.write()
    return len(list_tiles(frontier.size))
