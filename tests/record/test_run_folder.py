import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import RunError
from ockham.record.run_folder import RunFolder, atomic_write, check_run_id, list_runs
from tests.helpers.events import run_folder

HOSTILE = [
    "", ".", "..", "../a", "/etc", "a/b", "a\\b", "a\0b", "%2e%2e%2f", "-rf", "A", "é", "a b", "a\n", "x" * 65, "․․", ".hidden", "a#b", "a?b",
]  # fmt: skip


@pytest.mark.parametrize("run_id", HOSTILE)
def test_hostile_run_ids_are_refused(run_id):
    """A run ID that could leave the folder, or that some file system refuses, is one clear error."""
    with pytest.raises(RunError, match="is not allowed"):
        check_run_id(run_id)


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True))
def test_allowed_run_ids_stay_inside(run_id):
    """Every allowed ID names a folder directly under the runs folder."""
    folder = RunFolder("/runs", run_id)

    assert os.path.normpath(folder.path) == f"/runs/{run_id}"


def test_an_existing_run_is_not_overwritten(tmp_path):
    """Making a run twice is refused, and says how to go on."""
    folder = run_folder(tmp_path)

    with pytest.raises(RunError, match="--resume"):
        folder.create()


def test_an_unwritable_place_is_one_error(tmp_path):
    """A runs folder that cannot be made says why."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RunError, match="cannot make a run folder"):
        RunFolder(tmp_path / "file", "a").create()


def test_only_runs_are_listed(tmp_path):
    """Strange names and folders without run.json are passed over."""
    run_folder(tmp_path, "b")
    run_folder(tmp_path, "a")
    (tmp_path / "UPPER").mkdir()
    (tmp_path / "empty").mkdir()

    assert list_runs(tmp_path) == ["a", "b"]
    assert list_runs(tmp_path / "nowhere") == []


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    """A file is there whole or not at all, and no temporary file stays."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(tmp_path / "x", b"data")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "", "A" * 64, "0" * 63])
def test_blobs_and_policies_are_named_by_digests_only(tmp_path, name):
    """What stands in a log as a digest cannot name another file."""
    folder = RunFolder(tmp_path, "a")

    with pytest.raises(RunError, match="64 hex digits"):
        folder.blob(name)
    with pytest.raises(RunError, match="64 hex digits"):
        folder.policy("sha256:" + name)
