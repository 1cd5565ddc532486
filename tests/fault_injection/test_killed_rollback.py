"""SIGKILL at every stage of a rollback, then a resume: bit-equal to the uninterrupted run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.fault_injection.killed_rollback import STAGES
from tests.helpers import forked_cli
from tests.helpers.events import events
from tests.helpers.tiny_trainer import weights_equal
from tests.helpers.train_command import build_arguments, build_environment, run_train, select_data

SCRIPT = Path(__file__).parent / "killed_rollback.py"
POLICY = """
extends: balanced
targets: {}
plugins:
  rollback_at: {use: "tests.helpers.plugins:RollbackAt", first: 17, second: 27}
  rollback_counter: {use: "tests.helpers.plugins:RollbackCounter"}
"""
SETTINGS = ("dropout=0.1", "state_every=5", "keep_states=3", "checkpoint_every=7")


def arguments(folder, run):
    (folder / "policy.yaml").write_text(POLICY)
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    return ["--run", run, "--policy", str(folder / "policy.yaml"), *options]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run with two rollbacks."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = run_train(folder, *arguments(folder, "whole"))
    assert process.returncode == 0, process.stderr
    return folder


def read_end(folder, run):
    """Return tensors and state of the last checkpoint, without its position in the log."""
    newest = max((folder / "runs" / run / "checkpoints").glob("resume-00000039*"))
    tensors = {
        f"{name}/{key}": tensor
        for name in ("model", "optimizer", "anchor")
        for key, tensor in load_file(newest / f"{name}.safetensors").items()
    }
    state = json.loads((newest / "state.json").read_bytes())
    trainer = {key: value for key, value in state["trainer"].items() if key != "settings"}
    return tensors, trainer, state["run"]["plugins"], state["run"]["gauges"]


def read_trajectory(folder, run):
    """Return what counts of all attempts: digest, verdict and loss of each iteration, and the rollbacks."""
    batches, rollbacks = {}, {}
    run_folder = RunFolder(folder / "runs", run)
    for attempt, _ in sorted(run_folder.logs()):
        log_events = events(run_folder, attempt)
        for first in [data["iter_num"] for data in select_data("run.resumed", log_events)]:
            batches = {key: value for key, value in batches.items() if key < first}
            rollbacks = {key: value for key, value in rollbacks.items() if key < first}
        for data in select_data("context.recorded", log_events):
            if data["hook"] == "batch":
                loss = data["given"]["task_loss"]
                batches[data["iter_num"]] = (data["rows"], loss, data["left"], data["measured"])
        for data in select_data("rollback.performed", log_events):
            names = ("anchor_iter_num", "weights_sha256", "after_rollback", "next_position", "drift")
            rollbacks[data["iter_num"]] = [data[name] for name in names]
    return batches, rollbacks


@pytest.mark.parametrize("stage", STAGES)
def test_resume_after_a_kill_in_a_rollback_equals_the_uninterrupted_run(uninterrupted, stage):
    """Weights, moments, generators, plugins, rows and decisions are equal. The run verifies and replays."""
    folder, run = uninterrupted, f"killed-{stage.replace(' ', '-')}"
    words = build_arguments(folder, *arguments(folder, run))
    killed = forked_cli.run(str(SCRIPT), stage, *words, env=build_environment(folder))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = run_train(folder, "--run", run, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    (tensors, *states), (expected, *expected_states) = read_end(folder, run), read_end(folder, "whole")
    assert weights_equal(tensors, expected)
    assert states == expected_states
    assert read_trajectory(folder, run) == read_trajectory(folder, "whole")
    assert verify_run(RunFolder(folder / "runs", run)).sound
    assert replay_run(RunFolder(folder / "runs", run), trust=True).identical


def test_uninterrupted_run_has_two_rollbacks_to_states(uninterrupted):
    """Otherwise the comparison would show nothing."""
    batches, rollbacks = read_trajectory(uninterrupted, "whole")
    assert sorted(batches) == list(range(40))
    assert {iter_num: back[0] for iter_num, back in rollbacks.items()} == {17: 14, 27: 24}
