"""The tree of a log under verification, in memory that does not grow with the leaves.

It stores the root of 256 leaves each, and where their lines start: half a byte per line. Leaves that are
needed again are hashed from the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ockham.record.run_folder import open_regular_file
from ockham.record.signed_heads import read_if_possible
from ockham.record.tlog.merkle import CompactRange, leaf_hash, root_of_peaks, root_of_perfect_subtree
from ockham.record.tlog.tiles import WIDTH, tile_path


class LogTree:
    """Tree that grows with `add` and can be queried after `close`.

    Args:
        path: Folder of the log with its tiles.
        wanted: Sizes whose roots will be queried.

    """

    def __init__(self, path: Path, wanted: Iterable[int]) -> None:
        self.path = path
        self.size = 0
        self.roots: dict[int, bytes] = {0: CompactRange().root()}
        # The root of each 256 leaves: what tile level 1 holds.
        self.block_roots: list[bytes] = []
        # Of level 0: not there, or not what the lines give.
        self.mismatched_tiles: set[int] = set()
        self.first_mismatch: int | None = None
        self._wanted: dict[int, set[int]] = {}
        for size in wanted:
            self._wanted.setdefault((size - 1) // WIDTH, set()).add(size)
        self._block_range = CompactRange()
        self._partial_block: list[bytes] = []
        self._starts: list[tuple[Path, int]] = []
        self._next_segment: dict[Path, Path] = {}
        self._last: Path | None = None

    def add(self, segment: Path, leaves: bytes | bytearray, starts: Iterable[int]) -> None:
        """Add the leaf hashes of a segment.

        Args:
            segment: The file.
            leaves: 32 bytes per line.
            starts: Positions in this file of the lines 0, 256, 512, ... of the log.

        """
        if self._last is not None:
            self._next_segment[self._last] = segment
        self._last = segment
        self._starts += [(segment, start) for start in starts]
        at = 0
        while at < len(leaves):
            part = bytes(leaves[at : at + 32 * (WIDTH - len(self._partial_block))])
            self._partial_block += [part[i : i + 32] for i in range(0, len(part), 32)]
            at += len(part)
            if len(self._partial_block) == WIDTH:
                self._block()
        self.size = len(self.block_roots) * WIDTH + len(self._partial_block)

    def close(self) -> None:
        """Finish the tree after the last leaf."""
        if self._partial_block:
            self._note_roots(self._partial_block)
            self._compare(len(self.block_roots), self._partial_block)
        above, rest = self._block_range.peaks, CompactRange()
        for leaf in self._partial_block:
            rest.append(leaf)
        self.roots[self.size] = root_of_peaks((*above, *rest.peaks))

    @property
    def root(self) -> bytes:
        """Return the root of the complete tree after `close`."""
        return self.roots[self.size]

    def root_at(self, size: int) -> bytes | None:
        """Return the root of the first `size` events, or None if the log is shorter."""
        if size > self.size:
            return None
        if size not in self.roots:
            above, rest = CompactRange(), CompactRange()
            for block in self.block_roots[: size // WIDTH]:
                above.append(block)
            for leaf in self.leaves(size // WIDTH)[: size % WIDTH]:
                rest.append(leaf)
            self.roots[size] = root_of_peaks((*above.peaks, *rest.peaks))
        return self.roots[size]

    def leaves(self, block: int) -> list[bytes]:
        """Return the hashes of lines 256 * block and up to 255 following ones, read from the file."""
        if block >= len(self._starts):
            return []
        found: list[bytes] = []
        path: Path | None
        path, start = self._starts[block]
        while path is not None and len(found) < WIDTH:
            with open_regular_file(path) as file:
                file.seek(start)
                for line in file:
                    if len(found) == WIDTH or not line.endswith(b"\n"):
                        break
                    found.append(leaf_hash(line[:-1]))
            path, start = self._next_segment.get(path), 0
        return found

    def levels(self) -> list[list[bytes]]:
        """Return the hashes of tile level 1, 2, and so on."""
        levels = [self.block_roots]
        while len(levels[-1]) >= WIDTH:
            below = levels[-1]
            levels.append(
                [
                    root_of_perfect_subtree(below[i : i + WIDTH])
                    for i in range(0, len(below) // WIDTH * WIDTH, WIDTH)
                ]
            )
        return levels

    def _block(self) -> None:
        leaves, self._partial_block = self._partial_block, []
        index = len(self.block_roots)
        self._note_roots(leaves)
        self._compare(index, leaves)
        node = root_of_perfect_subtree(leaves)
        self.block_roots.append(node)
        self._block_range.append(node)

    def _note_roots(self, leaves: list[bytes]) -> None:
        wanted = self._wanted.get(len(self.block_roots))
        if not wanted:
            return
        above, rest = self._block_range.peaks, CompactRange()
        base = len(self.block_roots) * WIDTH
        for leaf in leaves:
            rest.append(leaf)
            if base + rest.size in wanted:
                self.roots[base + rest.size] = root_of_peaks((*above, *rest.peaks))

    def _compare(self, index: int, leaves: list[bytes]) -> None:
        """Compare with the tile, which helps to locate a change and proves nothing."""
        data = read_if_possible(self.path / tile_path(0, index, len(leaves)))
        if data == b"".join(leaves):
            return
        self.mismatched_tiles.add(index)
        if data and self.first_mismatch is None:
            differs = [
                at for at, leaf in enumerate(leaves) if data[at * 32 : at * 32 + 32] not in (leaf, b"")
            ]
            self.first_mismatch = index * WIDTH + differs[0] if differs else None
