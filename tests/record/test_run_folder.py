import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import RunError
from ockham.record.durable_io import atomic_write
from ockham.record.run_folder import RunFolder, check_run_id, list_runs
from tests.helpers.events import run_folder

HOSTILE = [
    "",
    ".",
    "..",
    "../a",
    "/etc",
    "a/b",
    "a\\b",
    "a\0b",
    "%2e%2e%2f",
    "-rf",
    "A",
    "é",
    "a b",
    "a\n",
    "x" * 65,
    "․․",
    ".hidden",
    "a#b",
    "a?b",
]


@pytest.mark.parametrize("run_id", HOSTILE)
def test_hostile_run_id_is_an_error(run_id):
    """The ID could leave the folder or be invalid on a file system."""
    with pytest.raises(RunError, match="is not valid"):
        check_run_id(run_id)


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True))
def test_valid_run_id_names_a_folder_inside_runs(run_id):
    """It is directly below the runs folder."""
    folder = RunFolder("/runs", run_id)

    assert os.path.normpath(folder.path) == f"/runs/{run_id}"


def test_create_existing_run_is_an_error_with_advice(tmp_path):
    """The message names --resume."""
    folder = run_folder(tmp_path)

    with pytest.raises(RunError, match="--resume"):
        folder.create()


def test_create_after_a_kill_starts_again(tmp_path):
    """A folder has its name only with all its files. What a kill left is removed."""
    (tmp_path / ".a.77.tmp").mkdir()
    (tmp_path / ".a.77.tmp" / "half").write_bytes(b"")
    folder = RunFolder(tmp_path, "a")
    folder.create({"run.json": b"{}", "policies/x.json": b"[]"})
    assert (folder.path / "policies" / "x.json").read_bytes() == b"[]"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_create_in_an_unwritable_folder_is_one_error(tmp_path):
    """The message contains the reason."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RunError, match="cannot make a run folder"):
        RunFolder(tmp_path / "file", "a").create()


def test_list_runs_ignores_other_names(tmp_path):
    """Folders without run.json are ignored."""
    run_folder(tmp_path, "b")
    run_folder(tmp_path, "a")
    (tmp_path / "UPPER").mkdir()
    (tmp_path / "empty").mkdir()

    assert list_runs(tmp_path) == ["a", "b"]
    assert list_runs(tmp_path / "nowhere") == []


def test_atomic_write_leaves_no_file_after_a_failure(tmp_path, monkeypatch):
    """No temporary file remains."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(tmp_path / "x", b"data")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "", "A" * 64, "0" * 63])
def test_blob_and_policy_paths_accept_digests_only(tmp_path, name):
    """A digest in a log cannot name another file."""
    folder = RunFolder(tmp_path, "a")

    with pytest.raises(RunError, match="64 hex digits"):
        folder.blob(name)
    with pytest.raises(RunError, match="64 hex digits"):
        folder.policy("sha256:" + name)
