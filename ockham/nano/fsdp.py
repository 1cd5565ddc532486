"""A trainer on many ranks, each of which keeps a share of the model: FSDP2 (`fully_shard`), as `--set parallel=fsdp`.

Weights, gradients, moments and anchor lie in shares; each block is put together for its forward and for its backward, and
given up after both, so that a skipped backward leaves nothing whole behind that the next step would make stale.
Gradients are reduced in each accepted backward, because whole ones would not fit where shares are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from ockham.nano.trainer import Evaluation, Trainer
from ockham.record.checkpoints import CheckpointFiles


class FSDPAnchorWeights(AnchorWeights):
    """An anchor in shares: distances are added up over the ranks."""

    def _norm_of_norms(self, norms: torch.Tensor) -> torch.Tensor:
        squares = super()._norm_of_norms(norms).double() ** 2
        held = self._parameters[0]
        assert isinstance(held, DTensor)
        dist.all_reduce(squares, group=held.device_mesh.get_group())
        return squares.sqrt().float()


class FSDPTrainer(DDPTrainer):
    """One rank's trainer with its share of the model.

    Raises:
        BadInputError: if the optimizer is not AdamW, which steps each number by itself and so in shares.

    """

    anchor_kind = FSDPAnchorWeights

    def __init__(self, settings: Settings, corpus: Corpus, ranks: DistributedRanks) -> None:
        if settings.optimizer != "adamw":
            raise BadInputError(
                f"optimizer={settings.optimizer} needs whole matrices, and parallel=fsdp keeps shares: say parallel=ddp"
            )
        super().__init__(settings, corpus, ranks)
        _shard(self.model, self.device, ranks)
        self.optimizer = make_optimizer(
            self.model, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay,
            betas=(settings.beta1, settings.beta2),
        )  # fmt: skip

    def forward(self, iter_num: int, micro_step: int = 0) -> float:
        """As of whole models; each block is put together from all ranks for it."""
        with self.ranks.collective():
            return super().forward(iter_num, micro_step)

    def backward(self, ctx: OccamContext) -> None:
        """As of whole models; each block's gradient is reduced within."""
        with self.ranks.collective():
            super().backward(ctx)

    def step_async(self) -> Callable[[], tuple[bool, dict[str, Any]]]:
        """As of whole models; norms are added up over the ranks."""
        with self.ranks.collective():
            return super().step_async()

    def evaluate(self) -> Evaluation:
        """Rank 0's evaluation, which every rank takes part in."""
        with self.ranks.collective():
            return super().evaluate()

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """As of whole models; every rank hands over its share of each tensor, and rank 0 alone keeps the whole."""
        with self.ranks.collective():
            packed = super().make_checkpoint_files(metadata, state)
            if self.ranks.rank:
                for tensor in self._packed(resumable=state is not None):
                    to_full(tensor)
        return packed

    def _packed(self, *, resumable: bool) -> Iterator[torch.Tensor]:
        """Every tensor of a checkpoint in the order in which rank 0 packs them."""
        yield from self.model.parameters()
        if resumable:
            for parameter in self.model.parameters():
                yield from self.optimizer.state.get(parameter, {}).values()
            if self.anchor is not None:
                yield from self.anchor.state(self.model).values()

    def _optimizer_step(self, ctx: OccamContext, accepted: int) -> torch.Tensor:
        if ctx.grad_noise_std > 0:
            raise BadInputError(
                "noise on the gradient (grad_noise_std) is drawn for whole tensors: say parallel=ddp"
            )
        return super()._optimizer_step(ctx, accepted)

    def _reduce(self) -> None:
        """Nothing is left to do: each backward has reduced its gradients."""

    def _evaluated(self) -> Evaluation:
        return Trainer.evaluate(self)  # every rank must take part, on the same tokens; rank 0's numbers count


def _shard(model: GPT, device: str, ranks: DistributedRanks) -> None:
    assert ranks.group is not None
    mesh = DeviceMesh.from_group(ranks.group, device.partition(":")[0])
    for block in model.h:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
