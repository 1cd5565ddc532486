"""train.py with rollbacks to saved states: which state is restored, and that it is restored completely."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ockham.catalog import Catalog
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.replay.trajectory import load_trajectory
from ockham.replay.whatif import _WhatIfReplay
from tests.helpers.events import events, plain_validator
from tests.helpers.log_edits import replace_data, rewrite_lines
from tests.helpers.tiny_trainer import weights_equal
from tests.helpers.train_command import run_train, select_data

POLICY = """
extends: observe
targets: {}
plugins:
  rollback_at: {use: "tests.helpers.plugins:RollbackAt", shadow: false, first: 25, second: 27}
  rollback_counter: {use: "tests.helpers.plugins:RollbackCounter", shadow: false}
"""


def train(folder, run, *settings):
    """Train 40 iterations with rollbacks after 25 and 27. No policy moves an anchor."""
    (folder / "policy.yaml").write_text(POLICY)
    options = [word for setting in settings for word in ("--set", setting)]
    return run_train(folder, "--run", run, "--policy", str(folder / "policy.yaml"), *options)


def read_checkpoint(folder, run, name):
    """Return the tensors of a checkpoint by file, and its state."""
    path = folder / "runs" / run / "checkpoints" / name
    tensors = {part: load_file(path / f"{part}.safetensors") for part in ("model", "optimizer")}
    return tensors, json.loads((path / "state.json").read_bytes())


def read_events(folder, run, kind):
    return select_data(kind, events(RunFolder(folder / "runs", run)))


def digest_weights(tensors):
    """Return the digest of weights: name, dtype, shape and bytes of each tensor in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run whose last step is a rollback, so its last checkpoint contains the restored state."""
    folder = tmp_path_factory.mktemp("short")
    settings = ("state_every=10", "checkpoint_every=100", "max_iters=26", "dropout=0.1")
    process = train(folder, "a", *settings)
    assert process.returncode == 0, process.stderr
    return folder


def test_rollback_restores_weights_moments_generators_and_plugins_bit_for_bit(short):
    """The checkpoint after the rollback equals that of the state. Surviving plugins keep theirs."""
    saved, state = read_checkpoint(short, "a", "resume-00000019")
    now, state_now = read_checkpoint(short, "a", "resume-00000025")
    assert weights_equal(saved["model"], now["model"])
    assert weights_equal(saved["optimizer"], now["optimizer"])
    assert len(now["optimizer"]) > 0
    assert state_now["trainer"]["random"] == state["trainer"]["random"]
    assert state_now["trainer"]["steps"] == state["trainer"]["steps"] == 20
    plugins, plugins_now = state["run"]["plugins"], state_now["run"]["plugins"]
    assert plugins.pop("rollback_counter") == {"rollbacks": 0}
    assert plugins_now.pop("rollback_counter") == {"rollbacks": 1}
    # The survivors have seen 26 iterations, not 20.
    evaluations = [each.pop("memory")["evaluations"] for each in (plugins, plugins_now)]
    assert evaluations[0] < evaluations[1]
    assert plugins.pop("finite") == plugins_now.pop("finite")
    histories = [each.pop("spike")["losses"] for each in (plugins, plugins_now)]
    assert [len(history) for history in histories] == [20, 26]
    assert plugins_now == plugins
    assert plugins["rollback_at"]["losses"] > 0


def test_rollback_names_the_state_and_the_digest_of_its_weights(short):
    """The digest is recomputed with torch. The event is valid by jsonschema and in the view."""
    saved, _ = read_checkpoint(short, "a", "resume-00000019")
    for event in events(RunFolder(short / "runs", "a")):
        if event["type"] in ("ockham.rollback.performed.v1", "ockham.plugin_state.recorded.v1"):
            plain_validator(event["type"][7:-3]).validate(event)
    back = read_events(short, "a", "rollback.performed")[0]
    assert (back["snapshot_id"], back["anchor_iter_num"]) == ("resume-00000019", 19)
    assert back["weights_sha256"] == digest_weights(saved["model"])
    row = Catalog(short / "runs").rows("select * from rollbacks")[0]
    assert (row["snapshot_id"], row["weights_sha256"]) == (back["snapshot_id"], back["weights_sha256"])
    assert verify_run(RunFolder(short / "runs", "a")).sound


def test_replay_finds_another_plugin_state_after_a_rollback(short, tmp_path):
    """The key frame after the rollback must contain a state that was saved before."""
    folder = RunFolder(tmp_path, "a")
    shutil.copytree(short / "runs" / "a", folder.path)
    assert replay_run(folder).identical
    frames = [e["data"] for e in events(folder) if e["type"] == "ockham.plugin_state.recorded.v1"]
    frame = next(data for data in frames if data["trigger"] == "ROLLBACK")
    state = json.loads(json.dumps(frame["state"]))
    state["gate"]["batches"] += 1
    canonical = json.dumps(state, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    at = frame["sequence"]
    change = {"state": state, "state_sha256": digest}
    rewrite_lines(folder, lambda lines: [*lines[:at], replace_data(lines[at], **change), *lines[at + 1 :]])
    report = replay_run(folder)
    assert [found.sequence for _, found in report.differences if found.replayed == '"a saved state"'] == [at]


def test_second_rollback_returns_to_the_next_older_state(tmp_path):
    """The state of iteration 24 was restored before, so iteration 19 follows. Three states are kept."""
    process = train(tmp_path, "a", "state_every=5", "keep_states=3", "checkpoint_every=100", "max_iters=28")
    assert process.returncode == 0, process.stderr
    backs = read_events(tmp_path, "a", "rollback.performed")
    assert [back["anchor_iter_num"] for back in backs] == [24, 19]
    pruned = [data["snapshot_id"] for data in read_events(tmp_path, "a", "checkpoint.pruned")]
    kept = sorted(path.name for path in (tmp_path / "runs/a/checkpoints").iterdir())
    assert pruned == [f"resume-{i:08d}" for i in (4, 9)]
    assert kept == [f"resume-{i:08d}" for i in (14, 19, 24, 27)]
    contexts = read_events(tmp_path, "a", "context.recorded")
    digests = [data["rows"]["digest"] for data in contexts if data["hook"] == "batch"]
    assert len(set(digests)) == len(digests) == 28
    assert replay_run(RunFolder(tmp_path / "runs", "a"), trust=True).identical


def test_rollback_without_state_and_anchor_ends_the_run(tmp_path):
    """The first state would be saved after the rollback."""
    process = train(tmp_path, "a", "state_every=30")
    assert process.returncode == 1
    end = read_events(tmp_path, "a", "run.finished")[0]
    assert end["reason_code"] == "NO_ANCHOR"
    assert "no anchor and no saved state" in end["message"]


def test_state_of_ctrl_c_is_not_a_target(tmp_path):
    """A checkpoint outside of the interval is not restored, so an interrupted run equals a whole one."""
    settings = ("state_every=10", "checkpoint_every=7", "max_iters=26", "keep_states=4")
    assert train(tmp_path, "a", *settings).returncode == 0
    assert read_events(tmp_path, "a", "rollback.performed")[0]["snapshot_id"] == "resume-00000019"


def test_frequent_checkpoints_do_not_remove_the_states(tmp_path):
    """The newest two states and the newest two checkpoints are kept, the final one included."""
    settings = ("state_every=10", "checkpoint_every=1", "max_iters=26", "keep_states=2")
    assert train(tmp_path, "a", *settings).returncode == 0
    assert read_events(tmp_path, "a", "rollback.performed")[0]["snapshot_id"] == "resume-00000019"
    kept = sorted(path.name for path in (tmp_path / "runs/a/checkpoints").iterdir())
    assert kept == [f"resume-{i:08d}" for i in (9, 19, 24, 25)]


SPIKES = """
extends: observe
targets: {}
plugins:
  spike: {shadow: false, window: 8, min_history: 4, sigma: 0.01, clip_from: null, rollback_from: 1}
"""


def test_spike_returns_to_a_state_without_an_anchor(tmp_path):
    """`state_available` is recorded from the step after the first state on, also in a resumed run."""
    (tmp_path / "spikes.yaml").write_text(SPIKES)
    words = ["--run", "a", "--policy", str(tmp_path / "spikes.yaml"), "--set", "state_every=7"]
    assert run_train(tmp_path, *words, "--set", "max_iters=12").returncode == 0
    assert run_train(tmp_path, "--run", "a", "--resume", "--set", "max_iters=16").returncode == 0
    folder = RunFolder(tmp_path / "runs", "a")
    given, backs = {}, []
    for attempt in (1, 2):
        log_events = events(folder, attempt)
        for data in select_data("context.recorded", log_events):
            if data["hook"] == "batch":
                given[data["iter_num"]] = data["given"]
        backs += select_data("rollback.performed", log_events)
    assert [given[i].get("state_available", False) for i in range(16)] == [False] * 7 + [True] * 9
    assert not any(each.get("anchor_available") for each in given.values())
    assert backs
    assert {back["anchor_iter_num"] for back in backs} <= {6, 13}
    assert min(back["iter_num"] for back in backs) >= 7
    assert verify_run(folder).sound
    assert replay_run(folder, trust=True).identical


def test_run_that_is_resumed_before_its_first_state_waits_for_it(tmp_path):
    """The checkpoint of the end of the first attempt is not a state of the interval."""
    (tmp_path / "spikes.yaml").write_text(SPIKES)
    words = ["--run", "a", "--policy", str(tmp_path / "spikes.yaml"), "--set", "state_every=7"]
    assert run_train(tmp_path, *words, "--set", "max_iters=5").returncode == 0
    assert run_train(tmp_path, "--run", "a", "--resume", "--set", "max_iters=9").returncode == 0
    log_events = events(RunFolder(tmp_path / "runs", "a"), 2)
    batches = [data for data in select_data("context.recorded", log_events) if data["hook"] == "batch"]
    available = {data["iter_num"]: data["given"].get("state_available", False) for data in batches}
    assert available == {i: i >= 7 for i in range(5, 9)}


def test_states_of_another_interval_are_not_available(tmp_path):
    """A resumed run with another `state_every` waits for its first state."""
    (tmp_path / "spikes.yaml").write_text(SPIKES)
    words = ["--run", "a", "--policy", str(tmp_path / "spikes.yaml"), "--set", "state_every=7"]
    assert run_train(tmp_path, *words, "--set", "max_iters=12").returncode == 0
    changed = ("--set", "max_iters=22", "--set", "state_every=20")
    assert run_train(tmp_path, "--run", "a", "--resume", *changed).returncode == 0
    log_events = events(RunFolder(tmp_path / "runs", "a"), 2)
    batches = [data for data in select_data("context.recorded", log_events) if data["hook"] == "batch"]
    available = {data["iter_num"]: data["given"].get("state_available", False) for data in batches}
    assert available == {i: i >= 20 for i in range(12, 22)}


@pytest.mark.parametrize(
    "setting",
    [
        "state_every=-1",
        "state_every=1.5",
        "state_every=99999999999999999999",
        "keep_states=0",
        "keep_states=99999999999999999999",
        "after_rollback=again",
        "skip_data=5:3",
        "skip_data=5:5",
        "skip_data=-3:4",
        "skip_data=1:2:3",
        "skip_data=1:99999999999999999999",
        "skip_data=\x1b[31m",
        "spike.window=0",
        "spike.window=99999999999999999999999",
        "spike.sigma=-1",
        "spike.sigma=nan",
        "spike.stage=halt",
        "spike.halt_from=0",
    ],
)
def test_bad_setting_of_states_data_and_spikes_is_one_line(tmp_path, setting):
    """It names the setting, the exit status is 2, and no run is created."""
    process = train(tmp_path, "a", setting)
    assert process.returncode == 2
    [line] = process.stderr.splitlines()
    assert line.isprintable()
    assert setting.partition("=")[0].rpartition(".")[2] in line
    assert not (tmp_path / "runs" / "a").exists()


def test_digest_of_the_test_reads_every_bit():
    """A changed sign of zero changes it."""
    assert digest_weights({"a": torch.tensor([0.0])}) != digest_weights({"a": torch.tensor([-0.0])})


def test_whatif_of_the_recorded_policy_equals_the_record_after_a_rollback(tmp_path):
    """The plugins return to their own saved state. Losses that they add up are then those of the record."""
    process = train(tmp_path, "a", "state_every=10", "keep_states=3", "max_iters=40")
    assert process.returncode == 0, process.stderr
    folder = RunFolder(tmp_path / "runs", "a")
    legs = load_trajectory(folder)
    assert [leg.restored for leg in legs] == [{26: 20, 28: 10}]
    recorded = [
        d["observed"] for d in read_events(tmp_path, "a", "decision.made") if d["action"] == "ROLLBACK"
    ]
    replayed = _WhatIfReplay(legs, legs[0].policy, "same", trust=True)
    kept, emit = [], replayed.chain.emit
    replayed.chain.emit = lambda made: (emit(made), kept.append(made))
    answer = replayed.run()
    assert (answer.diverged_iter, answer.batches) == (None, 40)
    assert [made.observed for made in kept if made.action == "ROLLBACK"] == recorded
