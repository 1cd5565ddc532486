"""The tree that verify builds: roots and tiles, also for logs of more than 256 full tiles."""

from __future__ import annotations

import pytest

from ockham.record.tlog.merkle import leaf_hash, root_from_leaves
from ockham.record.tlog.tiles import WIDTH, TileWriter
from ockham.record.verify.tree import LogTree

SIZE = WIDTH * WIDTH + WIDTH + 7
SIZES = (0, 1, 2, 255, 256, 257, 512, 513, 65_535, 65_536, 65_537, SIZE - 1, SIZE)


@pytest.fixture(scope="module")
def leaves():
    return [leaf_hash(b"%d" % at) for at in range(SIZE)]


@pytest.fixture(scope="module")
def segments(tmp_path_factory):
    """Two segments, and the offsets of every 256th line."""
    folder = tmp_path_factory.mktemp("tree")
    found, cut = [], 40_000
    for name, numbers in (("1", range(cut)), ("2", range(cut, SIZE))):
        starts, offset = [], 0
        for at in numbers:
            if at % WIDTH == 0:
                starts.append(offset)
            offset += len(b"%d\n" % at)
        (folder / name).write_bytes(b"".join(b"%d\n" % at for at in numbers))
        found.append((folder / name, numbers, starts))
    return found


def grown(path, segments, leaves, wanted=()):
    tree = LogTree(path, wanted)
    assert (tree.size, tree.roots) == (0, {0: root_from_leaves([])})
    for segment, numbers, starts in segments:
        tree.add(segment, b"".join(leaves[at] for at in numbers), starts)
    tree.close()
    return tree


def test_roots_requested_before_and_after_are_equal(tmp_path, segments, leaves):
    """They are those of the plain algorithm."""
    expected = {size: root_from_leaves(leaves[:size]) for size in SIZES}
    after = grown(tmp_path, segments, leaves)
    assert {size: after.root_at(size) for size in SIZES} == expected
    assert after.root == expected[SIZE]
    assert after.root_at(SIZE + 1) is None
    before = grown(tmp_path, segments, leaves, SIZES)
    assert {size: before.roots[size] for size in SIZES} == expected


def test_leaves_of_a_block_are_read_from_the_files(tmp_path, segments, leaves):
    """A block can span two segments."""
    tree = grown(tmp_path, segments, leaves)
    for block in (0, 156, 255, 256, 257):
        assert tree.leaves(block) == leaves[block * WIDTH : (block + 1) * WIDTH]
    assert tree.leaves(258) == tree.leaves(259) == []


def test_levels_equal_the_tiles_of_the_writer(tmp_path, segments, leaves):
    """Level 2 contains roots of 256 blocks."""
    tree = grown(tmp_path, segments, leaves)
    levels = tree.levels()
    assert [len(level) for level in levels] == [257, 1]
    assert (
        levels[0] == [root_from_leaves(leaves[at : at + WIDTH]) for at in range(0, SIZE - WIDTH, WIDTH)][:257]
    )
    assert levels[1] == [root_from_leaves(leaves[: WIDTH * WIDTH])]
    assert grown(tmp_path, segments[:1], leaves).levels()[1:] == []
    full = (segments[1][0], range(40_000, WIDTH * WIDTH), segments[1][2][:99])
    assert [len(level) for level in grown(tmp_path, [segments[0], full], leaves).levels()] == [256, 1]


@pytest.mark.parametrize(
    ("odd", "blocks", "first"),
    [(None, set(), None), (3, {0}, 3), (WIDTH + 1, {1}, WIDTH + 1), (2 * WIDTH + 1, {2}, 2 * WIDTH + 1)],
)
def test_first_mismatch_is_located_by_a_tile(tmp_path, segments, leaves, odd, blocks, first):
    """A missing tile only reports a difference."""
    few = [(segments[0][0], range(2 * WIDTH + 5), segments[0][2][:3])]
    writer = TileWriter(tmp_path)
    for at in range(2 * WIDTH + 5):
        writer.add(0, bytes(32) if at == odd else leaves[at])
    writer.write()
    tree = grown(tmp_path, few, leaves)
    assert (tree.mismatched_tiles, tree.first_mismatch) == (blocks, first)
    whole = tmp_path / "tile" / "0" / "001"
    whole.write_bytes(whole.read_bytes()[:64])
    (tmp_path / "tile" / "0" / "000").unlink()
    assert grown(tmp_path, few, leaves).mismatched_tiles == {0, 1} | blocks
