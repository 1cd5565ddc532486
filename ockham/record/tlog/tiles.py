"""Merkle tiles on disk as defined by C2SP tlog-tiles: 256 hashes wide, derived from the lines.

    tile/0/x001/x234/067        full: leaf hashes 1234067 * 256 and the following 255
    tile/0/x001/x234/068.p/17   partial: the first 17 of the next ones
    tile/1/...                  roots of full tiles below

Entry bundles do not exist: the lines of the segments are the entries.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ockham.record.durable_io import atomic_write
from ockham.record.tlog.merkle import CompactRange

WIDTH = 256
# A tile is 2^8 wide.
LEVEL_BITS = 8


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Return the path of a tile below the log's folder."""
    parts = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        parts.append(f"x{index % 1000:03d}")
    name = f"tile/{level}/{'/'.join(reversed(parts))}"
    return name if width == WIDTH else f"{name}.p/{width}"


def list_tiles(size: int) -> list[tuple[int, int, int]]:
    """Return (level, index, width) of every tile of a tree of `size` leaves."""
    found = []
    level, count = 0, size
    while count:
        full, rest = divmod(count, WIDTH)
        found += [(level, index, WIDTH) for index in range(full)]
        if rest:
            found.append((level, full, rest))
        level, count = level + 1, full
    return found


class TileWriter:
    """Collects hashes level by level and writes the tiles of the present tree.

    Old partial tiles are removed only by `remove_stale_tiles`, after the head that needs the new ones is
    durable. A crash in between leaves valid tiles of two trees.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Index of the open tile, and its hashes.
        self._levels: list[tuple[int, list[bytes]]] = []
        self._partial: dict[int, Path] = {}
        self._dirty: set[int] = set()
        self._full: dict[Path, bytes] = {}
        self._old: list[Path] = []

    def add(self, level: int, node: bytes) -> None:
        """Add a hash to tile level `level`: of a leaf, or of a full tile below."""
        while len(self._levels) <= level:
            self._levels.append((0, []))
        index, hashes = self._levels[level]
        hashes.append(node)
        self._dirty.add(level)
        if len(hashes) == WIDTH:
            self._full[self.folder / tile_path(level, index)] = b"".join(hashes)
            self._dirty.discard(level)
            self._levels[level] = (index + 1, [])
            if level in self._partial:
                self._old.append(self._partial.pop(level))

    def write(self) -> None:
        """Write the full and the partial tiles of the present tree. After an error it can be repeated."""
        for path in list(self._full):
            self._write(path, self._full[path])
            del self._full[path]
        for level in sorted(self._dirty):
            index, hashes = self._levels[level]
            path = self.folder / tile_path(level, index, len(hashes))
            self._write(path, b"".join(hashes))
            if level in self._partial:
                self._old.append(self._partial[level])
            self._partial[level] = path
            self._dirty.discard(level)

    def remove_stale_tiles(self) -> None:
        """Remove the partial tiles that no head needs."""
        for path in self._old:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        self._old.clear()

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        """Write a tile without a sync. Tiles are derived, and a lost one is rebuilt from the lines."""
        try:
            atomic_write(path, data, durable=False)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data, durable=False)


def rebuild_tiles(folder: Path, leaves: Sequence[bytes]) -> int:
    """Write all tiles of a tree, then remove every other file below `tile/`. Return the number of tiles.

    Args:
        folder: Folder of the log.
        leaves: Leaf hashes of its signed lines.

    """
    writer, frontier = TileWriter(folder), CompactRange()
    for leaf in leaves:
        writer.add(0, leaf)
        for level, node in frontier.append(leaf):
            if level % LEVEL_BITS == 0:
                writer.add(level // LEVEL_BITS, node)
    writer.write()
    valid = {folder / tile_path(*tile) for tile in list_tiles(frontier.size)}
    for path in sorted((folder / "tile").rglob("*"), reverse=True):
        if path.is_dir():
            with contextlib.suppress(OSError):
                path.rmdir()
        elif path not in valid:
            path.unlink()
    return len(valid)
