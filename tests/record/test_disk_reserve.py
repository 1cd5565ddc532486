"""Reserved disk space for the final events, and the effect of a fork on a writer."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import pytest

from ockham.errors import LogError
from ockham.record.disk_reserve import RESERVE_BYTES, DiskReserve, disable_after_fork


def test_reserve_exists_until_it_is_released(tmp_path):
    """The bytes are written. A second release has no effect."""
    reserve = DiskReserve(tmp_path / "reserve")
    assert (tmp_path / "reserve").read_bytes() == bytes(RESERVE_BYTES)
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= RESERVE_BYTES
    for _ in range(2):
        reserve.release()
        assert not (tmp_path / "reserve").exists()


def test_reserve_that_cannot_be_released_does_not_raise(tmp_path, monkeypatch):
    """Writing the final event matters more."""
    reserve = DiskReserve(tmp_path / "reserve")
    monkeypatch.setattr(
        Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system"))
    )
    reserve.release()


def test_reserve_without_disk_space_raises_at_the_start(tmp_path):
    """A log cannot start then."""
    with pytest.raises(OSError, match="No such file"):
        DiskReserve(tmp_path / "none" / "reserve")


def test_fork_disables_the_writer_and_keeps_no_reference(monkeypatch):
    """The error in the child names the log."""

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
