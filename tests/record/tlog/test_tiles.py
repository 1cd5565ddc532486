"""Tiles: their paths, and the tiles that remain while a tree grows."""

from __future__ import annotations

import shutil

import pytest

from ockham.record.tlog.merkle import leaf_hash
from ockham.record.tlog.tiles import WIDTH, TileWriter, list_tiles, tile_path


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, WIDTH, "tile/0/000"),
        (0, 999, WIDTH, "tile/0/999"),
        (0, 1000, WIDTH, "tile/0/x001/000"),
        (1, 1001, WIDTH, "tile/1/x001/001"),
        (0, 1_000_000, WIDTH, "tile/0/x001/x000/000"),
        (0, 1_234_067, WIDTH, "tile/0/x001/x234/067"),
        (0, 1_234_068, 17, "tile/0/x001/x234/068.p/17"),
        (3, 0, 1, "tile/3/000.p/1"),
        (0, 999_999, 255, "tile/0/x999/999.p/255"),
    ],
)
def test_tile_path_has_the_form_of_c2sp(level, index, width, path):
    """Three digits per folder, an x before all but the last."""
    assert tile_path(level, index, width) == path


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        (0, []),
        (1, [(0, 0, 1)]),
        (255, [(0, 0, 255)]),
        (256, [(0, 0, 256), (1, 0, 1)]),
        (700, [(0, 0, 256), (0, 1, 256), (0, 2, 188), (1, 0, 2)]),
        (65_536, [*((0, i, 256) for i in range(256)), (1, 0, 256), (2, 0, 1)]),
    ],
)
def test_list_tiles_returns_full_and_partial_tiles(size, tiles):
    """There is one partial tile per level."""
    assert list_tiles(size) == tiles


def there(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_stale_partial_tile_is_removed_after_the_next_head(tmp_path):
    """A full tile replaces it."""
    writer = TileWriter(tmp_path)
    leaves = [leaf_hash(bytes([i])) for i in range(WIDTH)]
    for leaf in leaves[:3]:
        writer.add(0, leaf)
    writer.write()
    writer.write()
    assert there(tmp_path) == ["tile/0/000.p/3"]
    for leaf in leaves[3:5]:
        writer.add(0, leaf)
    writer.write()
    assert there(tmp_path) == ["tile/0/000.p/3", "tile/0/000.p/5"]
    assert (tmp_path / "tile/0/000.p/5").read_bytes() == b"".join(leaves[:5])
    writer.remove_stale_tiles()
    assert there(tmp_path) == ["tile/0/000.p/5"]
    for leaf in leaves[5:]:
        writer.add(0, leaf)
    writer.write()
    writer.remove_stale_tiles()
    assert there(tmp_path) == ["tile/0/000"]
    assert not (tmp_path / "tile/0/000.p").exists()
    assert (tmp_path / "tile/0/000").read_bytes() == b"".join(leaves)


def test_missing_partial_tile_does_not_stop_the_writer(tmp_path):
    """Derived files can be removed at any time."""
    writer = TileWriter(tmp_path)
    for count in range(2):
        writer.add(0, leaf_hash(bytes([count])))
        writer.write()
    (tmp_path / "tile/0/000.p/1").unlink()
    writer.remove_stale_tiles()
    assert there(tmp_path) == ["tile/0/000.p/2"]
    writer.add(0, leaf_hash(b"2"))
    writer.write()
    shutil.rmtree(tmp_path / "tile")
    writer.remove_stale_tiles()
    assert there(tmp_path) == []
