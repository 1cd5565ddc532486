"""Optimizer steps of the trainer: gradients prepared, measured, clipped and applied, or dropped."""

from __future__ import annotations

import torch

from ockham.context import OccamContext
from ockham.nano.anchor import AnchorWeights
from ockham.nano.config import Settings
from ockham.nano.dtensor import to_full
from ockham.nano.model import GPT
from ockham.nano.optimizer import (
    AnyOptimizer,
    add_noise,
    clip_gradients,
    measure_norm,
    set_learning_rate,
    step_if_finite,
)
from ockham.nano.stage_timer import StageTimer
from ockham.nano.step_meter import StepProbe
from ockham.nano.step_metrics import SKIPPED_STEP, PendingStep, PendingStepMetrics, StepResult


class OptimizerSteps:
    """Takes the optimizer step of the accepted micro-batches. `Trainer` sets the attributes."""

    settings: Settings
    model: GPT
    optimizer: AnyOptimizer
    anchor: AnchorWeights | None
    meter: StageTimer
    pull_mode: str
    required_measurements: dict[str, int]
    steps: int
    _step_probe: StepProbe | None
    # The last accepted micro-batch of the present step, and the number of accepted ones.
    _last_accepted: OccamContext | None
    _accepted: int
    # Norm of the gradients of the present step, once they are prepared.
    _norm: torch.Tensor | None

    @property
    def step_probe(self) -> StepProbe:
        """Measures the steps of the optimizer. Created with the first forward."""
        if self._step_probe is None:
            self._step_probe = StepProbe(self.optimizer)
        return self._step_probe

    def measure_gradients(self, ctx: OccamContext) -> float | None:
        """Return the norm of the gradient of a step before clipping. Waits for the device.

        Pass it to `Run.gradients`, which sets the knobs of the step in this context.

        Args:
            ctx: Context of the micro-batch whose backward pass is done.

        Returns:
            None if the micro-batch does not end the step, or no micro-batch of the step was accepted.

        """
        if self._last_accepted is None or not ctx.ends_step:
            return None
        self._norm = self._prepare_gradients(self._last_accepted)
        self._last_accepted = ctx
        return float(to_full(self._norm))

    def step(self) -> StepResult:
        """Take the optimizer step and wait for its gauges."""
        return self.step_async().result()

    def step_async(self) -> PendingStep:
        """Take the optimizer step of the accepted micro-batches, without waiting for it.

        Read the result of each step before the next one is taken.
        """
        ctx, self._last_accepted = self._last_accepted, None
        if ctx is None:
            return SKIPPED_STEP
        norm, self._norm = self._norm, None
        if norm is None:
            norm = self._prepare_gradients(ctx)
        with self.meter.stage("optimizer"):
            norm, clipped = self._optimizer_step(ctx, norm)
        distance = drift = None
        if self.anchor is not None:
            with self.meter.stage("anchor"):
                taken = torch.isfinite(norm) & ctx.step
                distance, drift = self.anchor.pull_for(ctx, self.pull_mode, taken)
        rates = self.step_probe.take_learning_rates()
        kl = self._kl() if ctx.step else None
        return PendingStepMetrics(
            norm, clipped, distance, kl, drift, rates, self._count_step, is_refused=not ctx.step
        )

    def _prepare_gradients(self, ctx: OccamContext) -> torch.Tensor:
        """Average the gradients of the accepted micro-batches, add penalty and noise. Return their norm."""
        parameters = list(self.model.parameters())
        accepted, self._accepted = self._accepted, 0
        with self.meter.stage("optimizer"):
            if accepted > 1:
                torch._foreach_div_([p.grad for p in parameters if p.grad is not None], accepted)
            if self.anchor is not None and self.pull_mode == "coupled" and ctx.lambda_ockham > 0:
                self.anchor.add_penalty(ctx.lambda_ockham)
            if ctx.grad_noise_std > 0:
                add_noise(parameters, ctx.grad_noise_std, self.settings.seed, ctx.iter_num)
            return measure_norm(parameters)

    def _optimizer_step(self, ctx: OccamContext, norm: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Clip the gradients and take the step. Return their norm before and after clipping."""
        before = self.step_probe.sampled_norm()
        clip_gradients(self.model.parameters(), ctx.grad_clip, norm)
        norm = to_full(norm)
        clipped = norm * (self.step_probe.sampled_norm() / before)
        if ctx.step:
            set_learning_rate(self.optimizer, ctx.learning_rate)
            step_if_finite(self.optimizer, norm)
        self.optimizer.zero_grad(set_to_none=True)
        return norm, clipped

    def _count_step(self, stepped: bool) -> None:
        self.steps += stepped

    def _kl(self) -> torch.Tensor | None:
        """Return the KL after the pending step, if it is due.

        The step is assumed to succeed. A refused step does not report its KL.
        """
        interval = self.required_measurements.get("kl_to_anchor", 0)
        if self.anchor is None or not interval or (self.steps + 1) % interval:
            return None
        with self.meter.stage("probe"):
            return self.anchor.kl(self.model)
