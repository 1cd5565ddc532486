"""A trainer on many ranks: each its own batches, one mean loss to judge, one mean gradient to step by.

The mathematics is that of PyTorch's DistributedDataParallel. Its hooks send gradients while the backward still runs, and
must know beforehand which micro-batch is the step's last; here the chain says only after each forward whether there is a
backward. So the gradients are averaged once a step, after the last verdict, whatever was skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import torch

from ockham.nano.config import Settings
from ockham.nano.data import Corpus
from ockham.nano.device import get_rng_state
from ockham.nano.distributed import DistributedRanks
from ockham.nano.trainer import Evaluation, Trainer
from ockham.record.checkpoints import CheckpointFiles


class DDPTrainer(Trainer):
    """One rank's trainer; every rank must make the same calls in the same order.

    Args:
        settings: the same on every rank, as `Ranks.settle` gives them back.
        corpus: the same on every rank, which draws batches of its own from it.
        ranks: this process and the others.

    """

    def __init__(self, settings: Settings, corpus: Corpus, ranks: DistributedRanks) -> None:
        super().__init__(settings, corpus, rank=ranks.rank)
        self.ranks = ranks
        self.local_loss = 0.0
        if (
            ranks.rank
        ):  # weights are drawn alike by now; dropout is each rank's own, and rank 0's that of one process
            torch.manual_seed(settings.seed + ranks.rank)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that all ranks forward for one optimizer step."""
        return super().tokens_per_step * self.ranks.world_size

    def forward(self, iter_num: int, micro_step: int = 0) -> float:
        """Mean over the ranks of the loss of their micro-batches, nats per token; this rank's own is kept beside it."""
        self.local_loss = super().forward(iter_num, micro_step)
        with self.meter.stage("wait"):
            return self.ranks.all_reduce_mean(self.local_loss)

    def context_fields(self, iter_num: int, micro_step: int = 0) -> dict[str, Any]:
        """As of one process, with the tokens of all ranks and this rank's own loss."""
        fields = super().context_fields(iter_num, micro_step)
        tokens = fields["tokens_seen"] * self.ranks.world_size
        return {**fields, "tokens_seen": tokens, "rank_loss": self.local_loss}

    def step_async(self) -> Callable[[], tuple[bool, dict[str, Any]]]:
        """Average the gradients and step; the gauges are rank 0's, so that no rank can judge by others."""
        if not self._accepted:
            return super().step_async()
        with self.meter.stage("all_reduce"):
            self._reduce()
        read = super().step_async()

        def shared() -> tuple[bool, dict[str, Any]]:
            stepped, gauges = self.ranks.broadcast(read())
            return stepped, gauges

        return shared

    def evaluate(self) -> Evaluation:
        """Rank 0's evaluation, on every rank."""
        loss, error, tokens, seconds = self.ranks.broadcast(self._evaluated())
        return Evaluation(loss, error, tokens, seconds)

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """The files of a checkpoint on rank 0, with the state of every rank; nothing on the others."""
        if state is not None:
            own = {"run": state["run"], "random": get_rng_state(self.device)}
            each = [orjson.loads(text) for text in self.ranks._gather(orjson.dumps(own))]
            state = {**state, "ranks": each}
        return (
            super().make_checkpoint_files(metadata, state)
            if self.ranks.rank == 0
            else CheckpointFiles({}, "")
        )

    def restore(self, path: Path, state: Mapping[str, Any]) -> None:
        """Take up where a checkpoint left; with another number of ranks each draws its dropout anew."""
        each, own = state.get("ranks", []), state["trainer"]
        if len(each) == self.ranks.world_size:
            random = each[self.ranks.rank]["random"]
        else:
            torch.manual_seed(self.settings.seed + self.ranks.rank + own["steps"] * self.ranks.world_size)
            random = get_rng_state(self.device)
        super().restore(path, {**state, "trainer": {**own, "random": random}})

    def _reduce(self) -> None:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.ranks.average_gradients(gradients)

    def _evaluated(self) -> Evaluation:
        return super().evaluate() if self.ranks.rank == 0 else Evaluation(0.0, 0.0, 0, 0.0)
