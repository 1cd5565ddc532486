"""Checkpoint folders: written completely or not at all, and selection of the newest usable one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import orjson
import pytest

from ockham.errors import BadInputError, CheckpointError, LogError
from ockham.record.checkpoint_evidence import select_checkpoints, signed_checkpoints
from ockham.record.checkpoints import (
    CheckpointFiles,
    ResumePoint,
    delete_checkpoints,
    find_resume_point,
    make_snapshot_id,
    write_checkpoint,
)
from ockham.record.evidence import read_evidence
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import split_history
from ockham.record.verify.report import NOTE_CLASSES
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers.events import lines


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def saved_run(runs, iterations, *, run_id="a", kind="resume", end=True, state=None, **fields):
    """Write a run with a checkpoint after each of these iterations. Return its folder."""
    data = {"name": "d", "sha256": "0" * 64}
    run = Run(plugins=[], runs=runs, run_id=run_id, settings={"batch_size": 4}, data=data)
    run.__enter__()
    save_checkpoints(run, iterations, kind, state, fields)
    if end:
        run.finish()
    else:
        kill(run)
    return run.folder


def kill(run):
    """Leave the run as a kill after the last sync does."""
    run.flush()
    copy = run.folder.runs / "copy"
    shutil.copytree(run.folder.path, copy)
    run.attempt.log.close()
    shutil.rmtree(run.folder.path)
    copy.rename(run.folder.path)


def save_checkpoints(run, iterations, kind="resume", state=None, fields=()):
    def pack(metadata, restorable):
        content = {**metadata, **(restorable or {}), **dict(fields)}
        return CheckpointFiles({"state.json": state or orjson.dumps(content), "w": b"1"}, "0" * 64)

    for iter_num in range(run.last_iter, max(iterations, default=0) + 1):
        ctx = run.end_batch(run.start_batch(iter_num, 3.0))
        if iter_num in iterations:
            run.save_checkpoint(ctx, kind, pack)


def resume(runs, iterations, **options):
    """Continue run `a` as a new attempt, with a checkpoint after each of these iterations."""
    start = find_resume_point(runs, "a", **options)
    data = {"name": "d", "sha256": "0" * 64}
    with Run(plugins=[], runs=runs, run_id="a", resumed=start, data=data) as run:
        if start.path is not None:
            run.load_state_dict(start.state["run"])
        for iter_num in range(start.iter_num, max(iterations, default=start.iter_num) + 1):
            ctx = run.end_batch(run.start_batch(iter_num, 3.0))
            if iter_num in iterations:
                run.save_checkpoint(
                    ctx,
                    "resume",
                    lambda metadata, state: CheckpointFiles(
                        {"state.json": orjson.dumps(state), "w": b"1"}, "0" * 64
                    ),
                )


def plant(folder, source, name):
    """Copy a checkpoint to a name that no event has."""
    shutil.copytree(folder.checkpoints / source, folder.checkpoints / name)


def damage_file(path, damage):
    data = path.read_bytes()
    if damage == "changed":
        path.write_bytes(data[:-2] + b" }")
    elif damage == "torn":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
        if damage == "replaced by a pipe":
            os.mkfifo(path)


def test_write_checkpoint_returns_name_and_digest_of_each_file(tmp_path):
    """Files are in the order of their names."""
    recorded = write_checkpoint(tmp_path / "c" / "accepted-00000001", {"b": b"two", "a": b""})
    assert recorded == [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in (("a", b""), ("b", b"two"))
    ]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["accepted-00000001"]
    assert (tmp_path / "c" / "accepted-00000001" / "b").read_bytes() == b"two"


def test_write_checkpoint_on_a_full_disk_leaves_no_files(tmp_path, monkeypatch):
    """The error names the path. A leftover temporary folder does not prevent a write."""
    place = tmp_path / "resume-00000001"
    (tmp_path / ".resume-00000001.77.tmp").mkdir()
    (tmp_path / ".resume-00000001.77.tmp" / "old").write_bytes(b"half")
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


def test_resume_point_is_the_newest_signed_checkpoint(runs):
    """Folders that no signed event names are ignored, whatever their number."""
    folder = saved_run(runs, [3, 7])
    plant(folder, "resume-00000007", "resume-00000999")
    plant(folder, "resume-00000007", "resume-x")
    start = find_resume_point(runs, "a")
    assert (start.iter_num, start.snapshot_id) == (8, "resume-00000007")
    assert start.path == folder.checkpoints / "resume-00000007"
    assert start.resumable == ("resume-00000003", "resume-00000007")
    assert start.damaged == ()


def test_unsigned_checkpoint_event_is_no_resume_point(runs):
    """A line after the newest tree head has no effect, also an unsigned end."""
    folder = saved_run(runs, [3], end=False)
    plant(folder, "resume-00000003", "resume-00000009")
    forged = json.loads(next(line for line in lines(folder) if b"checkpoint.saved" in line))
    forged["data"] |= {"sequence": len(lines(folder)), "snapshot_id": "resume-00000009", "iter_num": 9}
    ended = {"type": "ockham.run.finished.v1", "data": {"reason_code": "COMPLETED"}}
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(orjson.dumps(forged) + b"\n" + orjson.dumps(ended) + b"\n")
    start = find_resume_point(runs, "a")
    assert start.snapshot_id == "resume-00000003"
    assert start.ended is None


def test_two_newest_checkpoints_are_kept_after_signed_events(runs, monkeypatch):
    """When the files of a checkpoint are deleted, a signed event records it already."""
    deleted = []

    def delete(folder, snapshot_ids):
        keys = [load_or_create_signer().verifier]
        found = signed_checkpoints(read_evidence(folder, keys, select=select_checkpoints))
        deleted.extend((name, found[name].pruned) for name in snapshot_ids)
        delete_checkpoints(folder, snapshot_ids)

    monkeypatch.setattr("ockham.record.checkpointing.delete_checkpoints", delete)
    folder = saved_run(runs, [1, 2, 3, 4])
    assert deleted == [("resume-00000001", "NEWER_KEPT"), ("resume-00000002", "NEWER_KEPT")]
    names = sorted(path.name for path in folder.checkpoints.iterdir())
    assert names == ["resume-00000003", "resume-00000004"]
    assert verify_run(folder).sound


def test_planted_checkpoint_does_not_prune_a_real_one(runs):
    """Only checkpoints of signed events count as newer."""
    folder = saved_run(runs, [1, 2])
    for number in (90, 91, 92):
        plant(folder, "resume-00000002", f"resume-{number:08d}")
    resume(runs, [5])
    names = sorted(path.name for path in folder.checkpoints.iterdir() if int(path.name[7:15]) < 90)
    assert names == ["resume-00000002", "resume-00000005.2"]


@pytest.mark.parametrize("damage", ["changed", "torn", "missing", "replaced by a pipe"])
def test_damaged_checkpoint_is_skipped_and_given_up(runs, damage):
    """The newest whole one is used. After the resume the run is sound again, and replay covers it."""
    folder = saved_run(runs, [3, 7], end=False)
    path = folder.checkpoints / "resume-00000007" / "state.json"
    damage_file(path, damage)
    assert not verify_run(folder).sound
    start = find_resume_point(runs, "a")
    assert start.snapshot_id == "resume-00000003"
    assert [name for name, _ in start.damaged] == ["resume-00000007"]
    assert "state.json" in start.damaged[0][1]
    resume(runs, [9])
    report = verify_run(folder)
    assert [finding for finding in report.findings if finding.kind not in NOTE_CLASSES] == []
    pruned = [json.loads(line)["data"] for line in lines(folder, 2) if b"checkpoint.pruned" in line]
    assert pruned[0]["snapshot_id"] == "resume-00000007"
    assert pruned[0]["reason_code"] == "DAMAGED"


def test_missing_anchor_is_given_up_by_a_resume(runs):
    """Its files are not needed to resume, and the run is sound again afterwards."""
    folder = saved_run(runs, [3], kind="anchor")
    shutil.rmtree(folder.checkpoints / "anchor-00000003")
    assert not verify_run(folder).sound
    resume(runs, [5])
    assert verify_run(folder).sound


def test_run_without_a_whole_checkpoint_is_refused(runs):
    """The error names the file and the way to begin again."""
    folder = saved_run(runs, [3, 7])
    for name in ("resume-00000003", "resume-00000007"):
        damage_file(folder.checkpoints / name / "state.json", "changed")
    with pytest.raises(CheckpointError, match=r"resume-00000007/state\.json.*--resume-from start"):
        find_resume_point(runs, "a")
    start = find_resume_point(runs, "a", snapshot_id="start")
    assert (start.iter_num, start.path) == (0, None)


def test_requested_checkpoint_is_used_or_named(runs):
    """An older one can be requested. Unknown, pruned and planted ones are refused by name."""
    folder = saved_run(runs, [1, 3, 7])
    plant(folder, "resume-00000007", "resume-00000099")
    assert find_resume_point(runs, "a", snapshot_id="resume-00000003").iter_num == 4
    for name in ("resume-00000001", "resume-00000099", "../a", "resume-00000003.9"):
        with pytest.raises(CheckpointError, match="existing: resume-00000003, resume-00000007, start"):
            find_resume_point(runs, "a", snapshot_id=name)


def test_checkpoint_after_an_earlier_resume_is_superseded(runs):
    """A run that was resumed from an older checkpoint continues from there."""
    saved_run(runs, [3, 7])
    resume(runs, [], snapshot_id="resume-00000003")
    assert find_resume_point(runs, "a").snapshot_id == "resume-00000003"
    resume(runs, [5])
    assert find_resume_point(runs, "a").snapshot_id == "resume-00000005.3"


def test_resume_removes_what_a_kill_left(runs):
    """Temporary folders, and files of checkpoints that a signed event pruned."""
    folder = saved_run(runs, [1, 2, 3])
    plant(folder, "resume-00000003", ".resume-00000004.77.tmp")
    plant(folder, "resume-00000003", "resume-00000001")
    resume(runs, [])
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        "resume-00000002",
        "resume-00000003",
    ]


def test_resume_of_a_tampered_log_is_refused(runs):
    """The error asks for a verification."""
    folder = saved_run(runs, [3])
    segment = folder.segments(1, 0)[0]
    segment.write_bytes(segment.read_bytes().replace(b'"task_loss":3.0', b'"task_loss":2.0', 1))
    with pytest.raises(LogError, match="differ from the signed ones; run `ockham verify a`"):
        find_resume_point(runs, "a")


def test_resume_point_has_the_last_settings_of_the_run(runs):
    """The settings of the checkpoint replace those of run.json."""
    saved_run(runs, [])
    start = find_resume_point(runs, "a")
    assert (start.iter_num, start.snapshot_id, start.path, start.state) == (0, None, None, {})
    assert (start.settings["batch_size"], start.ended) == (4, "COMPLETED")
    saved_run(runs, [3], run_id="b", trainer={"settings": {"batch_size": 8}})
    assert find_resume_point(runs, "b").settings["batch_size"] == 8


def test_resume_point_has_data_and_end_of_the_run(runs):
    """It has them with a checkpoint too. A killed run has no end."""
    saved_run(runs, [3])
    start = find_resume_point(runs, "a")
    assert (start.data, start.ended) == ({"name": "d", "sha256": "0" * 64}, "COMPLETED")
    saved_run(runs, [3], run_id="b", end=False)
    assert find_resume_point(runs, "b").ended is None


def test_each_rank_resumes_from_its_own_state(runs):
    """With another number of ranks, each resumes from the state of rank 0."""
    saved_run(runs, [3], run={"of": 0}, ranks=[{"run": {"of": 0}}, {"run": {"of": 1}}])
    assert find_resume_point(runs, "a", rank=1, world_size=2).state["run"] == {"of": 1}
    assert find_resume_point(runs, "a", rank=1, world_size=3).state["run"] == {"of": 0}


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"{", "cannot be read"), (b"[]", "holds no JSON object"), (b"\xff", "cannot be read")],
)
def test_signed_state_that_is_not_json_is_an_error_that_names_the_file(runs, data, message):
    """The trainer wrote it, so no older checkpoint is used silently."""
    saved_run(runs, [3], state=data)
    with pytest.raises(CheckpointError, match=rf"resume-00000003/state\.json.*{message}"):
        find_resume_point(runs, "a")


def test_run_without_a_log_has_not_ended(runs):
    """It is resumed from its beginning."""
    folder = saved_run(runs, [])
    shutil.rmtree(folder.path / "log")
    start = find_resume_point(runs, "a")
    assert (start.iter_num, start.ended) == (0, None)


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


def test_resume_does_not_trust_the_key_in_run_json(runs, tmp_path):
    """Someone without the user's key can write it, and sign every line again."""
    folder = saved_run(runs, [3])
    assert find_resume_point(runs, "a").snapshot_id == "resume-00000003"
    forger, log = load_or_create_signer(tmp_path / "other"), folder.log_dir(1, 0)
    about = orjson.loads(folder.run_json.read_bytes())
    folder.run_json.write_bytes(orjson.dumps({**about, "verifier_key": str(forger.verifier)}))
    note = forger.sign((log / "checkpoint").read_text().rpartition("\n\n")[0] + "\n")
    (log / "checkpoint").write_bytes(note)
    (log / "checkpoints").write_bytes(note + b"\n")
    with pytest.raises(LogError, match=r"no known key has signed run a; .*pass it with --key"):
        find_resume_point(runs, "a")


def test_run_of_another_machine_is_resumed_with_its_key(runs, tmp_path, monkeypatch):
    """The new attempt is signed with this machine's key, and both keys together verify the run."""
    saved_run(runs, [3])
    first = load_or_create_signer().verifier
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "other"))
    with pytest.raises(LogError, match="pass it with --key"):
        find_resume_point(runs, "a")
    resume(runs, [5], keys=[first])
    folder = RunFolder(runs, "a")
    keys = [first, load_or_create_signer().verifier]
    assert verify_run(folder, keys=keys).sound
    assert not verify_run(folder, keys=keys[1:]).sound


@pytest.mark.parametrize("content", [b"{}", b'{"settings": {"batch_size": 8}, "data": {}}', b"[]", b""])
def test_resume_refuses_a_changed_run_json(runs, content):
    """Its settings and data continue the run, and a signed event names its digest."""
    saved_run(runs, [3]).run_json.write_bytes(content)
    with pytest.raises((LogError, CheckpointError), match=r"run\.json"):
        find_resume_point(runs, "a")


def test_resume_accepts_a_kill_before_the_first_line_is_signed(runs):
    """The log then has lines and the signed head of the empty log. The run begins again."""
    log = saved_run(runs, [3]).log_dir(1, 0)
    empty = split_history((log / "checkpoints").read_bytes())[0][0]
    (log / "checkpoint").write_bytes(empty)
    (log / "checkpoints").write_bytes(empty + b"\n")
    start = find_resume_point(runs, "a")
    assert (start.iter_num, start.snapshot_id, start.ended) == (0, None, None)
