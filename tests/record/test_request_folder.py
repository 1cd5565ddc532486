"""Folder of requests: hostile entries are ordinary input, and reading is bounded."""

from __future__ import annotations

import os
import socket
import tempfile
import time
import timeit
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.errors import RunError
from ockham.record.request_folder import GRACE_SECONDS, MAX_ENTRIES, RequestFolder, write_request
from ockham.record.requests import MAX_REQUEST_BYTES
from ockham.record.run_folder import RunFolder
from tests.helpers.events import run_folder
from tests.helpers.requests import signed_request

NAME = "01a2233e-04ce-7193-b496-dca5c11f0829.note"


@pytest.fixture
def folder(tmp_path):
    found = run_folder(tmp_path)
    (found.path / "requests").mkdir()
    return found


def test_written_request_is_read_and_removed(folder):
    """One complete file, then none."""
    signed = signed_request(folder, "STOP")
    path = write_request(folder, signed)
    reader = RequestFolder(folder)
    assert reader.has_news()
    [file] = reader.read()
    assert (file.name, file.data, file.refused) == (path.name, signed.note.encode(), None)
    assert reader.remove(file.name)
    assert reader.read() == []


def test_missing_folder_has_no_news(tmp_path):
    """A run without requests."""
    reader = RequestFolder(run_folder(tmp_path))
    assert not reader.has_news()
    assert reader.read() == []
    assert not reader.remove("x")


def make_entry(path: Path, kind: str, target: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(target)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
        (path / "inside").write_bytes(b"x")
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "socket":
        # The path of a socket is short.
        here = Path.cwd()
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
        os.chdir(here)
    elif kind == "hard link":
        os.link(target, path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "unreadable":
        path.write_bytes(b"x")
        path.chmod(0)
    else:
        path.write_bytes(kind.encode())


_KINDS = st.sampled_from(
    ["pipe", "link", "loop", "folder", "empty folder", "socket", "hard link", "huge", "unreadable", "", "{}"]
)
_NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: b"/" not in name and b"\0" not in name)


@settings(max_examples=60)
@given(
    st.dictionaries(_NAMES.filter(lambda name: name not in (b".", b"..")) | st.just(NAME.encode()), _KINDS)
)
def test_read_of_any_entries_ends_and_touches_nothing_else(entries):
    """Names and kinds of an attacker: each entry is returned once, and targets stay as they are."""
    with tempfile.TemporaryDirectory() as scratch:
        found = run_folder(Path(scratch))
        (found.path / "requests").mkdir()
        target = Path(scratch) / "target"
        target.write_bytes(b"kept")
        for name, kind in entries.items():
            make_entry(found.path / "requests" / os.fsdecode(name), kind, target)
        reader = RequestFolder(found)
        files = reader.read()
        assert {os.fsencode(file.name) for file in files} == set(entries)
        accepted = [file for file in files if file.refused is None]
        assert all(file.name == NAME for file in accepted)
        assert all(len(file.data) <= MAX_REQUEST_BYTES + 1 for file in files)
        for file in files:
            is_full_folder = entries[os.fsencode(file.name)] == "folder"
            assert reader.remove(file.name) == (not is_full_folder)
        assert target.read_bytes() == b"kept"


def test_read_of_a_flood_is_bounded(folder):
    """64 entries at a time, and all of them in the end."""
    for number in range(3 * MAX_ENTRIES):
        (folder.path / "requests" / f"flood-{number}").write_bytes(b"x" * 100_000)
    reader, seen = RequestFolder(folder), []
    while files := reader.read():
        assert len(files) <= MAX_ENTRIES
        for file in files:
            seen.append(file.name)
            reader.remove(file.name)
    assert len(seen) == 3 * MAX_ENTRIES


def test_link_in_place_of_the_folder_is_not_followed(folder, tmp_path):
    """Neither the reader nor the writer leaves the run."""
    (folder.path / "requests").rmdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / NAME).write_bytes(b"x")
    (folder.path / "requests").symlink_to(outside)
    reader = RequestFolder(folder)
    assert not reader.has_news()
    assert reader.read() == []
    with pytest.raises(RunError, match="is a link"):
        write_request(folder, signed_request(folder, "STOP"))
    assert not reader.remove(NAME)
    assert (outside / NAME).exists()


def test_half_written_file_is_young_until_the_grace_has_passed(folder):
    """A file that was copied without a rename gets time to become complete."""
    path = folder.path / "requests" / NAME
    path.write_bytes(b"ockham/requests/a\n{")
    reader = RequestFolder(folder)
    assert reader.read()[0].is_young
    # It may become complete without a change of the folder.
    assert reader.has_news()
    past = time.time() - GRACE_SECONDS - 1
    os.utime(path, (past, past))
    assert not reader.read()[0].is_young
    os.utime(path, (time.time() + 1e6, time.time() + 1e6))
    assert not reader.read()[0].is_young


def test_unfinished_file_of_the_command_is_left_out(folder):
    """`ockham stop` renames the complete file."""
    (folder.path / "requests" / f".{NAME}.4711.tmp").write_bytes(b"ockham")
    assert RequestFolder(folder).read() == []


def test_change_within_one_tick_is_read(folder):
    """A file that appears right after a read, in the same tick of the clock, is not missed."""
    reader = RequestFolder(folder)
    for _ in range(20):
        assert reader.read() == []
        path = write_request(folder, signed_request(folder, "STOP"))
        assert reader.has_news()
        assert [file.name for file in reader.read()] == [path.name]
        reader.remove(path.name)


@pytest.mark.parametrize("has_folder", [True, False])
def test_has_news_takes_less_than_20_us(tmp_path, has_folder):
    """The cost of each step without a request."""
    found: RunFolder = run_folder(tmp_path)
    if has_folder:
        (found.path / "requests").mkdir()
        past = time.time() - 60
        os.utime(found.path / "requests", (past, past))
    reader = RequestFolder(found)
    reader.read()
    assert not reader.has_news()
    assert min(timeit.repeat(reader.has_news, number=500, repeat=7)) / 500 < 20e-6
