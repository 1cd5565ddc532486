"""Hugging Face Trainer with DDP: one verdict, equal weights, and a log that names what each rank did."""

from __future__ import annotations

import warnings

import pytest

from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from tests.helpers import rank_truth

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")

MODULE = "tests.integrations.huggingface_ranks"
CELLS = {
    "plain": (2, {}),
    "accumulation": (2, {"gradient_accumulation_steps": 4}),
    "clip": (2, {"max_grad_norm": 0.3}),
    "local token counts": (2, {"average_tokens_across_devices": False}),
    "four processes": (4, {"gradient_accumulation_steps": 2, "max_steps": 6}),
}


@pytest.mark.parametrize("name", CELLS)
def test_log_of_each_trainer_rank_equals_what_it_did(name, tmp_path):
    """Skips, losses of the verdicts and learning rates agree. The ranks have equal weights."""
    size, options = CELLS[name]
    truths = rank_truth.train_ranks(tmp_path, size, MODULE, **options)
    rank_truth.assert_log_is_true(tmp_path, truths)


def test_evaluations_of_all_ranks_are_equal(tmp_path):
    """The Trainer gathers the metrics. The weights of the ranks are compared at each evaluation."""
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, eval_strategy="steps")
    assert {truth["error"] for truth in truths} == {""}
    recorded = [rank_truth.read_data(tmp_path, rank, "evaluation.recorded") for rank in (0, 1)]
    losses = [[(item["val_loss"], item["weights_checksum"]) for item in items] for items in recorded]
    assert losses[0] == losses[1]
    assert len(losses[0]) >= 3
    assert verify_run(RunFolder(tmp_path / "runs", "a")).sound


def test_observed_ranks_have_the_weights_of_a_training_without_the_callback(tmp_path):
    """DDP synchronises as without it."""
    weights = []
    for name, options in (("with", {"policy": "observe"}), ("without", {"policy": None})):
        folder = tmp_path / name
        folder.mkdir()
        truths = rank_truth.train_ranks(folder, 2, MODULE, gradient_accumulation_steps=2, **options)
        assert [truth["error"] for truth in truths] == ["", ""]
        weights.append({truth["weights"] for truth in truths})
    assert weights[0] == weights[1]
    assert len(weights[0]) == 1


def test_trainer_ranks_share_the_run_id_of_rank_0(tmp_path):
    """Without an ID the callback makes one for all ranks."""
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, run_id=None, max_steps=3)
    assert [truth["error"] for truth in truths] == ["", ""]
    assert len(list((tmp_path / "runs").glob("*/log"))) == 1
