"""Checkpoints that are one file: the state next to it, its event, the resume point and its lineage."""

from __future__ import annotations

import pytest

import ockham
from ockham.errors import CheckpointError
from ockham.record.checkpoint_path import (
    STATE_FILE,
    CheckpointPath,
    describe_location,
    list_possible_checkpoints,
)
from ockham.record.trainer_checkpoints import find_trainer_resume_point, read_state, write_state
from ockham.run import Run
from tests.helpers.forked_cli import ockham as command
from tests.record.test_trainer_checkpoints import is_sound, train


def make_run(tmp_path, *names):
    """Save files of iteration 9 of a run, and return their paths."""
    paths = [tmp_path / "out" / name for name in names]
    with Run("balanced", runs=tmp_path / "runs", run_id="a") as run:
        train(run, 0, 10)
        for path in paths:
            state = run.checkpoint_state()
            write_state(path, state)
            path.write_bytes(path.name.encode())
            run.record_checkpoint(path, state)
        train(run, 10, 12)
    return paths


def test_two_files_of_one_iteration_have_events_of_their_own(tmp_path, capsys):
    """Each event names one file and its state, and the file is the weights."""
    make_run(tmp_path, "last.pt", "model.bin")
    rows = ockham.Catalog(tmp_path / "runs").rows("select * from checkpoints order by sequence")
    assert len({row["snapshot_id"] for row in rows}) == 2
    assert all(row["snapshot_id"].startswith("trainer-00000009-") for row in rows)
    assert is_sound(tmp_path, capsys)


def test_resume_point_of_a_file_is_confirmed_after_a_rename(tmp_path):
    """A changed file, and a state without its file, are refused."""
    (path,) = make_run(tmp_path, "last.pt")
    moved = tmp_path / "best.pt"
    path.rename(moved)
    CheckpointPath.of(path).own_file(STATE_FILE).rename(CheckpointPath.of(moved).own_file(STATE_FILE))
    point = find_trainer_resume_point(moved, tmp_path / "runs")
    assert (point.iter_num, point.path, point.state["file"]) == (10, moved, "last.pt")
    moved.write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"best.pt: differs from the log"):
        find_trainer_resume_point(moved, tmp_path / "runs")
    moved.unlink()
    with pytest.raises(CheckpointError, match=r"best.pt: No such file"):
        find_trainer_resume_point(moved, tmp_path / "runs")


def test_lineage_of_a_file_loads_nothing_of_it(tmp_path):
    """Its bytes are not a pickle, and the digest is enough."""
    (path,) = make_run(tmp_path, "last.ckpt")
    done = command(tmp_path / "runs", "lineage", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"written by another trainer to {path}" in done.stdout
    path.write_bytes(b"other")
    assert command(tmp_path / "runs", "lineage", str(path)).returncode == 1


def test_file_belongs_to_the_checkpoint_with_its_name_before_its_folder(tmp_path):
    """A state next to a file is more specific than one in its folder."""
    path = tmp_path / f"last.pt.{STATE_FILE}"
    assert list_possible_checkpoints(path) == [path, tmp_path / "last.pt", tmp_path]
    assert read_state(tmp_path / "last.pt") is None
    link = tmp_path / "link.pt"
    (tmp_path / "last.pt").touch()
    link.symlink_to(tmp_path / "last.pt")
    assert CheckpointPath.of(link) == (tmp_path / "last.pt", True)
    assert describe_location({"folder": "out", "files": [{"name": "model.bin"}]}) == "out"
