"""Trainer for several ranks: separate batches, one mean loss for the verdict, and one mean gradient.

The mathematics is that of PyTorch's DistributedDataParallel. Its hooks send gradients while the backward pass
still runs, so they must know in advance which micro-batch is the last one of a step. Here the chain decides
after each forward whether there is a backward pass. So the gradients are averaged once per step, after the
last verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import torch

from ockham.context import OccamContext
from ockham.nano.config import Settings
from ockham.nano.data import Corpus
from ockham.nano.device import get_rng_state
from ockham.nano.distributed import DistributedRanks
from ockham.nano.step_metrics import SKIPPED_STEP, PendingStep, StepResult
from ockham.nano.trainer import Evaluation, Trainer
from ockham.record.checkpoints import CheckpointFiles


class BroadcastStep(NamedTuple):
    """Pending step of which every rank gets rank 0's gauges, so that verdicts cannot differ."""

    ranks: DistributedRanks
    pending: PendingStep

    def result(self) -> StepResult:
        """Return what this rank measured at its optimizer, and the gauges of rank 0.

        Every rank must call this.
        """
        applied, gauges = self.pending.result()
        return StepResult(applied, self.ranks.broadcast(gauges))


class DDPTrainer(Trainer):
    """Trainer of one rank. Every rank must make the same calls in the same order.

    Args:
        settings: The same on every rank, as returned by `DistributedRanks.init_groups`.
        corpus: The same on every rank. Each rank samples different batches from it.
        ranks: This process and the others.

    """

    def __init__(self, settings: Settings, corpus: Corpus, ranks: DistributedRanks) -> None:
        super().__init__(settings, corpus, rank=ranks.rank)
        self.ranks = ranks
        self.local_loss = 0.0
        # The initial weights are equal on all ranks at this point. Dropout differs from here on, and rank 0
        # draws the dropout of a run with one process.
        if ranks.rank:
            torch.manual_seed(settings.seed + ranks.rank)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that all ranks forward for one optimizer step."""
        return super().tokens_per_step * self.ranks.world_size

    def context_fields(self, iter_num: int, micro_step: int = 0) -> dict[str, Any]:
        """Return the fields of one process, with the tokens of all ranks and the local loss."""
        fields = super().context_fields(iter_num, micro_step)
        tokens = fields["tokens_seen"] * self.ranks.world_size
        return {**fields, "tokens_seen": tokens, "rank_loss": self.local_loss}

    def step_async(self) -> PendingStep:
        """Take the step. The result is rank 0's on every rank."""
        pending = super().step_async()
        return pending if pending is SKIPPED_STEP else BroadcastStep(self.ranks, pending)

    def evaluate(self) -> Evaluation:
        """Return rank 0's evaluation on every rank."""
        return Evaluation(*self.ranks.broadcast(self._evaluate_rank()))

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """Return the files of a checkpoint on rank 0, with the state of every rank.

        Other ranks return no files.
        """
        if state is not None:
            self.discard_forward()
            self.note_saved_state(metadata["iter_num"])
            rank_state = {"run": state["run"], "random": get_rng_state(self.device)}
            gathered = self.ranks.all_gather(orjson.dumps(rank_state))
            state = {**state, "ranks": [orjson.loads(text) for text in gathered]}
        if self.ranks.rank:
            return CheckpointFiles({}, "")
        return super().make_checkpoint_files(metadata, state)

    def restore_model(self, path: Path, state: Mapping[str, Any]) -> None:
        """Restore weights, optimizer, anchor and generators of a checkpoint.

        If the number of ranks has changed, the generators of dropout are seeded again.
        """
        rank_states, trainer_state = state.get("ranks", []), state["trainer"]
        if len(rank_states) == self.ranks.world_size:
            random = rank_states[self.ranks.rank]["random"]
        else:
            offset = trainer_state["steps"] * self.ranks.world_size
            torch.manual_seed(self.settings.seed + self.ranks.rank + offset)
            random = get_rng_state(self.device)
        super().restore_model(path, {**state, "trainer": {**trainer_state, "random": random}})

    def _forward(self, iter_num: int, micro_step: int) -> float:
        """Return the mean of the ranks' losses. The local loss is kept for `context_fields`."""
        self.local_loss = super()._forward(iter_num, micro_step)
        with self.meter.stage("wait"):
            return self.ranks.all_reduce_mean(self.local_loss)

    def _prepare_gradients(self, ctx: OccamContext) -> torch.Tensor:
        """Average the gradients over the ranks before anything else changes them."""
        with self.meter.stage("all_reduce"):
            self._average_gradients()
        return super()._prepare_gradients(ctx)

    def _average_gradients(self) -> None:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.ranks.average_gradients(gradients)

    def _evaluate_rank(self) -> Evaluation:
        """Evaluate on rank 0 only."""
        return super().evaluate() if self.ranks.rank == 0 else Evaluation(0.0)
