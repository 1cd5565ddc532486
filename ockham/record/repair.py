"""Rebuilding what is derived from the lines: Parquet files and tiles. Lines are never touched."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import filelock

from ockham.errors import RunError
from ockham.record.parquet.builder import update_parquet
from ockham.record.parquet.tables import read_complete_lines
from ockham.record.path_safety import reject_special_files
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.tiles import LEVEL_BITS, TileWriter, list_tiles
from ockham.record.verify.run import verify_run


class RebuildCounts(NamedTuple):
    """How many files were written."""

    parquet: int
    tiles: int


def rebuild(folder: RunFolder) -> RebuildCounts:
    """Write all Parquet files and tiles of a run anew.

    Raises:
        RunError: if there is no such run, or its lines are not what was signed, or a link is in it.
        UnverifiableError: if there is no log, or no key to judge it by.

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
    """Write the Parquet files that are missing and compact the small ones; how many there were, and are.

    Raises:
        RunError: if there is no such run, or its lines are not what was signed, or a link is in it.
        UnverifiableError: if there is no log, or no key to judge it by.

    """
    _require_untampered(folder.require_exists())
    before = _parquet_files(folder)
    with _os_errors_as_run_errors():
        for attempt, rank in folder.logs():
            update_parquet(folder, attempt, rank, last=_writer_is_gone(folder, attempt, rank))
    return before, _parquet_files(folder)


@contextlib.contextmanager
def _os_errors_as_run_errors() -> Iterator[None]:
    """A stranger's folder may have a file where a folder should be, or be one that can't be written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot rebuild {error.filename}: {error.strerror}") from None


def _require_untampered(folder: RunFolder) -> None:
    """New tiles would make a changed line look at home, and the old ones tell which line it is.

    What a crash leaves, a gap that the log itself names, and lines that nobody has signed yet are no reason.
    """
    reject_special_files(*(folder.path / part for part in ("log", *PARQUET_TABLES)))
    report = verify_run(folder, parquet=False)
    wrong = [finding for finding in report.findings if finding.kind in ("tampering", "corruption")]
    if wrong:
        raise RunError(
            f"nothing is rebuilt from lines that are not what was signed: {wrong[0].kind}, {wrong[0].place}: "
            f"{wrong[0].message}; `ockham verify {folder.run_id}` tells all"
        )


def _writer_is_gone(folder: RunFolder, attempt: int, rank: int) -> bool:
    """Whether nobody writes this log any more, so that its last segment will not grow."""
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
