"""Checkpoint folders: whole or not there, and the newest one that can be gone on from is found."""

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
    """A resumable checkpoint with this state."""
    write_checkpoint(folder.checkpoints / name, {"state.json": json.dumps(state).encode(), "w": b"1"})


def test_each_file_is_told_with_its_digest(tmp_path):
    """By name, in order, whatever the order of writing."""
    told = write_checkpoint(tmp_path / "c" / "accepted-00000001", {"b": b"two", "a": b""})
    assert told == [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in (("a", b""), ("b", b"two"))
    ]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["accepted-00000001"]
    assert (tmp_path / "c" / "accepted-00000001" / "b").read_bytes() == b"two"


def test_a_disk_that_fills_up_leaves_no_half_of_one(tmp_path, monkeypatch):
    """The error names the place; what a crash left half written before is no obstacle."""
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


def test_a_place_that_is_no_folder(tmp_path):
    """Named, with the reason."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"^cannot write checkpoint .*/file/c: Not a directory$"):
        write_checkpoint(tmp_path / "file" / "c", {"w": b"1"})


def test_names_say_kind_iteration_and_attempt():
    """A second attempt may pass the same iteration again."""
    assert make_snapshot_id("accepted", 120, 1) == "accepted-00000120"
    assert make_snapshot_id("accepted", 120, 2) == "accepted-00000120.2"


def test_the_newest_one_is_gone_on_from_and_two_are_kept(folder):
    """By iteration, then by attempt; other folders are none."""
    for name in ("resume-00000009", "resume-00000010", "resume-00000010.2", "resume-x", "accepted-00000099"):
        kept(folder, name, iter_num=10)
    start = find_resume_point(folder.runs, "a")
    assert (start.iter_num, start.snapshot_id) == (11, "resume-00000010.2")
    assert start.path == folder.checkpoints / "resume-00000010.2"
    assert prune(folder) == ["resume-00000009"]
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        "accepted-00000099", "resume-00000010", "resume-00000010.2", "resume-x"
    ]  # fmt: skip
    assert prune(folder) == []


def test_settings_are_those_that_the_run_was_last_under(folder):
    """The run's own, and on them the trainer's of the checkpoint; without a checkpoint it begins anew."""
    start = find_resume_point(folder.runs, "a")
    assert (start.iter_num, start.snapshot_id, start.path, start.state) == (0, None, None, {})
    assert (start.settings["batch_size"], start.ended) == (4, "COMPLETED")
    kept(folder, "resume-00000003", iter_num=3, trainer={"settings": {"batch_size": 8}})
    assert find_resume_point(folder.runs, "a").settings["batch_size"] == 8


def test_the_newest_is_so_by_number_not_by_name(folder):
    """A tenth attempt is newer than the second; an iteration of nine digits comes after one of eight."""
    for name in ("resume-00000010.2", "resume-00000010.10", "resume-00000010.9"):
        kept(folder, name, iter_num=10)
    assert find_resume_point(folder.runs, "a").snapshot_id == "resume-00000010.10"
    for name in ("resume-99999999", "resume-100000000"):
        kept(folder, name, iter_num=10)
    assert find_resume_point(folder.runs, "a").snapshot_id == "resume-100000000"


def test_data_and_end_are_told_with_and_without_a_checkpoint(folder):
    """And alone the state of the one rank is taken."""
    told = ({"name": "d", "sha256": "0" * 64}, "COMPLETED")
    start = find_resume_point(folder.runs, "a")
    assert (start.data, start.ended) == told
    kept(folder, "resume-00000003", iter_num=3, run={"of": 9}, ranks=[{"run": {"of": 0}}])
    start = find_resume_point(folder.runs, "a")
    assert (start.data, start.ended) == told
    assert find_resume_point(folder.runs, "a").state["run"] == {"of": 0}


def test_a_halt_is_no_end(folder):
    """It has a reason too, and the run can go on."""
    halted = {"type": "ockham.log.halted.v1", "data": {"sequence": 99, "reason_code": "ENOSPC"}}
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(json.dumps(halted).encode() + b"\n")
    assert find_resume_point(folder.runs, "a").ended is None


def test_each_rank_goes_on_from_its_own_state(folder):
    """Where as many go on; else from that of rank 0."""
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
def test_a_state_that_cannot_be_read_is_named(folder, data, said):
    """Going on from an older one would be silent loss: the user decides."""
    kept(folder, "resume-00000003", iter_num=3)
    path = folder.checkpoints / "resume-00000003" / "state.json"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"resume-00000003/state\.json.*{said}"):
        find_resume_point(folder.runs, "a")


@pytest.mark.parametrize("left", ["nothing", "no event"])
def test_a_log_that_says_no_end_has_not_ended(folder, left):
    """It is gone, or its last line is no event: whoever goes on hears of it from `verify`."""
    if left == "nothing":
        shutil.rmtree(folder.path / "log")
    else:
        with folder.segments(1, 0)[-1].open("ab") as file:
            file.write(b"no event\n")
    assert find_resume_point(folder.runs, "a").ended is None


def test_a_run_is_complete_when_it_said_so_and_has_done_all():
    """Killed at its last step it is not; with fewer steps than it did it cannot go on."""
    at = ResumePoint(10, None, None, {}, {}, {}, "COMPLETED")
    assert at.is_complete(10)
    assert not at.is_complete(11)
    assert not at._replace(ended=None).is_complete(10)
    with pytest.raises(BadInputError, match="has done 10 steps already"):
        at.is_complete(9)


def test_a_run_that_is_not_there(tmp_path):
    """Is refused by name."""
    with pytest.raises(Exception, match="no run 'b'"):
        find_resume_point(tmp_path, "b")
    assert not RunFolder(tmp_path, "b").path.exists()
