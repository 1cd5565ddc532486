"""File systems without file locks, as Lustre without the mount option flock."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from ockham.catalog import Catalog
from ockham.errors import RunError
from ockham.record.ledger import append_entry, read_entries
from ockham.record.lock_support import NO_LOCKS, require_locks
from ockham.record.log_status import is_locked, read_log_status
from ockham.record.run_folder import list_runs
from ockham.run import Run
from tests.helpers.runs import make_run


@pytest.fixture
def break_locks(monkeypatch):
    def install(number):
        def flock(descriptor, operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return install


@pytest.mark.parametrize("number", sorted(NO_LOCKS))
def test_run_on_a_file_system_without_locks_is_refused(tmp_path, break_locks, number):
    """One error names the mount option. No folder of a run is left, and no event of the ledger."""
    break_locks(number)
    with pytest.raises(RunError, match=r"no file locks .* with the option flock"):
        Run("observe", runs=tmp_path, run_id="a").start()
    with pytest.raises(RunError, match="no file locks"):
        append_entry(tmp_path, "run.managed", {})
    assert list_runs(tmp_path) == []
    assert read_entries(tmp_path) == []


@pytest.mark.parametrize("number", sorted(NO_LOCKS))
def test_copied_run_is_read_without_locks(tmp_path, break_locks, number):
    """No process can hold a lock there."""
    folder = make_run(tmp_path, batches=3).folder
    break_locks(number)
    assert not is_locked(folder.log_dir(1, 0) / "lock")
    assert read_log_status(folder, 1, 0).finished
    assert Catalog(tmp_path).rows("select state from runs") == [{"state": "COMPLETED"}]


def test_other_errors_of_locks_are_not_hidden(tmp_path, break_locks):
    """A broken disk is not a missing feature."""
    break_locks(errno.EIO)
    with pytest.raises(OSError, match="error"):
        require_locks(tmp_path)


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077, 0o027])
def test_files_and_folders_of_a_run_have_the_permissions_of_the_umask(tmp_path, mask):
    """A group that shares a folder of runs can continue, repair and remove them."""
    before = os.umask(mask)
    try:
        folder = make_run(tmp_path, batches=3).folder
    finally:
        os.umask(before)
    for path in folder.path.rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~mask
        assert path.stat().st_mode & 0o777 == expected, path
    assert folder.path.stat().st_mode & 0o777 == 0o777 & ~mask
