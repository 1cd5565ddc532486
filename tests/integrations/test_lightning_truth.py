"""The log of Lightning trainings in many situations, compared with what they really did."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.helpers import step_truth, tiny_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    from lightning.pytorch.plugins import MixedPrecision

    from ockham.integrations.lightning import OckhamCallback
    from tests.integrations.lightning_models import Module, fit, make_loader, make_stream

pytestmark = pytest.mark.filterwarnings(
    "ignore:::(lightning|torch)", "ignore:.*litlogger.*", "ignore:.*TreeSpec.*"
)


def make_scaler():
    """Return float16 with a loss scaler on the CPU, whose first steps overflow."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22)
    return [MixedPrecision("16-mixed", "cpu", scaler=scaler)]


CELLS = {
    "plain": {},
    "observe": {"policy": "observe"},
    "dictionary": {"module": {"dictionary": True}},
    "clip-norm": {"fit": {"gradient_clip_val": 0.3}},
    "clip-norm-observe": {"policy": "observe", "fit": {"gradient_clip_val": 0.3}},
    "clip-value": {"fit": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}},
    "bf16": {"fit": {"precision": "bf16-mixed"}},
    "fp16": {"fit": {"plugins": make_scaler}},
    "fp16-accumulation": {"fit": {"plugins": make_scaler, "accumulate_grad_batches": 2, "max_steps": 15}},
    "accumulation": {
        "fit": {"accumulate_grad_batches": 4, "max_steps": 12},
        "train": make_loader,
        "count": 48,
    },
    # 10 batches an epoch: two steps of four, and one of two.
    "short-last-step": {
        "fit": {"accumulate_grad_batches": 4, "max_steps": 9},
        "train": make_loader,
        "count": 10,
    },
    "short-last-step-stream": {
        "fit": {"accumulate_grad_batches": 4, "max_steps": 9},
        "train": make_stream,
        "count": 10,
    },
    "no-loss": {"module": {"none_every": 3}},
    "no-loss-accumulation": {
        "module": {"none_every": 3},
        "fit": {"accumulate_grad_batches": 2, "max_steps": 15},
    },
    "epochs": {"fit": {"max_steps": -1, "max_epochs": 3}, "train": make_loader, "count": 12},
}


@pytest.mark.parametrize("name", CELLS)
def test_log_of_lightning_equals_what_it_did(name, tmp_path):
    """Skips, losses of the verdicts, learning rates and norms agree. The log verifies and replays."""
    cell = CELLS[name]
    options = {key: value() if callable(value) else value for key, value in cell.get("fit", {}).items()}
    policy = cell.get("policy", "balanced")
    callback = OckhamCallback(
        policy=policy,
        runs=tmp_path / "runs",
        run_id="a",
        facts={"vocab_size": tiny_model.VOCAB_SIZE, "seed": 1},
    )
    train = cell["train"](cell["count"]) if "train" in cell else None
    module, trainer = fit(
        tmp_path,
        callback,
        Module(**cell.get("module", {})),
        train=train,
        **{"val_check_interval": 5, **options},
    )
    assert len(module.truth.moved) >= 24
    result = step_truth.compare(tmp_path, module.truth)
    assert not result.problems, result.problems[:5]
    assert result.skips >= (0 if policy == "observe" else 1)
    if "clip-norm" in name:
        assert max(module.truth.clipped_norms) <= 0.3001 < max(module.truth.norms)
    # The numbers of the steps are those of the Trainer.
    assert tiny_model.read_batches(tmp_path)[-1]["iter_num"] == trainer.global_step - 1
    (end,) = tiny_model.read_events(tmp_path, "run.finished")
    assert end["reason_code"] == "COMPLETED"
