"""One rank of two: our steps beside those of PyTorch's own DistributedDataParallel, whole and in shares, in one process.

`python -m tests.nano.ddp_reference FOLDER`, on each rank, prints the largest difference of a weight as JSON.
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

# Verdicts of the micro-batches of each step: the last one skipped, the first one skipped, all, none.
STEPS = ((True, False), (False, True), (True, True), (False, False), (True, True))
MICRO = f"gradient_accumulation_steps={len(STEPS[0])}"


class Plain(torch.nn.Module):
    """The model with its loss as forward, which is what DDP wraps."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.model.loss(inputs, targets)


def ours(trainer) -> list[float]:
    losses = []
    for iter_num, verdicts in enumerate(STEPS):
        for micro_step, updated in enumerate(verdicts):
            losses.append(trainer.forward(iter_num, micro_step))
            trainer.backward(
                OccamContext(iter_num, losses[-1], updated=updated, learning_rate=1e-2, grad_clip=0.5)
            )
        trainer.step()
    return losses


def torchs(trainer) -> None:
    """DDP knows here beforehand which accepted micro-batch is the last of its step."""
    ddp, optimizer = DistributedDataParallel(Plain(trainer.model)), trainer.optimizer
    for iter_num, verdicts in enumerate(STEPS):
        accepted = [at for at, updated in enumerate(verdicts) if updated]
        for at in accepted:
            with contextlib.nullcontext() if at == accepted[-1] else ddp.no_sync():
                (ddp(*trainer.batches.sample_batch(iter_num, at)) / len(accepted)).backward()
        if accepted:
            torch.nn.utils.clip_grad_norm_(ddp.parameters(), 0.5)
            for group in optimizer.param_groups:
                group["lr"] = 1e-2
            optimizer.step()
            optimizer.zero_grad()


def furthest(one, other) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def main() -> None:
    folder = Path(sys.argv[1])
    with DistributedRanks() as ranks:
        path = ranks.run_on_rank_zero(lambda: text(folder)) or folder / "text.txt"
        chosen = ranks.init_groups(settings(MICRO))
        kinds = chosen, chosen, dataclasses.replace(chosen, parallel="fsdp")
        trainers = [make_trainer(kind, load_corpus(path), ranks) for kind in kinds]
        losses = ours(trainers[0])
        torchs(trainers[1])
        shared = ours(trainers[2])
        weights = [[to_full(p) for p in trainer.model.parameters()] for trainer in trainers]
        found = {"ddp": furthest(*weights[:2]), "fsdp": furthest(weights[0], weights[2])}
        print(json.dumps({"losses": losses, "shared": shared, **found}))


if __name__ == "__main__":
    main()
