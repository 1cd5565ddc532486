"""Lightning with DDP: one verdict, equal weights, and a log that names what each rank did."""

from __future__ import annotations

import warnings

import pytest

import ockham
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers import rank_truth
from tests.helpers.events import events

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


def test_resumed_lightning_ranks_decide_as_the_uninterrupted_ones(tmp_path):
    """Rank 0 compares the file, and both logs continue as attempt 2."""
    weights = []
    for name, stop in (("whole", None), ("part", 12)):
        folder = tmp_path / name
        folder.mkdir()
        options = {"batches": 8, "save": True}
        if stop is not None:
            stopped = rank_truth.train_ranks(folder, 2, MODULE, stop=stop, **options)
            assert {truth["error"] for truth in stopped} == {"OckhamError: stopped"}
            options |= {"ckpt_path": str(folder / "epoch=0.ckpt"), "run_id": None}
        truths = rank_truth.train_ranks(folder, 2, MODULE, **options)
        assert [truth["error"] for truth in truths] == ["", ""]
        weights.append({truth["weights"] for truth in truths})
    assert len(weights[0]) == 1
    assert weights[0] == weights[1]
    rows = [
        ockham.Catalog(tmp_path / name / "runs").rows(
            "select * exclude (event_id, attempt, sequence, time, seconds, first_decision, signed) "
            "from contexts where not superseded order by rank, iter_num, micro_step, hook"
        )
        for name in ("whole", "part")
    ]
    assert rows[0] == rows[1]
    run_folder = RunFolder(tmp_path / "part" / "runs", "a")
    assert [events(run_folder, 2, rank)[0]["data"]["iter_num"] for rank in (0, 1)] == [8, 8]
    assert verify_run(run_folder).sound
    assert replay_run(run_folder).identical


def test_lightning_ranks_share_the_run_id_of_rank_0(tmp_path):
    """Without an ID the callback makes one for all ranks."""
    truths = rank_truth.train_ranks(tmp_path, 2, MODULE, run_id=None, max_steps=3)
    assert [truth["error"] for truth in truths] == ["", ""]
    assert len(list((tmp_path / "runs").glob("*/log"))) == 1
