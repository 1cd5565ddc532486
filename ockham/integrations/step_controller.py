"""Apply the chain's verdicts in a training loop that another library drives.

    start_batch(loss)   verdict of the chain: may this batch update the weights?
    before_step()       gradients normalised by the accepted batches, noise, clipping
    (the optimizer's step at the decided learning rate, then the pull to the anchor and the projection)
    end_batch()         gauges, `on_batch_end`, rollback
    evaluate(loss)      memory and anchor: an accepted checkpoint, a new anchor

The learning rate is set for one step and restored before a scheduler reads it. If every plugin is in shadow,
nothing is changed. KL and the losses of single examples are not measured here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ockham.applied_step import NONFINITE_GRADIENT
from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.nano.anchor import AnchorWeights, Drift, Rollback
from ockham.nano.checkpoint_io import MODEL, serialize_model
from ockham.nano.optimizer import add_noise, clip_gradients
from ockham.nano.step_meter import StepMeter
from ockham.nano.trainer import Evaluation
from ockham.record.checkpoints import CheckpointFiles
from ockham.run import Run
from ockham.step_actions import EndReason, after_evaluation, roll_back_or_halt


def detach_loss(loss: torch.Tensor) -> torch.Tensor:
    """Return a loss of equal value whose backward pass reaches no weight. The old graph can be freed."""
    # The product is not a leaf. Loops that scale a loss in place cannot do so with a leaf.
    return loss.detach().requires_grad_() * 1.0


class StepController:
    """Asks the chain about each batch and applies its verdict.

    Args:
        run: An open run. Its facts include `max_iters` and `vocab_size` if they are known.
        model: The model that is trained.
        optimizer: A torch optimizer. A hook on its step is registered.
        save_checkpoints: Save accepted weights as checkpoints.

    Attributes:
        micro_steps: Number of micro-batches of the present step.
        stop_reason: Reason code and message, once the policy has ended the run.

    Raises:
        BadInputError: If the run is not open, or the training has several processes.

    """

    def __init__(
        self, run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, *, save_checkpoints: bool = True
    ) -> None:
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if is_distributed and torch.distributed.get_world_size() > 1:
            raise BadInputError(
                "this integration supports one process; "
                "for several ranks use `torchrun -m ockham train`, which decides on the mean loss"
            )
        if not run.attempt.is_open:
            raise BadInputError("the run is not open; use `with ockham.Run(...) as run:`")
        self.run = run
        self.model = model
        self.optimizer = optimizer
        self.save_checkpoints = save_checkpoints
        self.is_active = any(not plugin.shadow for plugin in run.chain.plugins)
        self.pull_mode = run.policy.hyperparameters.get("pull", "none")
        self.iter_num = 0
        self.micro_steps = 1
        self.stop_reason: EndReason | None = None
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        has_matrix = any(parameter.dim() >= 2 for parameter in self._parameters)
        self.anchor = AnchorWeights(model, 0) if has_matrix else None
        # The context between `start_batch` and `end_batch`, the last one that ended, and the last one of this
        # step that may update the weights.
        self._ctx: OccamContext | None = None
        self._last: OccamContext | None = None
        self._accepted: OccamContext | None = None
        self._batches = 0
        self._accepted_batches = 0
        self._stepped = False
        self._refused = False
        self._gauges: dict[str, Any] = {}
        self._scheduled_rates: list[Any] = []
        # The hook of the meter is the first: it reads the learning rates before they are restored.
        self._meter = StepMeter(optimizer, parameters=self._parameters)
        self._hook = optimizer.register_step_post_hook(self._after_optimizer_step)

    def start_batch(self, task_loss: float, grad_clip: float = math.inf) -> bool:
        """Return True if this batch may update the weights. Call it before the backward pass.

        Args:
            task_loss: Mean loss in nats per token.
            grad_clip: Limit of the gradient norm that the loop uses.

        """
        self._meter.start()
        ctx = self.run.start_batch(
            self.iter_num,
            task_loss,
            self._batches,
            micro_steps=self.micro_steps,
            anchor_available=self.anchor is not None,
            learning_rate=self._meter.scheduled_learning_rate(),
            grad_clip=grad_clip,
        )
        self._ctx = ctx
        self._batches += 1
        if ctx.updated:
            self._accepted = ctx
            self._accepted_batches += 1
        return ctx.updated

    def before_step(self) -> None:
        """Prepare the gradients of a step. Call it when all are computed, before the optimizer's step."""
        ctx = self._accepted
        if ctx is None:
            return
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if self.is_active:
            if self._batches != self._accepted_batches:
                torch._foreach_mul_(gradients, self._batches / self._accepted_batches)
            if self.anchor is not None and self.pull_mode == "coupled" and ctx.lambda_ockham > 0:
                self.anchor.add_penalty(ctx.lambda_ockham)
            if ctx.grad_noise_std > 0:
                add_noise(self._parameters, ctx.grad_noise_std, ctx.seed, ctx.iter_num)
            self._set_learning_rate(ctx)
            norm = float(clip_gradients(self._parameters, ctx.grad_clip).item())
        else:
            norm = float(nn.utils.get_total_norm(gradients).item())
        self._gauges["grad_norm"] = norm
        self._refused = self.is_active and not math.isfinite(norm)
        if self._refused:
            self.optimizer.zero_grad(set_to_none=True)

    def end_batch(self) -> OccamContext | None:
        """Record a batch when the loop has finished it. Return None if the chain was not asked about it."""
        ctx, self._ctx = self._ctx, None
        if ctx is None:
            return None
        self._restore_learning_rate()
        gauges = self._gauges if self._stepped else {}
        self.run.end_batch(
            ctx, applied=self._meter.read(NONFINITE_GRADIENT if self._refused else ""), **gauges
        )
        if self._stepped:
            self.iter_num += 1
            self._accepted = None
            self._batches = 0
            self._accepted_batches = 0
            self._gauges = {}
            self._stepped = False
            self._refused = False
        end_reason = roll_back_or_halt(self.run, self, ctx)
        self.stop_reason = self.stop_reason or end_reason
        self._last = ctx
        return ctx

    def evaluate(self, val_loss: float) -> OccamContext | None:
        """Pass a validation loss in nats per token to memory and anchor.

        Return None before the first batch.
        """
        ctx = self._last
        if ctx is None:
            return None
        after_evaluation(
            self.run,
            self,
            ctx,
            Evaluation(val_loss),
            trigger="CONSOLIDATION" if ctx.consolidating else "SCHEDULE",
            save_accepted=self.save_checkpoints,
        )
        return ctx

    def close(self) -> None:
        """Remove the hook and end the run."""
        self.detach()
        reason, message = self.stop_reason or ("COMPLETED", None)
        self.run.finish(reason, message, val_loss=self.run.val_loss)

    def detach(self) -> None:
        """Remove the hooks from the optimizer. The run stays open."""
        self._hook.remove()
        self._meter.close()
        self._restore_learning_rate()

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """Return the weights as a checkpoint. It cannot be resumed."""
        data, digest = serialize_model(self.model, metadata)
        return CheckpointFiles({MODEL: data}, digest)

    def move_anchor(self, iter_num: int) -> float:
        """Make the present weights the anchor. Return the drift from the previous one."""
        drift = 0.0 if self.anchor is None else self.anchor.measure().after
        self.anchor = AnchorWeights(self.model, iter_num)
        return drift

    def roll_back(self) -> Rollback:
        """Restore the anchor's weights and clear the optimizer's moments."""
        assert self.anchor is not None
        return self.anchor.roll_back(self.optimizer)

    def _after_optimizer_step(self, *_: object) -> None:
        """Pull and measure after the optimizer's step, before a scheduler reads the learning rate."""
        self._stepped = True
        self._restore_learning_rate()
        ctx = self._accepted
        if ctx is None or self.anchor is None:
            return
        if self.is_active and not self._refused:
            drift = self._pull(self.anchor, ctx)
        else:
            drift = self.anchor.measure()
        self._gauges |= {"complexity_cost": drift.after, "drift_raw": drift.raw, "drift_sq": drift.squared}

    def _pull(self, anchor: AnchorWeights, ctx: OccamContext) -> Drift:
        distance, read_drift = anchor.pull_for(ctx, self.pull_mode, torch.tensor(True))
        return read_drift(float(distance), True)

    def _set_learning_rate(self, ctx: OccamContext) -> None:
        groups = self.optimizer.param_groups
        first = float(groups[0]["lr"])
        # A warm-up may begin at 0.
        if first in {0.0, ctx.learning_rate}:
            return
        self._scheduled_rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * (ctx.learning_rate / first)

    def _restore_learning_rate(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._scheduled_rates, strict=False):
            group["lr"] = rate
        self._scheduled_rates = []
