"""SpikePlugin: robust upper bounds on loss and gradient norm, and an escalation that the policy sets.

The bound is mean + sigma x standard deviation over the last values, as in `SkipStepOptimizer` of OLMo-core
(allenai/OLMo-core, src/olmo_core/optim/skip_step_optimizer.py: 128 values, sigma 6, the step is skipped). A
value over the bound enters the history as the bound, as in ZClip (Kumar et al. 2025, arXiv 2504.02507), where
a gradient over the bound is clipped. So one spike hardly moves the bound, and a new level is reached in time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from ockham.context import OccamContext
from ockham.errors import PluginSettingError
from ockham.plugin import OccamPlugin

# Without it, a constant history would have a bound that any rounding exceeds.
MIN_RELATIVE_DEVIATION = 0.01
# The squares of larger values could overflow.
MAX_MAGNITUDE = 1e150


class SpikeBound(NamedTuple):
    """Upper bound of a value, with the statistics of its history."""

    value: float
    mean: float
    deviation: float
    history: int


class SpikePlugin(OccamPlugin):
    """Detects spikes of the loss and of the gradient norm, and reacts by their number in a row.

    Each stage begins at a number of consecutive steps with a spike, 1 for the first. A spike for which
    neither `clip_from` nor `skip_from` is reached is a warning.

    Args:
        window: Number of values of each history, at most 10,000. Each value costs time at each step.
        min_history: Number of values from which a bound exists.
        sigma: Standard deviations over the mean.
        clip_from: Clip the gradient to its bound, or scale the learning rate by bound / loss. None: never.
        skip_from: Skip the batch, or refuse the step. None never does.
        slow_from: Lower the learning rate of the following steps. None never does.
        slow_factor: Multiplies the learning rate of these steps.
        slow_steps: Number of these steps.
        rollback_from: Roll back, again after each further multiple of it. None never does.
        halt_from: End the run. None never does.
        loss_cap: Highest loss in nats per token. None sets no cap.
        cap_batches: Consecutive batches over `loss_cap` after which the run ends.
        patience: Consecutive evaluations without a lower loss after which the run ends. None never does.

    """

    name = "spike"
    # Otherwise a rollback to a saved state would restore the number of spikes in a row, and none would halt.
    survives_rollback: ClassVar[bool] = True
    reasons: ClassVar[Mapping[str, str]] = {
        "LOSS_SPIKE": "The loss is over its bound: mean + sigma x standard deviation of the last losses.",
        "GRADIENT_SPIKE": "The gradient norm is over its bound: mean + sigma x standard deviation.",
        "AFTER_SPIKE": "The learning rate is lower for some steps after a spike.",
        "SPIKES_IN_A_ROW": "Too many consecutive steps have a spike.",
        "LOSS_OVER_CAP": "The loss is over its cap for too many batches.",
        "NO_IMPROVEMENT": "Too many evaluations in a row are not better than the best one.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "window": "[2, 10000]",
        "min_history": "[2, 10000]",
        "sigma": "(0, inf)",
        "clip_from": "[1, inf)",
        "skip_from": "[1, inf)",
        "slow_from": "[1, inf)",
        "slow_factor": "(0, 1]",
        "slow_steps": "[1, inf)",
        "rollback_from": "[1, inf)",
        "halt_from": "[1, inf)",
        "loss_cap": "(0, inf)",
        "cap_batches": "[1, inf)",
        "patience": "[1, inf)",
    }

    def __init__(
        self,
        window: int = 128,
        min_history: int = 64,
        sigma: float = 6.0,
        clip_from: int | None = 1,
        skip_from: int | None = None,
        slow_from: int | None = None,
        slow_factor: float = 0.5,
        slow_steps: int = 20,
        rollback_from: int | None = None,
        halt_from: int | None = None,
        loss_cap: float | None = None,
        cap_batches: int = 50,
        patience: int | None = None,
    ) -> None:
        self.window = window
        self.min_history = min_history
        self.sigma = sigma
        self.clip_from = clip_from
        self.skip_from = skip_from
        self.slow_from = slow_from
        self.slow_factor = slow_factor
        self.slow_steps = slow_steps
        self.rollback_from = rollback_from
        self.halt_from = halt_from
        self.loss_cap = loss_cap
        self.cap_batches = cap_batches
        self.patience = patience
        self.check_settings()
        self._check_stages()
        self.losses: deque[float] = deque(maxlen=window)
        self.norms: deque[float] = deque(maxlen=window)
        # Consecutive steps with a spike, and whether the present step has one or an accepted batch.
        self.in_a_row = 0
        self.has_spike = False
        self.has_accepted = False
        self.slow_left = 0
        self.over_cap = 0
        self.best_loss: float | None = None
        self.evaluations_without_best = 0

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Compare the loss with its bound, and lower the learning rate after a spike."""
        if ctx.micro_step == 0:
            self.has_spike = self.has_accepted = False
        bound = self._observe(self.losses, ctx.task_loss)
        if not ctx.updated:
            return ctx
        if self.slow_left:
            ctx.learning_rate *= self.slow_factor
            ctx.decide("SCALE", "AFTER_SPIKE", self.slow_left, self.slow_steps, fields=("learning_rate",))
        if bound is not None:
            action = self._begin_stage()
            if action == "SKIP":
                ctx.updated = False
            elif action == "CLAMP":
                action = "SCALE"
                ctx.learning_rate *= _ratio(bound.value, ctx.task_loss)
            fields = ("updated",) if action == "SKIP" else ()
            self._decide(ctx, action, "LOSS_SPIKE", ctx.task_loss, bound, fields)
        return ctx

    def on_gradients(self, ctx: OccamContext) -> OccamContext:
        """Compare the gradient norm with its bound before the step."""
        bound = self._observe(self.norms, ctx.grad_norm)
        if bound is None or not ctx.step:
            return ctx
        action = self._begin_stage()
        if action == "SKIP":
            ctx.step = False
        elif action == "CLAMP":
            ctx.grad_clip = min(ctx.grad_clip, bound.value)
        self._decide(ctx, action, "GRADIENT_SPIKE", ctx.grad_norm, bound)
        return ctx

    def on_batch_end(self, ctx: OccamContext) -> OccamContext:
        """Count spikes in a row and batches over the cap. Roll back or end the run after too many."""
        self.has_accepted |= ctx.updated
        if ctx.ends_step:
            self._end_step(ctx)
        if self.loss_cap is not None:
            self.over_cap = 0 if ctx.task_loss <= self.loss_cap else self.over_cap + 1
            if self.over_cap >= self.cap_batches:
                ctx.halt = True
                numbers = {"batches": self.over_cap, "max_batches": self.cap_batches}
                ctx.decide(
                    "HALT", "LOSS_OVER_CAP", ctx.task_loss, self.loss_cap, fields=("halt",), numbers=numbers
                )
        return ctx

    def on_evaluate(self, ctx: OccamContext) -> OccamContext:
        """End the run after too many evaluations without a lower loss."""
        if self.patience is None:
            return ctx
        loss, best = ctx.val_loss, self.best_loss
        if loss is not None and math.isfinite(loss) and (best is None or loss < best):
            self.best_loss = loss
            self.evaluations_without_best = 0
            return ctx
        self.evaluations_without_best += 1
        if self.evaluations_without_best >= self.patience:
            ctx.halt = True
            numbers = {"evaluations": self.evaluations_without_best, "patience": self.patience}
            ctx.decide("HALT", "NO_IMPROVEMENT", loss, best, fields=("halt",), numbers=numbers)
        return ctx

    def _check_stages(self) -> None:
        """Raise PluginSettingError if a stage can never begin."""
        if self.min_history > self.window:
            raise PluginSettingError(
                self.name, f"min_history is at most window ({self.window}), got {self.min_history}"
            )
        skip, clip, halt = self.skip_from, self.clip_from, self.halt_from
        if skip is not None and clip is not None and clip > skip:
            raise PluginSettingError(
                self.name,
                f"clip_from is at most skip_from ({skip}), got {clip}; a skipped step is not clipped",
            )
        if halt is None:
            return
        if self.rollback_from is not None and halt <= self.rollback_from:
            raise PluginSettingError(
                self.name, f"halt_from is larger than rollback_from ({self.rollback_from}), got {halt}"
            )
        for name in ("clip_from", "skip_from", "slow_from"):
            if _reaches(halt + 1, getattr(self, name) or 0):
                raise PluginSettingError(
                    self.name, f"{name} is at most halt_from ({halt}), got {getattr(self, name)}"
                )

    def _observe(self, history: deque[float], value: float) -> SpikeBound | None:
        """Add a value to its history. Return the bound before it if the value is over the bound."""
        if not math.isfinite(value):
            return None
        bound = self._bound(history, value)
        is_over = bound is not None and value > bound.value
        limit = bound.value if bound is not None and is_over else value
        history.append(max(-MAX_MAGNITUDE, min(MAX_MAGNITUDE, limit)))
        return bound if is_over else None

    def _bound(self, history: Sequence[float], value: float = math.inf) -> SpikeBound | None:
        """Return the bound of a history. None without one, or if the value cannot be over it."""
        count = len(history)
        if count < self.min_history:
            return None
        mean = math.fsum(history) / count
        # The bound for the smallest deviation. Rounding keeps the order, so no value below it is a spike.
        if value <= mean + self.sigma * (MIN_RELATIVE_DEVIATION * abs(mean)):
            return None
        values = list(history)
        variance = math.fsum([(value - mean) * (value - mean) for value in values]) / (count - 1)
        deviation = max(math.sqrt(variance), MIN_RELATIVE_DEVIATION * abs(mean))
        return SpikeBound(mean + self.sigma * deviation, mean, deviation, count)

    def _begin_stage(self) -> str:
        """Note a spike of the present step. Return the action of its stage."""
        self.has_spike = True
        if _reaches(self.skip_from, self.in_a_row + 1):
            return "SKIP"
        return "CLAMP" if _reaches(self.clip_from, self.in_a_row + 1) else "WARN"

    def _decide(
        self,
        ctx: OccamContext,
        action: str,
        reason: str,
        observed: float,
        bound: SpikeBound,
        fields: tuple[str, ...] = (),
    ) -> None:
        numbers = {
            "mean": bound.mean,
            "deviation": bound.deviation,
            "history": bound.history,
            "in_a_row": self.in_a_row + 1,
        }
        ctx.decide(action, reason, observed, bound.value, fields=fields, numbers=numbers)

    def _end_step(self, ctx: OccamContext) -> None:
        """Count the steps with a spike in a row. A step without a verdict on its batches does not count."""
        if not self.has_spike:
            if self.has_accepted:
                self.in_a_row = 0
                self.slow_left = max(0, self.slow_left - 1)
            return
        self.in_a_row += 1
        if _reaches(self.slow_from, self.in_a_row):
            self.slow_left = self.slow_steps
        if _reaches(self.halt_from, self.in_a_row):
            ctx.halt = True
            ctx.decide("HALT", "SPIKES_IN_A_ROW", self.in_a_row, self.halt_from, fields=("halt",))
        elif (
            self.rollback_from is not None
            and self.in_a_row % self.rollback_from == 0
            and (ctx.anchor_available or ctx.state_available)
        ):
            ctx.rollback = True
            ctx.decide("ROLLBACK", "SPIKES_IN_A_ROW", self.in_a_row, self.rollback_from, fields=("rollback",))


def _ratio(bound: float, loss: float) -> float:
    """Return bound / loss, at least 0 and at most 1."""
    return min(1.0, max(0.0, bound / loss)) if loss > 0 else 1.0


def _reaches(first: int | None, number: int) -> bool:
    return first is not None and number >= first
