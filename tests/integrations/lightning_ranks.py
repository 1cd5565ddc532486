"""Program of one rank: a Lightning training with DDP, and what it really did.

    python -m tests.integrations.lightning_ranks FOLDER '{"manual": true}'

It writes `truth-RANK.json` as `tests.helpers.rank_loop` does.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from ockham.errors import OckhamError
from ockham.integrations.lightning import OckhamCallback
from tests.helpers import tiny_model
from tests.helpers.rank_loop import RankTruth
from tests.helpers.rank_truth import write_truth
from tests.integrations.lightning_models import ManualModule, Module, fit


class Stop(pl.Callback):
    """Raises an error on every rank before a batch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Compare the step."""
        if trainer.global_step == self.step:
            raise OckhamError("stopped")


def make_loader(count: int, rank: int, size: int) -> torch.utils.data.DataLoader:
    """Return batches of this rank. Every rank has a number of examples of its own."""
    batches = tiny_model.make_batches(count * size, size=2 + rank)[rank::size]
    return torch.utils.data.DataLoader(batches, batch_size=None)


def train(folder: Path, options: dict[str, Any], truth: RankTruth) -> None:
    """Train, and fill *truth*."""
    rank, size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    is_manual, has_scaler = options.pop("manual", False), options.pop("scaler", False)
    callback = OckhamCallback(
        policy=options.pop("policy", "balanced"),
        runs=folder / "runs",
        run_id=options.pop("run_id", "a"),
        facts={"vocab_size": tiny_model.VOCAB_SIZE, "seed": 1},
        count_tokens=lambda batch: batch[1].numel(),
    )
    module = ManualModule(callback) if is_manual else Module()
    if has_scaler:
        from lightning.pytorch.plugins import MixedPrecision

        options["plugins"] = [
            MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**20))
        ]
    if options.pop("save", False):
        options |= {"enable_checkpointing": True}
        options["callbacks"] = [ModelCheckpoint(folder, save_top_k=-1, filename="{epoch}")]
    if (stop := options.pop("stop", None)) is not None:
        options["callbacks"].append(Stop(stop))
    loader = make_loader(options.pop("batches", 24), rank, size)
    defaults = {"max_steps": 24, "val_check_interval": 8, "use_distributed_sampler": False}
    fit(folder, callback, module, train=loader, devices=size, strategy="ddp", **{**defaults, **options})
    measured = module.truth
    truth.losses, truth.moved = measured.losses, measured.moved
    truth.rates, truth.norms = [list(rates) for rates in measured.rates], measured.clipped_norms
    truth.raw_norms = [] if is_manual else measured.norms
    truth.tokens = [(2 + rank) * tiny_model.BLOCK_SIZE] * len(truth.losses)
    digest = hashlib.sha256()
    for weight in module.parameters():
        digest.update(weight.detach().numpy().tobytes())
    truth.weights = digest.hexdigest()


if __name__ == "__main__":
    folder, truth = Path(sys.argv[1]), RankTruth()
    write_truth(lambda: train(folder, json.loads(sys.argv[2]), truth), truth, folder)
