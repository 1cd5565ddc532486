"""Findings about changed, moved, added or missing tiles: class, location, message and cause."""

from __future__ import annotations

import shutil

import pytest

from tests.helpers.events import log_folder
from tests.helpers.tree_files import tree_findings, write_history

NOT_HELD = "this tile is missing or does not hold the hashes of the lines"
NO_TILE = "no tile of this log"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A log with two full tiles, a partial tile, and a tile of two hashes."""
    return log_folder(tmp_path_factory.mktemp("tiles"), count=700, segment_events=400).path


@pytest.fixture
def log(original, tmp_path):
    shutil.copytree(original, tmp_path / "a")
    return tmp_path / "a/log/1-0"


@pytest.mark.parametrize("name", ["0/000", "0/001", "0/002.p/189", "1/000.p/2"])
def test_missing_or_changed_tile_is_reported(log, name):
    """Every tile of the signed tree is needed."""
    path = log / "tile" / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    no_tile = {("derived", f"tile/{name}", NOT_HELD), ("derived", f"tile/{name}", NO_TILE)}
    odd, report = tree_findings(log)
    assert odd == no_tile
    assert {f.cause for f in report.findings if f.kind == "derived"} == {"tiles of log 1-0"}
    path.unlink()
    assert tree_findings(log)[0] == {("derived", f"tile/{name}", NOT_HELD)}


@pytest.mark.parametrize(
    ("like", "name"),
    [
        ("0/000", "0/003"),
        ("0/000", "0/001.p/256"),
        ("0/000", "2/000"),
        ("0/000", "0/x000/000"),
        ("0/000", "0/0"),
        ("0/000", "0/00a"),
        ("0/000", "a/000"),
        ("0/000", "0/000.p/a"),
        ("0/000", "0/000.p/0"),
        ("0/000", "0/000.p/300"),
        ("0/000", "0/" + "x999/" * 7 + "999"),
        ("1/000.p/2", "1/000.p/3"),
        ("1/000.p/2", "1/000"),
        ("0/002.p/189", "0/002.p/188"),
        ("0/000", "7"),
        ("0/000", "0/.003"),
        ("0/000", "0/003.tmp"),
        (None, "0/000.p/0"),
        (None, "0/003"),
    ],
)
def test_unknown_file_among_tiles_is_reported(log, like, name):
    """Name, level or width differ."""
    path = log / "tile" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((log / "tile" / like).read_bytes() if like else b"")
    assert tree_findings(log)[0] == {("derived", f"tile/{name}", NO_TILE)}


def test_tiles_of_an_earlier_size_are_accepted(log):
    """A crash leaves them."""
    whole = (log / "tile/0/002.p/189").read_bytes()
    (log / "tile/0/002.p/1").write_bytes(whole[:32])
    (log / "tile/0/001.p").mkdir()
    (log / "tile/0/001.p/255").write_bytes((log / "tile/0/001").read_bytes()[: 255 * 32])
    assert tree_findings(log)[0] == set()
    (log / "tile/0/.003.1.tmp").write_bytes(b"x")
    assert tree_findings(log)[0] == {("crash tail", "tile/0/.003.1.tmp", "a tile that was being written")}


def test_tiles_without_a_head_are_checked(log):
    """Each has the same cause."""
    write_history(log, newest=b"")
    (log / "tile/0/003").write_bytes(b"x")
    (log / "tile/0/002.p/188").write_bytes(b"x")
    report = tree_findings(log)[1]
    expected = {(f.place, f.message, f.cause) for f in report.findings if f.kind == "derived"}
    assert expected == {
        (f"log/1-0/tile/{name}", NO_TILE, "tiles of log 1-0") for name in ("0/003", "0/002.p/188")
    }
