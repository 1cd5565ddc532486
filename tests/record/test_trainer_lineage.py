"""Lineage of checkpoints that another library wrote: folders, files of them, copies, and changed ones."""

from __future__ import annotations

import shutil

import orjson
import pytest

from ockham.record.checkpoint_path import STATE_FILE
from tests.helpers.forked_cli import ockham as command
from tests.record.test_trainer_checkpoints import make_run


def trace(tmp_path, path):
    """Return exit status and output of the command."""
    done = command(tmp_path, "lineage", str(path), "--runs", "runs")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["", "model.safetensors", "optimizer.pt", "parts/shard.bin", STATE_FILE])
def test_folder_and_each_file_name_run_attempt_iteration_and_event(tmp_path, name):
    """A checkpoint of another trainer is as traceable as one of the run."""
    folder = make_run(tmp_path)
    status, text = trace(tmp_path, folder / name)
    assert status == 0, text
    assert "confirmed by the log" in text
    assert "run a, attempt 1, iteration 9, kind trainer" in text
    assert "saved as trainer-00000009, event " in text
    assert f"written by another trainer to {folder}" in text


def test_moved_folder_and_copied_file_are_found(tmp_path):
    """The folder keeps its claims. A copy of one file is found by its digest."""
    folder = make_run(tmp_path)
    shutil.move(folder, tmp_path / "moved")
    assert trace(tmp_path, tmp_path / "moved")[0] == 0
    copy = tmp_path / "downloaded.safetensors"
    shutil.copy(tmp_path / "moved" / "model.safetensors", copy)
    status, text = trace(tmp_path, copy)
    assert (status, "run a, attempt 1, iteration 9, kind trainer" in text) == (0, True), text
    copy.write_bytes(b"other")
    status, text = trace(tmp_path, copy)
    assert (status, "foreign file" in text) == (2, True), text


@pytest.mark.parametrize("changed", ["model.safetensors", "optimizer.pt", STATE_FILE])
def test_changed_file_is_not_confirmed(tmp_path, changed):
    """Every file of the folder is compared, also the claims themselves."""
    folder = make_run(tmp_path)
    content = (folder / changed).read_bytes()
    (folder / changed).write_bytes(content + b" ")
    status, text = trace(tmp_path, folder)
    assert status == 1, text
    assert f"{changed}: differs from the log" in text
    status, text = trace(tmp_path, folder / changed)
    assert (status, "NOT CONFIRMED" in text) == (1, True), text


def test_deleted_files_are_no_problem_but_weights_are_needed(tmp_path):
    """Training state is often removed from a checkpoint that is kept."""
    folder = make_run(tmp_path)
    (folder / "optimizer.pt").unlink()
    assert trace(tmp_path, folder)[0] == 0
    (folder / "model.safetensors").unlink()
    status, text = trace(tmp_path, folder)
    assert (status, "has no file of weights" in text) == (2, True), text


def test_file_that_no_event_names_is_not_confirmed(tmp_path):
    """It may have been added later."""
    folder = make_run(tmp_path)
    (folder / "adapter_model.safetensors").write_bytes(b"added")
    status, text = trace(tmp_path, folder / "adapter_model.safetensors")
    assert (status, "no signed event names this file" in text) == (1, True), text


def test_checkpoint_without_signed_event_is_not_confirmed(tmp_path):
    """The process was killed before the event, or someone made the folder."""
    status, text = trace(tmp_path, make_run(tmp_path, sign=False))
    assert (status, "no signed event of log 1-0 names these bytes" in text) == (1, True), text


def test_claims_of_another_iteration_are_not_confirmed(tmp_path):
    """The state file is evidence only with its digest."""
    folder = make_run(tmp_path)
    state = orjson.loads((folder / STATE_FILE).read_bytes())
    (folder / STATE_FILE).write_bytes(orjson.dumps({**state, "iter_num": 3}))
    assert trace(tmp_path, folder)[0] == 1
    (folder / STATE_FILE).write_bytes(b"{}")
    status, text = trace(tmp_path, folder)
    assert (status, "is missing or has another type" in text) == (2, True), text
