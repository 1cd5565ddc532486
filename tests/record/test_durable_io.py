"""Files and folders are complete or absent, also after an error in the middle of writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ockham.record.checkpoints import write_checkpoint
from ockham.record.durable_io import atomic_path, atomic_write, write_complete


@pytest.mark.parametrize("durable", [True, False])
def test_atomic_write_replaces_the_content(tmp_path, durable):
    """The new content is complete, and no temporary file remains."""
    path = tmp_path / "a.json"
    path.write_bytes(b"earlier")
    atomic_write(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_durable_write_creates_missing_folders(tmp_path):
    """Missing parents are created."""
    atomic_write(tmp_path / "a" / "b" / "c", b"x")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"x"


def test_failed_block_keeps_the_earlier_file(tmp_path):
    """After an error the earlier content remains, without a temporary file."""
    path = tmp_path / "a"
    path.write_bytes(b"earlier")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"ha")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_half()
    assert path.read_bytes() == b"earlier"
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_failed_block_removes_a_half_written_folder(tmp_path):
    """The folder and its files are removed, also after Ctrl-C."""

    def write_half():
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "one").write_bytes(b"1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_write_to_a_folder_that_is_a_file_raises_its_error(tmp_path):
    """The error of the write is raised, not one of the clean-up."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory"):
        atomic_write(tmp_path / "file" / "a", b"x", durable=False)


def test_checkpoint_is_durable_before_and_after_its_rename(tmp_path, monkeypatch):
    """A power loss leaves the complete checkpoint, or nothing with its name."""
    calls = []

    def record(name, function, locate):
        def call(first, *rest):
            calls.append((name, locate(first)))
            return function(first, *rest)

        monkeypatch.setattr(os, name, call)

    record("fsync", os.fsync, lambda descriptor: Path(f"/proc/self/fd/{descriptor}").readlink().name)
    record("rename", os.rename, lambda path: Path(path).name)
    place = tmp_path / "resume-00000001"
    write_checkpoint(place, {"w": b"1", "state.json": b"{}"})
    temporary = f".{place.name}.{os.getpid()}.tmp"
    assert sorted(calls[:2]) == [("fsync", "state.json"), ("fsync", "w")]
    assert calls[2:] == [("fsync", temporary), ("rename", temporary), ("fsync", tmp_path.name)]


def test_complete_file_is_synced_before_its_rename(tmp_path, monkeypatch):
    """The bytes are on disk before the name exists, and the folder is left to the caller."""
    calls = []
    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync") or sync(descriptor))
    monkeypatch.setattr(Path, "rename", lambda path, target: calls.append("rename") or rename(path, target))
    write_complete(tmp_path / "a", b"x")
    assert calls == ["fsync", "rename"]
    assert (tmp_path / "a").read_bytes() == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
