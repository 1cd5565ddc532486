"""The reserve for the last words, and what a fork does to a writer."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import pytest

from ockham.errors import LogError
from ockham.record.disk_reserve import RESERVE_BYTES, DiskReserve, disable_after_fork


def test_the_reserve_is_there_until_it_is_needed(tmp_path):
    """Written, not only promised; given back once, and a second time is nothing."""
    reserve = DiskReserve(tmp_path / "reserve")
    assert (tmp_path / "reserve").read_bytes() == bytes(RESERVE_BYTES)
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= RESERVE_BYTES
    for _ in range(2):
        reserve.release()
        assert not (tmp_path / "reserve").exists()


def test_a_reserve_that_cannot_be_given_back_stops_nobody(tmp_path, monkeypatch):
    """The last words matter more."""
    reserve = DiskReserve(tmp_path / "reserve")
    monkeypatch.setattr(
        Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system"))
    )
    reserve.release()


def test_no_room_for_the_reserve_is_no_room_for_a_log(tmp_path):
    """Said at the start."""
    with pytest.raises(OSError, match="No such file"):
        DiskReserve(tmp_path / "none" / "reserve")


def test_a_fork_poisons_the_writer_and_keeps_none_alive(monkeypatch):
    """What the child is told names the log; a writer that is gone is not held by what waits for a fork."""

    class Writer:
        path = Path("runs/a/log/1-0")
        _error = None

    hooks = []
    monkeypatch.setattr(os, "register_at_fork", lambda **when: hooks.append(when["after_in_child"]))
    writer = Writer()
    disable_after_fork(writer)
    hooks[0]()
    assert isinstance(writer._error, LogError)
    assert "runs/a/log/1-0 belongs to the process that opened it" in str(writer._error)
    alive = weakref.ref(writer)
    del writer
    gc.collect()
    assert alive() is None
    hooks[0]()
