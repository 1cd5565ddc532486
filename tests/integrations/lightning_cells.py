"""Situations of Lightning trainings under automatic optimization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import MixedPrecision

from ockham.integrations.lightning import OckhamCallback
from tests.helpers import tiny_model
from tests.integrations.lightning_models import Module, fit, make_loader, make_stream


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


def train(name: str, folder: Path) -> tuple[Module, Any]:
    """Train in one situation. Return the module, which has the truth, and the Trainer."""
    cell = CELLS[name]
    options = {key: value() if callable(value) else value for key, value in cell.get("fit", {}).items()}
    callback = OckhamCallback(
        policy=cell.get("policy", "balanced"),
        runs=folder / "runs",
        run_id="a",
        facts={"vocab_size": tiny_model.VOCAB_SIZE, "seed": 1},
    )
    data = cell["train"](cell["count"]) if "train" in cell else None
    module = Module(**cell.get("module", {}))
    return fit(folder, callback, module, train=data, **{"val_check_interval": 5, **options})
