"""Lightning with DDP: one verdict, equal weights, and a log that names what each rank did."""

from __future__ import annotations

import warnings

import pytest

from tests.helpers import rank_truth

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

MODULE = "tests.integrations.lightning_ranks"
CELLS = {
    "plain": {},
    # 10 batches an epoch: three steps of three, and one of one.
    "accumulation": {"accumulate_grad_batches": 3, "batches": 10, "max_steps": 8, "val_check_interval": 10},
    "clip": {"gradient_clip_val": 0.3},
    "fp16": {"scaler": True},
    "manual": {"manual": True},
}


@pytest.mark.parametrize("name", CELLS)
def test_log_of_each_lightning_rank_equals_what_it_did(name, tmp_path):
    """Skips, losses of the verdicts, learning rates and norms agree. The ranks have equal weights."""
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, **CELLS[name])
    rank_truth.assert_log_is_true(tmp_path, truths)
    for rank in (0, 1):
        evaluations = rank_truth.read_data(tmp_path, rank, "evaluation.recorded")
        assert len(evaluations) >= 2
        assert len({item["weights_checksum"] for item in evaluations}) > 1


def test_lightning_ranks_share_the_run_id_of_rank_0(tmp_path):
    """Without an ID the callback makes one for all ranks."""
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, run_id=None, max_steps=3)
    assert [truth["error"] for truth in truths] == ["", ""]
    assert len(list((tmp_path / "runs").glob("*/log"))) == 1
