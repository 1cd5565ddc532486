"""Checkpoint folders: written completely or not at all, and selection of the newest usable one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest

from ockham.errors import BadInputError, CheckpointError
from ockham.record.checkpoints import (
    ResumePoint,
    find_resume_point,
    make_snapshot_id,
    prune,
    write_checkpoint,
)
from ockham.record.run_folder import RunFolder
from ockham.run import Run


@pytest.fixture
def folder(tmp_path):
    with Run(
        plugins=[],
        runs=tmp_path,
        run_id="a",
        settings={"batch_size": 4},
        data={"name": "d", "sha256": "0" * 64},
    ) as run:
        run.end_batch(run.start_batch(0, 3.0))
    return run.folder


def kept(folder, name, **state):
    """Write a checkpoint to resume from, with this state."""
    write_checkpoint(folder.checkpoints / name, {"state.json": json.dumps(state).encode(), "w": b"1"})


def test_write_checkpoint_returns_name_and_digest_of_each_file(tmp_path):
    """Files are in the order of their names."""
    told = write_checkpoint(tmp_path / "c" / "accepted-00000001", {"b": b"two", "a": b""})
    assert told == [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in (("a", b""), ("b", b"two"))
    ]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["accepted-00000001"]
    assert (tmp_path / "c" / "accepted-00000001" / "b").read_bytes() == b"two"


def test_write_checkpoint_on_a_full_disk_leaves_no_files(tmp_path, monkeypatch):
    """The error names the path. A leftover temporary folder does not prevent a write."""
    place = tmp_path / "resume-00000001"
    (tmp_path / ".resume-00000001.tmp").mkdir()
    (tmp_path / ".resume-00000001.tmp" / "old").write_bytes(b"half")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(
            CheckpointError, match=r"cannot write checkpoint .*/resume-00000001: No space left"
        ):
            write_checkpoint(place, {"w": b"1"})
    assert list(tmp_path.iterdir()) == []
    write_checkpoint(place, {"w": b"1"})
    assert [path.name for path in place.iterdir()] == ["w"]


def test_write_checkpoint_below_a_file_names_the_reason(tmp_path):
    """The error names the path."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"^cannot write checkpoint .*/file/c: Not a directory$"):
        write_checkpoint(tmp_path / "file" / "c", {"w": b"1"})


def test_snapshot_id_contains_kind_iteration_and_attempt():
    """A second attempt can repeat an iteration."""
    assert make_snapshot_id("accepted", 120, 1) == "accepted-00000120"
    assert make_snapshot_id("accepted", 120, 2) == "accepted-00000120.2"


def test_resume_point_is_the_newest_and_two_checkpoints_are_kept(folder):
    """Order is by iteration, then by attempt. Other folders are ignored."""
    for name in ("resume-00000009", "resume-00000010", "resume-00000010.2", "resume-x", "accepted-00000099"):
        kept(folder, name, iter_num=10)
    start = find_resume_point(folder.runs, "a")
    assert (start.iter_num, start.snapshot_id) == (11, "resume-00000010.2")
    assert start.path == folder.checkpoints / "resume-00000010.2"
    assert prune(folder) == ["resume-00000009"]
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        "accepted-00000099",
        "resume-00000010",
        "resume-00000010.2",
        "resume-x",
    ]
    assert prune(folder) == []


def test_resume_point_has_the_last_settings_of_the_run(folder):
    """The settings of the checkpoint replace those of run.json."""
    start = find_resume_point(folder.runs, "a")
    assert (start.iter_num, start.snapshot_id, start.path, start.state) == (0, None, None, {})
    assert (start.settings["batch_size"], start.ended) == (4, "COMPLETED")
    kept(folder, "resume-00000003", iter_num=3, trainer={"settings": {"batch_size": 8}})
    assert find_resume_point(folder.runs, "a").settings["batch_size"] == 8


def test_newest_checkpoint_is_chosen_by_number(folder):
    """Attempt 10 is newer than attempt 2, and nine digits follow eight."""
    for name in ("resume-00000010.2", "resume-00000010.10", "resume-00000010.9"):
        kept(folder, name, iter_num=10)
    assert find_resume_point(folder.runs, "a").snapshot_id == "resume-00000010.10"
    for name in ("resume-99999999", "resume-100000000"):
        kept(folder, name, iter_num=10)
    assert find_resume_point(folder.runs, "a").snapshot_id == "resume-100000000"


def test_resume_point_has_data_and_end_of_the_run(folder):
    """It has them with and without a checkpoint."""
    told = ({"name": "d", "sha256": "0" * 64}, "COMPLETED")
    start = find_resume_point(folder.runs, "a")
    assert (start.data, start.ended) == told
    kept(folder, "resume-00000003", iter_num=3, run={"of": 9}, ranks=[{"run": {"of": 0}}])
    start = find_resume_point(folder.runs, "a")
    assert (start.data, start.ended) == told
    assert find_resume_point(folder.runs, "a").state["run"] == {"of": 0}


def test_halted_run_can_be_resumed(folder):
    """A halt has a reason code, but is not a complete run."""
    halted = {"type": "ockham.log.halted.v1", "data": {"sequence": 99, "reason_code": "ENOSPC"}}
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(json.dumps(halted).encode() + b"\n")
    assert find_resume_point(folder.runs, "a").ended is None


def test_each_rank_resumes_from_its_own_state(folder):
    """With another number of ranks, each resumes from the state of rank 0."""
    kept(folder, "resume-00000003", iter_num=3, run={"of": 0}, ranks=[{"run": {"of": 0}}, {"run": {"of": 1}}])
    assert find_resume_point(folder.runs, "a", rank=1, world_size=2).state["run"] == {"of": 1}
    assert find_resume_point(folder.runs, "a", rank=1, world_size=3).state["run"] == {"of": 0}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "cannot be read"),
        (b"[]", "holds no JSON object"),
        (b"\xff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_unreadable_state_is_an_error_that_names_the_file(folder, data, said):
    """No older checkpoint is used silently."""
    kept(folder, "resume-00000003", iter_num=3)
    path = folder.checkpoints / "resume-00000003" / "state.json"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"resume-00000003/state\.json.*{said}"):
        find_resume_point(folder.runs, "a")


@pytest.mark.parametrize("left", ["nothing", "no event"])
def test_log_without_an_end_has_not_ended(folder, left):
    """A missing or invalid last line counts as no end."""
    if left == "nothing":
        shutil.rmtree(folder.path / "log")
    else:
        with folder.segments(1, 0)[-1].open("ab") as file:
            file.write(b"no event\n")
    assert find_resume_point(folder.runs, "a").ended is None


def test_run_is_complete_after_its_end_and_all_steps():
    """A killed run is not complete. Fewer steps than done are refused."""
    at = ResumePoint(10, None, None, {}, {}, {}, "COMPLETED")
    assert at.is_complete(10)
    assert not at.is_complete(11)
    assert not at._replace(ended=None).is_complete(10)
    with pytest.raises(BadInputError, match="has done 10 steps already"):
        at.is_complete(9)


def test_resume_point_of_a_missing_run_is_an_error(tmp_path):
    """The error names the run."""
    with pytest.raises(Exception, match="no run 'b'"):
        find_resume_point(tmp_path, "b")
    assert not RunFolder(tmp_path, "b").path.exists()
