"""Rebuilding what is derived from the lines: Parquet files and tiles. Lines are never touched."""

from __future__ import annotations

import shutil
from typing import NamedTuple

from ockham.record.folder import DERIVED, RunFolder
from ockham.record.merkle import Frontier, leaf_hash
from ockham.record.snapshots import complete_lines, derive
from ockham.record.tiles import LEVEL_BITS, TileWriter, tile_sizes


class Rebuilt(NamedTuple):
    """How many files were written."""

    parquet: int
    tiles: int


def rebuild(folder: RunFolder) -> Rebuilt:
    """Write all Parquet files and tiles of a run anew.

    Raises:
        RunError: if there is no such run.

    """
    folder.require()
    for kind in DERIVED:
        shutil.rmtree(folder.path / kind, ignore_errors=True)
    segments = tiles = 0
    for attempt, rank in folder.logs():
        segments += derive(folder, attempt, rank, last=True)
        tiles += _tiles(folder, attempt, rank)
    return Rebuilt(segments * len(DERIVED), tiles)


def _tiles(folder: RunFolder, attempt: int, rank: int) -> int:
    path = folder.log(attempt, rank)
    shutil.rmtree(path / "tile", ignore_errors=True)
    writer, frontier = TileWriter(path), Frontier()
    for segment in folder.segments(attempt, rank):
        for line in complete_lines(segment)[0]:
            leaf = leaf_hash(line)
            writer.add(0, leaf)
            for level, node in frontier.append(leaf):
                if level % LEVEL_BITS == 0:
                    writer.add(level // LEVEL_BITS, node)
    writer.write()
    return len(tile_sizes(frontier.size))
