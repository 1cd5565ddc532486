"""Apply the chain's verdicts in a training loop that another library drives.

    start_batch(loss)   verdict of the chain: may this batch update the weights?
    before_step()       gradients normalised by the accepted batches, noise, their verdict, clipping
    (the optimizer's step at the decided learning rate, then the pull to the anchor and the projection)
    end_batch()         what was measured at the optimizer, `on_batch_end`, rollback
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

from ockham.applied_step import GRADIENT_DROPPED, LOSS_SCALE_OVERFLOW, NONFINITE_GRADIENT
from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.integrations.loss_scaler import allow_empty_step, unscale
from ockham.integrations.step_gradients import StepGradients
from ockham.integrations.trained_weights import TrainedWeights, make_checkpoint_files
from ockham.integrations.wanted_gauges import wants_drift
from ockham.nano.anchor import AnchorWeights, Drift, Rollback
from ockham.nano.step_meter import StepMeter
from ockham.nano.trainer import Evaluation
from ockham.record.checkpoints import CheckpointFiles
from ockham.run import Run
from ockham.step_actions import EndReason, after_evaluation, roll_back_or_halt

# Updates between two measurements of drift if every plugin is in shadow. Each one reads all weights.
OBSERVED_DRIFT_INTERVAL = 32


def detach_loss(loss: torch.Tensor) -> torch.Tensor:
    """Return a loss of equal value whose backward pass reaches no weight. The old graph can be freed."""
    # The product is not a leaf. Loops that scale a loss in place cannot do so with a leaf.
    return loss.detach().requires_grad_() * 1.0


class StepController:
    """Asks the chain about each batch and applies its verdict.

    Args:
        run: An open run. Its facts include `max_iters` and `vocab_size` if they are known.
        model: The model that is trained.
        optimizer: A torch optimizer. Hooks on its step are registered.
        save_checkpoints: Save accepted weights as checkpoints.
        scaler: Scaler of a float16 training. None without one.
        facts: Facts of the run that the loop knows. They are recorded with the first batch.

    Attributes:
        micro_steps: Number of micro-batches of the present step.
        stop_reason: Reason code and message, once the policy has ended the run.

    Raises:
        BadInputError: If the run is not open, or was created for another number of processes.

    """

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        save_checkpoints: bool = True,
        scaler: torch.amp.GradScaler | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        require_same_processes(run)
        if not run.attempt.is_open:
            raise BadInputError("the run is not open; use `with ockham.Run(...) as run:`")
        self.run = run
        self.model = model
        self.save_checkpoints = save_checkpoints
        self.is_active = any(not plugin.shadow for plugin in run.chain.plugins)
        self.pull_mode = run.policy.hyperparameters.get("pull", "none")
        self.iter_num = run.first_iter
        self.micro_steps = 1
        self.stop_reason: EndReason | None = None
        self.weights = TrainedWeights(model)
        self._gradients = StepGradients(list(self.weights.parameters()))
        needs_anchor = self.weights.has_matrix and (self.is_active or wants_drift(run.chain.plugins))
        self.anchor = AnchorWeights(self.weights, self.iter_num) if needs_anchor else None
        self._drift_interval = 1 if self.is_active else OBSERVED_DRIFT_INTERVAL
        self._facts = dict(facts or {})
        # The context between `start_batch` and `end_batch`, the last one that ended, and the last one of this
        # step that may update the weights.
        self._ctx: OccamContext | None = None
        self._last: OccamContext | None = None
        self._accepted: OccamContext | None = None
        self._batches = 0
        self._accepted_batches = 0
        self._is_boundary = False
        self._cause = ""
        self._has_skipped_gradient = False
        self._updates = 0
        self._gauges: dict[str, Any] = {}
        self._scheduled_rates: list[Any] = []
        self.attach(optimizer, scaler)

    def attach(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None = None) -> None:
        """Register hooks on an optimizer. Call it before each training that continues the run.

        Args:
            optimizer: A torch optimizer of the same weights.
            scaler: Scaler of a float16 training. None without one.

        """
        self.optimizer = optimizer
        self.scaler = scaler
        # The hook of the meter is the first: it reads the learning rates before they are restored.
        # Under observe no verdict depends on the sample.
        samples_once = not self.is_active
        self._meter = StepMeter(optimizer, parameters=self.weights.parameters(), samples_once=samples_once)
        self._hook = optimizer.register_step_post_hook(self._after_optimizer_step)
        self.run.compare_weights(self._meter)

    def state_dict(self) -> dict[str, int]:
        """Return the counters between two batches. `trainer_state` saves the anchor's weights."""
        return {"iter_num": self.iter_num, "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore the counters of `state_dict` before the first batch."""
        self.iter_num = state["iter_num"]
        self._updates = state["updates"]

    @property
    def is_between_steps(self) -> bool:
        """True after the last batch of a step has ended, and before the next one starts."""
        return not self._batches and self.iter_num == self.run.last_iter + 1

    def start_batch(self, task_loss: float, grad_clip: float = math.inf, **facts: Any) -> bool:
        """Return True if this batch may update the weights. Call it before the backward pass.

        Args:
            task_loss: Mean loss in nats per token.
            grad_clip: Limit of the gradient norm that the loop uses.
            facts: Facts of this batch, such as `tokens_seen`.

        """
        self._meter.start()
        facts = {**self._facts, **facts}
        self._facts = {}
        ctx = self.run.start_batch(
            self.iter_num,
            task_loss,
            self._batches,
            micro_steps=self.micro_steps,
            anchor_available=self.anchor is not None,
            learning_rate=self._meter.scheduled_learning_rate(),
            grad_clip=grad_clip,
            **facts,
        )
        self._ctx = ctx
        self._batches += 1
        if ctx.updated:
            self._accepted = ctx
            self._accepted_batches += 1
        elif self.is_active:
            self._gradients.expect_no_change()
        return ctx.updated

    def check_skip(self) -> None:
        """Drop gradients that reached the weights although every batch of this step was skipped.

        Call it after each backward pass, before anything else changes the gradients. A gradient that was
        added to those of accepted batches cannot be taken out; it is recorded as a verdict that was not
        applied.
        """
        if not self._gradients.has_unexpected_change():
            return
        if self._accepted is not None:
            self._has_skipped_gradient = True
            return
        self._cause = GRADIENT_DROPPED
        self.optimizer.zero_grad(set_to_none=True)

    def before_step(self, norm: torch.Tensor | None = None) -> None:
        """Prepare the gradients of a step. Call it when all are computed, before the optimizer's step.

        Args:
            norm: Norm of the present gradients if the loop has measured it. None measures it here.

        """
        self._is_boundary = True
        self.check_skip()
        if self.scaler is not None:
            unscale(self.scaler, self.optimizer)
        ctx = self._accepted
        if ctx is None:
            if self.scaler is not None:
                allow_empty_step(self.scaler, self.optimizer)
            return
        if self.is_active:
            norm = self._prepare_gradients(ctx, norm)
        elif norm is None:
            norm = self._gradients.norm()
        value = float(norm)
        self._gauges["grad_norm"] = value
        if self.run.acts_on_gradients and self._ctx is not None:
            ctx = self._accepted = self.run.gradients(self._ctx, grad_norm=value)
        self._cause = "" if ctx.step else GRADIENT_DROPPED
        if not math.isfinite(value):
            self._cause = NONFINITE_GRADIENT if self.scaler is None else LOSS_SCALE_OVERFLOW
        if self.is_active and self._cause:
            self.optimizer.zero_grad(set_to_none=True)
        elif self.is_active:
            self._set_learning_rate(ctx)
            self._gradients.clip(ctx.grad_clip, norm)

    def end_batch(self) -> OccamContext | None:
        """Record a batch when the loop has finished it. Return None if the chain was not asked about it."""
        ctx, self._ctx = self._ctx, None
        if ctx is None:
            return None
        self._restore_learning_rate()
        if not self._is_boundary:
            self.check_skip()
        ends_step = self._is_boundary
        applied = self._meter.read(self._cause)._replace(has_skipped_gradient=self._has_skipped_gradient)
        self._has_skipped_gradient = False
        self.run.end_batch(ctx, applied=applied, **(self._gauges if ends_step else {}))
        if ends_step:
            self._end_step()
        end_reason = roll_back_or_halt(self.run, self, ctx)
        self.stop_reason = self.stop_reason or end_reason
        self._last = ctx
        return ctx

    def abandon_batch(self) -> None:
        """Record that the present step ended early, such as by an exception. The next one has a new number.

        Without a present step, calling it has no effect.
        """
        ctx, self._ctx = self._ctx, None
        if not self._batches:
            return
        self._end_step()
        self._last = ctx or self._last
        self.run.abandon_step(ctx)

    def evaluate(self, val_loss: float) -> OccamContext | None:
        """Pass a validation loss in nats per token to memory and anchor.

        Before the first batch, the loss is only recorded, no plugin is called, and None is returned.
        """
        ctx = self._last
        if ctx is None:
            self._record_first_evaluation(val_loss)
            return None
        if self.anchor is not None and self._drift_interval > 1:
            ctx.set_gauges(**_drift_gauges(self.anchor.measure()))
        after_evaluation(
            self.run,
            self,
            ctx,
            Evaluation(val_loss),
            trigger="CONSOLIDATION" if ctx.consolidating else "SCHEDULE",
            save_accepted=self.save_checkpoints,
        )
        return ctx

    def record_losses(self, losses: Mapping[str, float]) -> None:
        """Record further validation losses as custom metrics of the last batch. No plugin is called."""
        if self._last is not None:
            self._last.custom.update(losses)

    def close(self) -> None:
        """Remove the hooks and end the run."""
        self.detach()
        reason, message = self.stop_reason or ("COMPLETED", None)
        self.run.finish(reason, message, val_loss=self.run.val_loss)

    def detach(self) -> None:
        """Remove the hooks from the optimizer. The run stays open. Calling it again has no effect."""
        self._hook.remove()
        self._meter.close()
        self._restore_learning_rate()

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """Return the trained weights as a checkpoint. It cannot be resumed."""
        return make_checkpoint_files(self.model, self.weights, metadata)

    def move_anchor(self, iter_num: int) -> float:
        """Make the present weights the anchor. Return the drift from the previous one."""
        drift = 0.0 if self.anchor is None else self.anchor.measure().after
        self.anchor = AnchorWeights(self.weights, iter_num)
        return drift

    def roll_back(self, iter_num: int) -> Rollback:
        """Restore the anchor's weights and clear the optimizer's moments. The loader continues."""
        assert self.anchor is not None
        return self.anchor.roll_back(self.optimizer)

    def measure_norm(self) -> torch.Tensor:
        """Return the L2 norm of the present gradients, a scalar on the device."""
        return self._gradients.norm()

    def _record_first_evaluation(self, val_loss: float) -> None:
        evaluation = {
            "iter_num": self.iter_num,
            "trigger": "USER",
            "val_loss": val_loss,
            "standard_error": None,
            "tokens": 0,
            "seconds": 0.0,
        }
        self.run.emit("evaluation.recorded", evaluation, iter_num=self.iter_num)

    def _prepare_gradients(self, ctx: OccamContext, norm: torch.Tensor | None) -> torch.Tensor:
        """Apply the knobs that change gradients before they are clipped. Return the norm."""
        gradients = self._gradients
        if self._batches != self._accepted_batches:
            norm = gradients.scale(self._batches / self._accepted_batches, norm)
        if self.anchor is not None and self.pull_mode == "coupled" and ctx.lambda_ockham > 0:
            self.anchor.add_penalty(ctx.lambda_ockham)
            norm = None
        if ctx.grad_noise_std > 0:
            gradients.add_noise(ctx.grad_noise_std, ctx.seed, ctx.iter_num)
            norm = None
        return gradients.norm() if norm is None else norm

    def _end_step(self) -> None:
        self.iter_num += 1
        self._accepted = None
        self._batches = 0
        self._accepted_batches = 0
        self._gauges = {}
        self._is_boundary = False
        self._cause = ""

    def _after_optimizer_step(self, *_: object) -> None:
        """Pull and measure after the optimizer's step, before a scheduler reads the learning rate."""
        self._is_boundary = True
        self._restore_learning_rate()
        ctx = self._accepted
        if ctx is None or self.anchor is None:
            return
        self._updates += 1
        if self.is_active and not self._cause:
            self._gauges |= _drift_gauges(self._pull(self.anchor, ctx))
        elif self._updates % self._drift_interval == 1 or self._drift_interval == 1:
            self._gauges |= _drift_gauges(self.anchor.measure())

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


def require_same_processes(run: Run) -> None:
    """Check that the run has the processes of the training.

    Raises:
        BadInputError: If the training has several processes, and the run was created for one.

    """
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    size = torch.distributed.get_world_size() if is_distributed else 1
    if size != run.peers.world_size:
        raise BadInputError(
            f"the training has {size} processes, and the run was created for {run.peers.world_size}; "
            "create it by ockham.Run.distributed, or let the callback open it"
        )


def _drift_gauges(drift: Drift) -> dict[str, float]:
    return {"complexity_cost": drift.after, "drift_raw": drift.raw, "drift_sq": drift.squared}
