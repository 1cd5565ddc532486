"""Hugging Face Trainer with DDP: one verdict, equal weights, and a log that names what each rank did."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest

import ockham
from ockham.errors import BadInputError
from ockham.record.checkpoint_path import STATE_FILE
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers import rank_truth, tiny_model
from tests.helpers.events import events

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("transformers", reason="transformers is not installed")
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    from ockham.integrations import huggingface_ranks

MODULE = "tests.integrations.huggingface_ranks"
EVALUATE = {"eval_strategy": "steps", "eval_steps": 4}
ACCUMULATE = {"gradient_accumulation_steps": 4, "max_steps": 8}
# Situations that differ in kind: clipping, a loss whose factor is measured, a loss scaler, an adapter, a
# loss without labels.
COVER = [
    (2, "Trainer", "padded rows", {"max_grad_norm": 0.3}),
    (2, "Trainer", "T5, accumulation", {}),
    (2, "Trainer", "fp16, overflow", {}),
    (2, "PEFT", "LoRA", {}),
    (2, "TRL DPO", "plain", {}),
]
FURTHER = [
    (2, "Trainer", "padded rows", {}),
    (2, "Trainer", "padded rows", {"average_tokens_across_devices": False, **ACCUMULATE}),
    (2, "Trainer", "padded rows", {"policy": "observe", "max_grad_norm": 0.0}),
    (2, "Trainer", "label smoothing, accumulation", {}),
    (2, "Trainer", "compute_loss_func", {}),
    (2, "Trainer", "own compute_loss", {}),
    (2, "Trainer", "added loss term, accumulation", {}),
    (2, "Trainer", "fp16, accumulation", {}),
    (2, "TRL SFT", "accumulation", {}),
    (4, "Trainer", "accumulation, padded rows", {"max_steps": 6}),
]
CELLS = [*COVER, *FURTHER]


def long(*values):
    """Return the values of a test that only `make fault-injection` runs. Each starts several processes."""
    return pytest.param(*values, marks=pytest.mark.fault_injection)


def _name(cell):
    return " ".join(map(str, (*cell[:3], *cell[3].values())))


@pytest.mark.parametrize("cell", [*COVER, *map(long, FURTHER)], ids=_name)
def test_log_of_each_trainer_rank_equals_what_it_did(cell, tmp_path):
    """Skips, losses of the verdicts, learning rates and norms agree. The ranks have equal weights."""
    size, trainer, situation, options = cell
    if trainer != "Trainer":
        pytest.importorskip("trl" if "TRL" in trainer else "peft", reason="the trainer is not installed")
    truths = rank_truth.train_ranks(tmp_path, size, MODULE, cell=[trainer, situation], **options)
    rank_truth.assert_log_is_true(tmp_path, truths, min_skips=options.get("policy") != "observe")


def test_step_with_a_skipped_last_batch_equals_one_process(tmp_path):
    """Two ranks of four rows train as one process with eight rows. So the gradients are a mean."""
    logs = []
    for size in (1, 2):
        folder = tmp_path / str(size)
        folder.mkdir()
        options = {**ACCUMULATE, "per_device_train_batch_size": 8 // size}
        truths = rank_truth.train_ranks(folder, size, MODULE, **options)
        rank_truth.assert_log_is_true(folder, truths)
        logs.append(rank_truth.read_batches(folder, 0))
    alone, together = logs
    accepted = [context["left"].get("updated", True) for context in together]
    steps = [accepted[first : first + 4] for first in range(0, len(accepted), 4)]
    assert any(any(step) and not step[-1] for step in steps)
    assert accepted == [context["left"].get("updated", True) for context in alone]
    for name in ("task_loss", "tokens_seen"):
        values = [[context["given"].get(name, 0) for context in log] for log in logs]
        rank_truth.assert_close(*values, 1e-4)


def test_evaluations_and_checkpoints_of_ranks_are_those_of_the_training(tmp_path):
    """Every rank records the Trainer's losses. Only rank 0 writes accepted checkpoints."""
    overrides = ["memory.quality_fraction=3.0"]
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, overrides=overrides, **EVALUATE)
    rank_truth.assert_log_is_true(tmp_path, truths)
    logs = [rank_truth.read_data(tmp_path, rank, "evaluation.recorded") for rank in (0, 1)]
    assert [item["val_loss"] for item in logs[0]] == [item["val_loss"] for item in logs[1]]
    assert len(truths[0]["evaluations"]) == 3
    assert set(truths[0]["evaluations"]) <= {item["val_loss"] for item in logs[0]}
    assert logs[0][0]["weights_checksum"] == logs[1][0]["weights_checksum"]
    saved = [rank_truth.read_data(tmp_path, rank, "checkpoint.saved") for rank in (0, 1)]
    assert saved[0]
    assert not saved[1]


def test_observed_ranks_train_as_without_the_callback(tmp_path):
    """DDP synchronises as it does by itself, and the weights are equal to the last bit."""
    digests = set()
    for has_ockham in (True, False):
        folder = tmp_path / str(has_ockham)
        folder.mkdir()
        options = {"policy": "observe", "ockham": has_ockham, "gradient_accumulation_steps": 2}
        truths = rank_truth.train_ranks(folder, 2, MODULE, **options)
        assert [truth["error"] for truth in truths] == ["", ""]
        digests |= {truth["weights"] for truth in truths}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("options", "iter_num"), [long({"open": True, "shift": 5}, 8), ({"shift": 5, **EVALUATE}, None)]
)
def test_changed_weights_of_a_trainer_rank_end_both_logs(options, iter_num, tmp_path):
    """They are compared at intervals and at evaluations, in a run that is open or that the callback opens."""
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, **options)
    for rank, truth in enumerate(truths):
        assert truth["error"].startswith("RankDivergedError: ranks part at iteration")
        (event,) = rank_truth.read_data(tmp_path, rank, "rank.diverged")
        assert [each["field"] for each in event["differs"]] == ["weights"]
        assert iter_num in (None, event["iter_num"])
        assert rank_truth.read_data(tmp_path, rank, "run.finished")[0]["reason_code"] == "RANK_DIVERGED"
    assert verify_run(RunFolder(tmp_path / "runs", "a")).sound


@pytest.mark.parametrize("options", [{}, long({"gradient_accumulation_steps": 2}), long({"open": True})])
def test_error_of_one_trainer_rank_ends_both_logs(options, tmp_path):
    """The other rank does not wait for it, and the logs are sound."""
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, fail=5, **options)
    assert truths[1]["error"] == "OckhamError: the training of this rank failed"
    assert truths[0]["error"].startswith("RankLostError: another rank has ended or does not answer")
    ends = [rank_truth.read_data(tmp_path, rank, "run.finished")[0]["reason_code"] for rank in (0, 1)]
    assert ends == ["RANK_LOST", "FAILED"]
    assert verify_run(RunFolder(tmp_path / "runs", "a")).sound


def read_trajectory(folder):
    """Return the batches and evaluations of both ranks that no later attempt has superseded."""
    return ockham.Catalog(folder / "runs").rows(
        "select * exclude (event_id, attempt, sequence, time, seconds, first_decision, signed) from contexts "
        "where not superseded order by rank, iter_num, micro_step, hook"
    )


@pytest.mark.parametrize(
    "options",
    [EVALUATE, long({"cell": ["PEFT", "LoRA"], "gradient_accumulation_steps": 2})],
    ids=["full", "LoRA"],
)
def test_resumed_ranks_decide_as_the_uninterrupted_ones(options, tmp_path):
    """Weights, and every number after the checkpoint on both ranks, are equal bit for bit."""
    if "cell" in options:
        pytest.importorskip("peft", reason="peft is not installed")
    options = {"save_strategy": "steps", "save_steps": 4, **options}
    weights = []
    for name in ("whole", "part"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "part":
            stopped = rank_truth.train_ranks(folder, 2, MODULE, stop=6, **options)
            assert {truth["error"] for truth in stopped} == {"OckhamError: the training of this rank failed"}
            options = {**options, "run_id": None, "resume": True}
        truths = rank_truth.train_ranks(folder, 2, MODULE, **options)
        assert [truth["error"] for truth in truths] == ["", ""]
        weights.append({truth["weights"] for truth in truths})
    assert len(weights[0]) == 1
    assert weights[0] == weights[1]
    assert read_trajectory(tmp_path / "part") == read_trajectory(tmp_path / "whole")
    run_folder = RunFolder(tmp_path / "part" / "runs", "a")
    resumed = [events(run_folder, 2, rank)[0]["data"] for rank in (0, 1)]
    assert [data["iter_num"] for data in resumed] == [4, 4]
    report = verify_run(run_folder)
    assert report.sound, report.findings
    assert replay_run(run_folder).identical
    [*_, saved] = rank_truth.read_data(tmp_path / "part", 0, "checkpoint.saved")
    names = {file["name"] for file in saved["files"]}
    assert names >= {"rng_state_0.pth", "rng_state_1.pth", STATE_FILE}
    assert not rank_truth.read_data(tmp_path / "part", 1, "checkpoint.saved")


@pytest.mark.fault_injection
def test_changed_checkpoint_is_refused_on_every_rank(tmp_path):
    """Rank 0 compares the files, and no rank waits for another one."""
    options = {"save_strategy": "steps", "save_steps": 4, "max_steps": 5}
    rank_truth.train_ranks(tmp_path, 2, MODULE, **options)
    path = tmp_path / "hf" / "checkpoint-4" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, resume=str(path.parent), **options)
    for truth in truths:
        assert truth["error"].startswith(f"CheckpointError: {path}: differs from the log")
    assert len(RunFolder(tmp_path / "runs", "a").logs()) == 2


def test_run_of_one_process_is_rejected_in_a_training_of_two(tmp_path):
    """The message names the call that creates the run of each rank."""
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, alone=True)
    for truth in truths:
        assert truth["error"].startswith("BadInputError: the training has 2 processes")
        assert "create it by ockham.Run.distributed, or let the callback open it" in truth["error"]


def test_trainer_ranks_share_the_run_id_of_rank_0(tmp_path):
    """Without an ID the callback makes one for all ranks."""
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, run_id=None, max_steps=3)
    assert [truth["error"] for truth in truths] == ["", ""]
    assert len(list((tmp_path / "runs").glob("*/log"))) == 1


def test_several_devices_of_one_process_are_rejected():
    """The message names the command that starts one process per GPU."""
    with pytest.raises(BadInputError, match=r"one process on 4 GPUs .* is not supported; start .* torchrun"):
        huggingface_ranks.require_one_device(SimpleNamespace(n_gpu=4))


@pytest.mark.parametrize("kind", ["DEEPSPEED", "FSDP", "MEGATRON_LM", "MULTI_CPU"])
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("policy", ["observe", "balanced"])
def test_training_that_owns_its_gradients_takes_only_observe(kind, world_size, policy, tmp_path):
    """An acting policy names what it requires. No run is left."""
    model = tiny_model.make_model()
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(distributed_type=accelerate.DistributedType[kind]),
        args=SimpleNamespace(world_size=world_size),
        model_wrapped=model,
    )
    run = Run(policy, runs=tmp_path / "runs", run_id="a")
    if policy == "observe" or (kind == "MULTI_CPU" and world_size == 1):
        huggingface_ranks.require_replicas(trainer, run)
        return
    with pytest.raises(BadInputError, match=f"kind {kind} takes only policy='observe'"):
        huggingface_ranks.require_replicas(trainer, run)
    assert not (tmp_path / "runs").exists()
