"""Checkpoints of other libraries: their signed files, both verifiers, and where a run resumes."""

from __future__ import annotations

import shutil

import orjson
import pytest

import ockham
from ockham.errors import CheckpointError, RunError
from ockham.record.checkpoint_path import STATE_FILE
from ockham.record.trainer_checkpoints import (
    find_trainer_resume_point,
    weights_digest,
    write_state,
)
from ockham.record.verify import standalone
from ockham.record.verify.run import verify_run
from ockham.run import Run


def train(run, first, last):
    """Run batches without a model."""
    for i in range(first, last):
        run.end_batch(run.start_batch(i, 2.0 + i % 3), grad_norm=0.5)


def save(run, folder, *, sign=True):
    """Write what a trainer writes, with the state of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    state = run.checkpoint_state()
    write_state(folder, state)
    (folder / "model.safetensors").write_bytes(b"weights %d" % run.last_iter)
    (folder / "optimizer.pt").write_bytes(b"moments")
    (folder / "parts").mkdir(exist_ok=True)
    (folder / "parts" / "shard.bin").write_bytes(b"shard")
    if sign:
        run.record_checkpoint(folder, state)
    return folder


def make_run(tmp_path, *, sign=True):
    """Return the checkpoint of iteration 9 of a run that reached iteration 14."""
    with Run("balanced", runs=tmp_path / "runs", run_id="a") as run:
        train(run, 0, 10)
        folder = save(run, tmp_path / "out" / "checkpoint-10", sign=sign)
        train(run, 10, 15)
    return folder


def is_sound(tmp_path, capsys):
    """Return True if both verifiers find the run sound. They must agree."""
    report = verify_run(ockham.RunFolder(tmp_path / "runs", "a"))
    files = standalone.load(tmp_path / "runs" / "a")
    key = standalone.parse_key(orjson.loads(files["run.json"])["verifier_key"])
    status = standalone.verify_archive(files, "a", key, known=True)
    capsys.readouterr()
    assert report.sound == (status == 0), report.findings
    return report.sound


def resume(tmp_path, folder):
    """Continue the run to iteration 19."""
    point = find_trainer_resume_point(folder, tmp_path / "runs")
    with Run(runs=tmp_path / "runs", resumed=point) as run:
        run.load_state_dict(point.state["run"])
        train(run, point.iter_num, 20)


def test_files_of_a_trainer_are_named_with_their_digests(tmp_path, capsys):
    """The event contains every file, also in folders, and the folder as it was given."""
    folder = make_run(tmp_path)
    [row] = ockham.Catalog(tmp_path / "runs").rows("select * from checkpoints")
    assert (row["snapshot_id"], row["kind"], row["folder"]) == ("trainer-00000009", "trainer", str(folder))
    [event] = ockham.Catalog(tmp_path / "runs").rows(
        "select data from events where type = 'ockham.checkpoint.saved.v1'"
    )
    names = [file["name"] for file in orjson.loads(event["data"])["files"]]
    assert names == ["model.safetensors", STATE_FILE, "optimizer.pt", "parts/shard.bin"]
    assert is_sound(tmp_path, capsys)


@pytest.mark.parametrize("change", ["delete", "change"])
def test_external_files_are_no_finding_of_either_verifier(tmp_path, capsys, change):
    """A trainer deletes old checkpoints. The verifiers open nothing outside of the run folder."""
    folder = make_run(tmp_path)
    if change == "delete":
        shutil.rmtree(folder)
    else:
        (folder / "model.safetensors").write_bytes(b"other")
    assert is_sound(tmp_path, capsys)


def test_a_file_in_the_run_folder_does_not_pass_as_external(tmp_path, capsys):
    """The ID of a trainer's checkpoint does not cover files below checkpoints/."""
    make_run(tmp_path)
    inside = tmp_path / "runs" / "a" / "checkpoints" / "trainer-00000009"
    inside.mkdir(parents=True)
    (inside / "model.safetensors").write_bytes(b"other")
    report = verify_run(ockham.RunFolder(tmp_path / "runs", "a"))
    assert [note.place for note in report.findings if note.kind == "foreign"] == [
        "checkpoints/trainer-00000009/model.safetensors"
    ]


def test_resume_supersedes_exactly_the_batches_after_the_checkpoint(tmp_path, capsys):
    """The batches whose steps are in the weights count. The others do not."""
    resume(tmp_path, make_run(tmp_path))
    rows = ockham.Catalog(tmp_path / "runs").rows(
        "select attempt, iter_num, superseded from contexts order by attempt, iter_num"
    )
    assert [(row["attempt"], row["iter_num"]) for row in rows if row["superseded"]] == [
        (1, i) for i in range(10, 15)
    ]
    assert [row["iter_num"] for row in rows if not row["superseded"]] == list(range(20))
    assert is_sound(tmp_path, capsys)


def test_own_checkpoints_stay_resumable_beside_external_ones(tmp_path):
    """A deleted folder of the trainer does not count as a damaged checkpoint of the run."""
    shutil.rmtree(make_run(tmp_path))
    with pytest.raises(CheckpointError, match=r"find_trainer_resume_point\(.*checkpoint-10'\), or begin"):
        ockham.find_resume_point(tmp_path / "runs", "a")
    point = ockham.find_resume_point(tmp_path / "runs", "a", snapshot_id="start")
    assert (point.path, point.damaged) == (None, ())


def _change(folder):
    (folder / "model.safetensors").write_bytes(b"weights X")


def _remove(folder):
    (folder / "optimizer.pt").unlink()


def _add(folder):
    (folder / "pytorch_model.bin").write_bytes(b"more")


def _change_state(folder):
    state = orjson.loads((folder / STATE_FILE).read_bytes())
    state["run"]["counts"]["steps"] += 1
    (folder / STATE_FILE).write_bytes(orjson.dumps(state))


def _break_state(folder):
    (folder / STATE_FILE).write_bytes(b'{"run_id": "a"}')


def _cut_state(folder):
    (folder / STATE_FILE).write_bytes(b"{")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change, "model.safetensors: differs from the log"),
        (_remove, "optimizer.pt: No such file"),
        (_add, "pytorch_model.bin: no signed event names this file"),
        (_change_state, f"{STATE_FILE}: differs from the log"),
        (_break_state, "attempt, rank, iter_num.* is missing"),
        (_cut_state, "cannot be read"),
    ],
)
def test_a_changed_checkpoint_is_refused(tmp_path, change, message):
    """Every file is compared before the run continues from it."""
    folder = make_run(tmp_path)
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        find_trainer_resume_point(folder, tmp_path / "runs")


def test_a_checkpoint_without_signed_event_is_refused(tmp_path):
    """The process was killed between the trainer's files and the event, or the log is an older copy."""
    folder = make_run(tmp_path, sign=False)
    with pytest.raises(CheckpointError, match=r"no signed event of run 'a' names it.*none"):
        find_trainer_resume_point(folder, tmp_path / "runs")


def test_a_superseded_checkpoint_is_refused(tmp_path):
    """Its weights lack the batches that count now."""
    with Run("balanced", runs=tmp_path / "runs", run_id="a") as run:
        train(run, 0, 5)
        early = save(run, tmp_path / "out" / "checkpoint-5")
        train(run, 5, 10)
        late = save(run, tmp_path / "out" / "checkpoint-10")
    resume(tmp_path, early)
    with pytest.raises(CheckpointError, match=r"superseded.*checkpoint-5"):
        find_trainer_resume_point(late, tmp_path / "runs")


def test_a_checkpoint_without_its_run_is_refused(tmp_path):
    """The message lists the runs that are there."""
    folder = make_run(tmp_path)
    with pytest.raises(RunError, match="no run 'a'"):
        find_trainer_resume_point(folder, tmp_path / "other")
    (folder / STATE_FILE).unlink()
    with pytest.raises(CheckpointError, match=f"has no {STATE_FILE}"):
        find_trainer_resume_point(folder, tmp_path / "runs")


def test_late_start_is_in_the_log(tmp_path, capsys):
    """The first event of a new run on trained weights contains its first iteration."""
    run = Run("balanced", runs=tmp_path / "runs", run_id="a").begin_at(7, "7 steps without a log")
    with run:
        train(run, 7, 9)
    with pytest.raises(RunError, match="has started already"):
        run.begin_at(8, "")
    [event] = ockham.Catalog(tmp_path / "runs").rows(
        "select data from events where type = 'ockham.run.started.v1'"
    )
    data = orjson.loads(event["data"])
    assert (data["iter_num"], data["reason_code"], data["warnings"]) == (
        7,
        "STARTED_LATE",
        ["7 steps without a log"],
    )
    assert is_sound(tmp_path, capsys)


def test_weights_digest_of_several_files_covers_each(tmp_path):
    """A sharded model has one digest, which depends on every shard and on no other file."""
    shards = [{"name": f"model-{n}.safetensors", "sha256": str(n) * 64, "bytes": 1} for n in (1, 2)]
    other = {"name": "optimizer.pt", "sha256": "3" * 64, "bytes": 1}
    whole = weights_digest([*shards, other])
    assert whole == weights_digest(shards) != weights_digest(shards[:1])
    assert weights_digest([*shards[:1], other]) == "1" * 64


def test_external_checkpoints_are_not_looked_for_in_the_run_folder(tmp_path):
    """Commands that read weights name the folder of the trainer."""
    from ockham.cli.checkpoint_lookup import find_checkpoint

    folder = make_run(tmp_path)
    with pytest.raises(CheckpointError, match=f"written by another trainer to '{folder}'"):
        find_checkpoint(tmp_path / "runs", "a", "trainer-00000009")
