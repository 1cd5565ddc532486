"""Measured steps of the optimizer, and their comparison with the verdicts of the chain."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ockham.context import OccamContext

# Relative tolerance of a learning rate that went through other arithmetic, and of a norm in single precision.
RATE_TOLERANCE = 1e-6
NORM_TOLERANCE = 1e-2
# Known causes of a step that was not taken. The record names them; they do not make a run unsound.
NONFINITE_GRADIENT = "NONFINITE_GRADIENT"
LOSS_SCALE_OVERFLOW = "LOSS_SCALE_OVERFLOW"
BATCH_ABANDONED = "BATCH_ABANDONED"
# The gradients were dropped before the optimizer saw them: no batch of the step was accepted, or a plugin has
# refused the step.
GRADIENT_DROPPED = "GRADIENT_DROPPED"
REFUSAL_CAUSES = frozenset({NONFINITE_GRADIENT, LOSS_SCALE_OVERFLOW, BATCH_ABANDONED})


class AppliedStep(NamedTuple):
    """Measurement at the optimizer since the previous batch ended.

    Attributes:
        stepped: Whether the optimizer took a step with a gradient. None if nothing measured it.
        learning_rates: Learning rate of each parameter group at the moment of the step.
        clipped_grad_norm: L2 norm of the gradient at the moment of the step, after clipping. None if unknown.
        weights_changed: Whether a sample of the weights changed. None if nothing measured it.
        cause: Why no step was taken, as a stable code. Empty if none is known.
        has_skipped_gradient: Whether a gradient of a skipped batch was added to those of accepted ones.

    """

    stepped: bool | None = None
    learning_rates: tuple[float, ...] = ()
    clipped_grad_norm: float | None = None
    weights_changed: bool | None = None
    cause: str = ""
    has_skipped_gradient: bool = False

    def recorded(self) -> dict[str, Any]:
        """Return the known values under their names in `context.recorded`."""
        values: dict[str, Any] = {"updated": self.stepped}
        if self.learning_rates:
            values["learning_rates"] = list(self.learning_rates)
        if self.clipped_grad_norm is not None:
            values["clipped_grad_norm"] = self.clipped_grad_norm
        if self.weights_changed is not None:
            values["weights_changed"] = self.weights_changed
        if self.cause:
            values["cause"] = self.cause
        return values


class NotApplied(NamedTuple):
    """A verdict that was not carried out: the knob, its decided value, what was measured, and the reason."""

    field: str
    decided: bool | float
    applied: bool | float
    reason_code: str

    @property
    def is_refusal(self) -> bool:
        """True if the trainer or its loss scaler refused the step for a known cause."""
        return self.reason_code in REFUSAL_CAUSES

    def event(self, ctx: OccamContext) -> Mapping[str, Any]:
        """Return the data of the event `verdict.not_applied`."""
        return {"iter_num": ctx.iter_num, "micro_step": ctx.micro_step, **self._asdict()}

    def describe(self) -> str:
        """Return one sentence for people."""
        return f"{self.field} was decided as {self.decided!r}, and {self.applied!r} was measured"


def find_not_applied(
    accepted: OccamContext | None, step: AppliedStep, *, has_scheduled_rate: bool
) -> Iterator[NotApplied]:
    """Yield the verdicts on a step that the measurement contradicts.

    Args:
        accepted: Context of the last accepted micro-batch of the step, or of its last micro-batch after
            `on_gradients`. None if all were skipped.
        step: The measurement.
        has_scheduled_rate: Whether the loop passed its learning rate. Otherwise it is not compared.

    """
    if step.has_skipped_gradient:
        yield NotApplied("updated", False, True, "GRADIENT_OF_SKIPPED_BATCH")
    if accepted is None or not accepted.step:
        knob = "updated" if accepted is None else "step"
        if step.weights_changed:
            yield NotApplied(knob, False, True, "WEIGHTS_CHANGED_ON_SKIP")
        elif step.stepped:
            yield NotApplied(knob, False, True, "STEPPED_ON_SKIP")
        return
    if step.stepped is False:
        yield NotApplied("updated", True, False, step.cause or "STEP_NOT_TAKEN")
    if not step.stepped:
        return
    rates = step.learning_rates
    if (
        has_scheduled_rate
        and rates
        and not math.isclose(rates[0], accepted.learning_rate, rel_tol=RATE_TOLERANCE)
    ):
        yield NotApplied("learning_rate", accepted.learning_rate, rates[0], "OTHER_LEARNING_RATE")
    norm = step.clipped_grad_norm
    if norm is not None and norm > accepted.grad_clip * (1 + NORM_TOLERANCE):
        yield NotApplied("grad_clip", accepted.grad_clip, norm, "GRADIENT_NOT_CLIPPED")
