"""Trainer for several ranks that each hold a part of the model: FSDP2 (`fully_shard`), `--set parallel=fsdp`.

Weights, gradients, moments and anchor are sharded. Each block is gathered for its forward and for its
backward pass and freed after both. So a skipped backward pass leaves no gathered weights that the next step
would make outdated. Gradients are reduced in each accepted backward pass, because full gradients would not
fit into memory where sharding is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.nano.anchor import AnchorWeights
from ockham.nano.config import Settings
from ockham.nano.data import Corpus
from ockham.nano.ddp import DDPTrainer
from ockham.nano.distributed import DistributedRanks
from ockham.nano.dtensor import to_full
from ockham.nano.model import GPT
from ockham.nano.optimizer import make_optimizer
from ockham.nano.step_metrics import PendingStep
from ockham.nano.trainer import Evaluation, Trainer
from ockham.record.checkpoints import CheckpointFiles


class FSDPAnchorWeights(AnchorWeights):
    """Sharded anchor. Distances are summed over the ranks."""

    def _norm_of_norms(self, norms: torch.Tensor) -> torch.Tensor:
        squares = super()._norm_of_norms(norms).double() ** 2
        parameter = self._parameters[0]
        assert isinstance(parameter, DTensor)
        dist.all_reduce(squares, group=parameter.device_mesh.get_group())
        return squares.sqrt().float()


class FSDPTrainer(DDPTrainer):
    """Trainer of one rank with its part of the model.

    Raises:
        BadInputError: If the optimizer is not AdamW. AdamW updates each number separately, so it can be
            sharded.

    """

    anchor_kind = FSDPAnchorWeights

    def __init__(self, settings: Settings, corpus: Corpus, ranks: DistributedRanks) -> None:
        if settings.optimizer != "adamw":
            raise BadInputError(
                f"optimizer={settings.optimizer}: not available with parallel=fsdp; "
                "it needs full matrices, use parallel=ddp"
            )
        super().__init__(settings, corpus, ranks)
        _shard(self.model, self.device, ranks)
        self.optimizer = make_optimizer(
            self.model,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            betas=(settings.beta1, settings.beta2),
        )

    def backward(self, ctx: OccamContext) -> None:
        """Add this micro-batch's gradient. Each block's gradient is reduced during the pass."""
        with self.ranks.collective():
            super().backward(ctx)

    def measure_gradients(self, ctx: OccamContext) -> float | None:
        """Return the norm of the gradient. It is summed over the ranks."""
        with self.ranks.collective():
            return super().measure_gradients(ctx)

    def step_async(self) -> PendingStep:
        """Take the step. Norms are summed over the ranks."""
        with self.ranks.collective():
            return super().step_async()

    def evaluate(self) -> Evaluation:
        """Return rank 0's evaluation. Every rank takes part in it."""
        with self.ranks.collective():
            return super().evaluate()

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """Return the files of a checkpoint on rank 0. Every rank sends its part of each tensor."""
        with self.ranks.collective():
            packed = super().make_checkpoint_files(metadata, state)
            if self.ranks.rank:
                for tensor in self._checkpoint_tensors(resumable=state is not None):
                    to_full(tensor)
        return packed

    def _checkpoint_tensors(self, *, resumable: bool) -> Iterator[torch.Tensor]:
        """Yield every tensor of a checkpoint in the order in which rank 0 serializes them."""
        yield from self.model.parameters()
        if resumable:
            for parameter in self.model.parameters():
                yield from self.optimizer.state.get(parameter, {}).values()
            if self.anchor is not None:
                yield from self.anchor.state(self.model).values()

    def _forward(self, iter_num: int, micro_step: int) -> float:
        """Return the mean of the ranks' losses. Each block is gathered from all ranks."""
        with self.ranks.collective():
            return super()._forward(iter_num, micro_step)

    def _prepare_gradients(self, ctx: OccamContext) -> torch.Tensor:
        if ctx.grad_noise_std > 0:
            raise BadInputError(
                "grad_noise_std: not available with parallel=fsdp; "
                "the noise is drawn for full tensors, use parallel=ddp"
            )
        return super()._prepare_gradients(ctx)

    def _average_gradients(self) -> None:
        """Do nothing: each backward pass has reduced its gradients."""

    def _evaluate_rank(self) -> Evaluation:
        """Evaluate on every rank, because each holds a part of the model. Rank 0's numbers are used."""
        return Trainer.evaluate(self)


def _shard(model: GPT, device: str, ranks: DistributedRanks) -> None:
    assert ranks.group is not None
    mesh = DeviceMesh.from_group(ranks.group, device.partition(":")[0])
    for block in model.h:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
