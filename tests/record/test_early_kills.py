"""Runs that were killed before their first line was durable, and policies that are not what was recorded."""

from __future__ import annotations

import shutil

import pytest

from ockham.errors import LogError, RunError, UnverifiableError
from ockham.record.checkpoints import find_resume_point
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.replay.trajectory import load_trajectory
from ockham.run import Run
from tests.helpers.events import events
from tests.helpers.runs import make_run

SETTINGS = {"max_iters": 30}


def remove_log_folders(folder):
    shutil.rmtree(folder.path / "log")


def keep_empty_log_folder(folder):
    remove_log_folders(folder)
    folder.log_dir(1, 0).mkdir(parents=True)


def keep_torn_line(folder):
    keep_empty_log_folder(folder)
    (folder.log_dir(1, 0) / f"{0:012d}.jsonl").write_bytes(b'{"specversion":"1.0"')


def killed_run(runs, kill):
    """Return the folder of a run with policy `tight` that was killed before its first line."""
    with Run("tight", runs=runs, run_id="a", facts=SETTINGS, settings={"lr": 1}) as run:
        pass
    for part in ("events", "contexts", "decisions", "sidecars"):
        shutil.rmtree(run.folder.path / part, ignore_errors=True)
    kill(run.folder)
    return run.folder


def train(run, batches=30):
    for i in range(batches):
        run.end_batch(run.start_batch(i, 3.0 + i % 5))


@pytest.mark.parametrize("kill", [remove_log_folders, keep_empty_log_folder, keep_torn_line])
@pytest.mark.parametrize("policy", [None, "tight"])
def test_run_killed_before_its_first_line_begins_with_a_resume(tmp_path, kill, policy):
    """Nothing was recorded that could be lost. The policy is that of run.json, or the same one by name."""
    folder = killed_run(tmp_path, kill)
    point = find_resume_point(tmp_path, "a")
    assert (point.iter_num, point.settings) == (0, {"lr": 1})
    with Run(policy, runs=tmp_path, run_id="a", facts=SETTINGS, resumed=point) as run:
        train(run)
    assert run.policy.name == "tight"
    resumed = events(folder, run.attempt.number)[0]["data"]
    assert resumed["policy_revision"] == run.policy.revision
    assert "from_world_size" not in resumed
    assert verify_run(folder).sound
    report = replay_run(folder)
    assert report.identical
    assert report.total("decisions") > 20


def remove_lines(folder):
    for segment in folder.segments(1, 0):
        segment.unlink()


def remove_lines_and_newest_head(folder):
    """Keep the history of tree heads only."""
    remove_lines(folder)
    (folder.log_dir(1, 0) / "checkpoint").unlink()


@pytest.mark.parametrize("remove", [remove_lines, remove_lines_and_newest_head])
def test_run_whose_signed_lines_were_removed_cannot_be_resumed(tmp_path, remove):
    """A tree head shows that there were lines, so this is not a kill before the first one."""
    folder = make_run(tmp_path, "a", batches=30, data={}).folder
    remove(folder)
    with pytest.raises(LogError, match="are missing"):
        find_resume_point(tmp_path, "a")
    assert not verify_run(folder).sound


def change_policy(path):
    path.write_bytes(path.read_bytes().replace(b"tight", b"other"))


@pytest.mark.parametrize(
    ("change", "message"),
    [(change_policy, "differs from its digest"), (lambda path: path.unlink(), "cannot read the policy")],
)
def test_policy_with_other_bytes_than_its_digest_is_not_used(tmp_path, change, message):
    """Neither a resume nor a counterfactual reads a policy that the log does not name."""
    folder = make_run(tmp_path, "a", batches=30, policy="tight", data={}).folder
    point = find_resume_point(tmp_path, "a")
    change(next((folder.path / "policies").iterdir()))
    with pytest.raises(RunError, match=message):
        Run(runs=tmp_path, run_id="a", resumed=point)
    with pytest.raises(UnverifiableError, match=message):
        load_trajectory(folder)
    assert not verify_run(folder).sound
    assert RunFolder(tmp_path, "a").last_attempt() == 1


def test_changed_policy_of_a_run_without_lines_is_not_used(tmp_path):
    """The digest in run.json holds before the first signed line too."""
    folder = killed_run(tmp_path, remove_log_folders)
    change_policy(next((folder.path / "policies").iterdir()))
    with pytest.raises(RunError, match="differs from its digest"):
        Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a"))
