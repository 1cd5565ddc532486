"""Steps of the DDP and FSDP trainers compared with PyTorch's DistributedDataParallel.

`python -m tests.nano.ddp_reference FOLDER` runs on each of two ranks. It prints the largest difference of a
weight as JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from ockham.context import OccamContext
from ockham.nano import DistributedRanks, load_corpus, make_trainer
from ockham.nano.dtensor import to_full
from tests.helpers.tiny_trainer import settings, text

# Verdicts of the micro-batches of each step: last skipped, first skipped, all updated, all skipped.
STEPS = ((True, False), (False, True), (True, True), (False, False), (True, True))
MICRO = f"gradient_accumulation_steps={len(STEPS[0])}"


class Plain(torch.nn.Module):
    """The model with its loss as forward, which is what DDP wraps."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.model.loss(inputs, targets)


def train_with_verdicts(trainer) -> list[float]:
    """Train with the trainer of this project. Return the losses."""
    losses = []
    for iter_num, verdicts in enumerate(STEPS):
        for micro_step, updated in enumerate(verdicts):
            losses.append(trainer.forward(iter_num, micro_step))
            trainer.backward(
                OccamContext(iter_num, losses[-1], updated=updated, learning_rate=1e-2, grad_clip=0.5)
            )
        trainer.step()
    return losses


def train_with_torch_ddp(trainer) -> None:
    """Train with torch's DDP, which is given the last accepted micro-batch of each step in advance."""
    ddp, optimizer = DistributedDataParallel(Plain(trainer.model)), trainer.optimizer
    for iter_num, verdicts in enumerate(STEPS):
        accepted = [micro_step for micro_step, updated in enumerate(verdicts) if updated]
        for micro_step in accepted:
            is_last = micro_step == accepted[-1]
            with contextlib.nullcontext() if is_last else ddp.no_sync():
                loss = ddp(*trainer.batches.sample_batch(iter_num, micro_step))
                (loss / len(accepted)).backward()
        if accepted:
            torch.nn.utils.clip_grad_norm_(ddp.parameters(), 0.5)
            for group in optimizer.param_groups:
                group["lr"] = 1e-2
            optimizer.step()
            optimizer.zero_grad()


def max_difference(first, second) -> float:
    """Return the largest difference of two weights."""
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def main() -> None:
    """Train with all three and print the differences."""
    folder = Path(sys.argv[1])
    with DistributedRanks() as ranks:
        path = ranks.run_on_rank_zero(lambda: text(folder)) or folder / "text.txt"
        trainer_settings = ranks.init_groups(settings(MICRO))
        fsdp_settings = dataclasses.replace(trainer_settings, parallel="fsdp")
        kinds = trainer_settings, trainer_settings, fsdp_settings
        trainers = [make_trainer(kind, load_corpus(path), ranks) for kind in kinds]
        losses = train_with_verdicts(trainers[0])
        train_with_torch_ddp(trainers[1])
        fsdp_losses = train_with_verdicts(trainers[2])
        weights = [[to_full(p) for p in trainer.model.parameters()] for trainer in trainers]
        differences = {"ddp": max_difference(*weights[:2]), "fsdp": max_difference(weights[0], weights[2])}
        print(json.dumps({"losses": losses, "fsdp_losses": fsdp_losses, **differences}))


if __name__ == "__main__":
    main()
