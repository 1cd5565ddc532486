"""The Merkle tree of RFC 6962 and 9162 over the lines of a log: pure functions on hashes.

A leaf is the exact bytes of one line without its newline: SHA-256(0x00 || line). A node is
SHA-256(0x01 || left || right).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY = hashlib.sha256(b"").digest()
# A tree of 2^63 leaves needs no more; limits every loop over an untrusted proof.
MAX_PROOF = 64


def leaf_hash(line: bytes) -> bytes:
    """Return the hash of one line without its newline."""
    return hashlib.sha256(b"\0" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


class CompactRange:
    """Compact range of a growing tree: the root of each perfect subtree, the largest first.

    Appending costs one leaf hash and on average one node hash. Memory is log2(size) hashes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def append(self, leaf: bytes) -> list[tuple[int, bytes]]:
        """Add a leaf hash. Return (level, root) of every subtree that it completes, from level 1 up."""
        completed = []
        node, level, size = leaf, 0, self.size
        while size & 1:
            node = node_hash(self._roots.pop(), node)
            level, size = level + 1, size >> 1
            completed.append((level, node))
        self._roots.append(node)
        self.size += 1
        return completed

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """Return the roots of the perfect subtrees, the largest first."""
        return tuple(self._roots)

    def root(self) -> bytes:
        """Return the root of the tree. The root of an empty tree is SHA-256 of nothing."""
        return root_of_peaks(self._roots)


def root_of_peaks(peaks: Sequence[bytes]) -> bytes:
    """Return the root of a tree from the roots of its perfect subtrees, the largest first."""
    if not peaks:
        return EMPTY
    node = peaks[-1]
    for left in reversed(peaks[:-1]):
        node = node_hash(left, node)
    return node


def root_of_perfect_subtree(nodes: Sequence[bytes]) -> bytes:
    """Return the root over 2^k hashes, computed level by level at two thirds of the cost of single leaves."""
    sha256 = hashlib.sha256
    while len(nodes) > 1:
        nodes = [sha256(b"\1" + a + b).digest() for a, b in zip(nodes[::2], nodes[1::2], strict=True)]
    return nodes[0]


def root_from_leaves(leaves: Sequence[bytes]) -> bytes:
    """Return the root of a tree of leaf hashes."""
    frontier = CompactRange()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes from leaf `index` to the root, the lowest first (RFC 9162, 2.1.3.1).

    Raises:
        IndexError: If the leaf does not exist.

    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} in a tree of {len(leaves)}")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), root_from_leaves(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), root_from_leaves(leaves[:split])]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Return the hashes that prove an old tree to be a prefix of this one (RFC 9162, 2.1.4.1).

    Raises:
        IndexError: If the old tree is larger.

    """
    if not 0 <= old_size <= len(leaves):
        raise IndexError(f"a tree of {len(leaves)} has no earlier size {old_size}")
    return [] if old_size in (0, len(leaves)) else _subproof(leaves, old_size, whole=True)


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if whole else [root_from_leaves(leaves)]
    split = _split(len(leaves))
    if old_size <= split:
        return [*_subproof(leaves[:split], old_size, whole=whole), root_from_leaves(leaves[split:])]
    return [*_subproof(leaves[split:], old_size - split, whole=False), root_from_leaves(leaves[:split])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return True if the proof leads from the leaf at `index` to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or len(proof) > MAX_PROOF:
        return False
    first, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            node = node_hash(sibling, node)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and node == root


def verify_consistency(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return True if the proof shows that the old tree is a prefix of the new one (RFC 9162, 2.1.4.2)."""
    if not 0 <= old_size <= size or len(proof) > MAX_PROOF:
        return False
    if old_size in (size, 0):
        return not proof and (old_root == root if old_size else old_root == EMPTY)
    hashes = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not hashes:
        return False
    first, last = old_size - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and old == old_root and new == root


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
