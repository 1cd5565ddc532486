"""LimiterPlugin: hard caps, the last plugin that sets knobs. Each clamp is a decision with both values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from ockham.context import OccamContext
from ockham.event import Value
from ockham.plugin import OccamPlugin

# A projection reaches the ceiling up to the rounding of single precision.
DRIFT_TOLERANCE = 1.001
OnBreach = Literal["project", "rollback", "consolidate", "halt"]


class LimiterPlugin(OccamPlugin):
    """Caps learning rate, lambda, gradient norm and drift.

    Args:
        complexity_ceiling: Maximum relative drift from the anchor. None sets no cap.
        grad_norm_ceiling: Maximum L2 norm of the gradient. None sets no cap.
        learning_rate_ceiling: Maximum learning rate. None sets no cap.
        lambda_ceiling: Maximum lambda. None sets no cap.
        on_breach: Reaction to a drift over its ceiling: `project` (the trainer moves the weights back to the
            ceiling after the step), `rollback`, `consolidate` (a request) or `halt`.

    """

    name = "limiter"
    reasons: ClassVar[Mapping[str, str]] = {
        "LEARNING_RATE_CAPPED": "The learning rate was over its ceiling.",
        "LAMBDA_CAPPED": "Lambda was over its ceiling.",
        "GRADIENT_CAPPED": "The trainer's limit of the gradient norm was lowered to the ceiling.",
        "DRIFT_CAPPED": "The trainer's limit of drift was lowered to the ceiling.",
        "GRADIENT_CLIPPED": "The gradient norm was over its ceiling and was clipped to it.",
        "DRIFT_PROJECTED": "Drift was over its ceiling, and the weights were moved back to it.",
        "DRIFT_NOT_PROJECTED": "Drift is over its ceiling after the step: this trainer does not project.",
        "DRIFT_OVER_CEILING": "Drift is over its ceiling.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "complexity_ceiling": "(0, inf]",
        "grad_norm_ceiling": "(0, inf]",
        "learning_rate_ceiling": "(0, inf]",
        "lambda_ceiling": "[0, inf]",
    }

    def __init__(
        self,
        complexity_ceiling: float | None = 0.2,
        grad_norm_ceiling: float | None = 1.0,
        learning_rate_ceiling: float | None = None,
        lambda_ceiling: float | None = None,
        on_breach: OnBreach = "project",
    ) -> None:
        self.complexity_ceiling = complexity_ceiling
        self.grad_norm_ceiling = grad_norm_ceiling
        self.learning_rate_ceiling = learning_rate_ceiling
        self.lambda_ceiling = lambda_ceiling
        self.on_breach = on_breach
        self.check_settings()

    # A ceiling also holds for a plugin that decides about gradients.
    passive_hooks: ClassVar[frozenset[str]] = frozenset({"on_gradients"})

    def base_knobs(self) -> dict[str, Value]:
        """Return the ceilings that apply to every batch. A Run starts each batch with them."""
        knobs: dict[str, Value] = {}
        if self.grad_norm_ceiling is not None:
            knobs["grad_clip"] = self.grad_norm_ceiling
        if self.complexity_ceiling is not None and self.on_breach == "project":
            knobs["drift_ceiling"] = self.complexity_ceiling
        return knobs

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Cap the knobs of a step that will be taken."""
        if not ctx.updated:
            return ctx
        project = self.complexity_ceiling if self.on_breach == "project" else None
        _cap(ctx, "learning_rate", self.learning_rate_ceiling, "LEARNING_RATE_CAPPED")
        _cap(ctx, "lambda_ockham", self.lambda_ceiling, "LAMBDA_CAPPED")
        _cap(ctx, "grad_clip", self.grad_norm_ceiling, "GRADIENT_CAPPED")
        _cap(ctx, "drift_ceiling", project, "DRIFT_CAPPED")
        return ctx

    def on_gradients(self, ctx: OccamContext) -> OccamContext:
        """Cap the knobs that another plugin has raised."""
        if ctx.step:
            _cap(ctx, "learning_rate", self.learning_rate_ceiling, "LEARNING_RATE_CAPPED")
            _cap(ctx, "grad_clip", self.grad_norm_ceiling, "GRADIENT_CAPPED")
        return ctx

    def on_batch_end(self, ctx: OccamContext) -> OccamContext:
        """Report the effect of clipping and projection of this step, and react to a breach."""
        is_over = self.grad_norm_ceiling is not None and self.grad_norm_ceiling < ctx.grad_norm < math.inf
        if is_over and ctx.is_measured("grad_norm") and ctx.step:
            ctx.decide(
                "CLAMP",
                "GRADIENT_CLIPPED",
                ctx.grad_norm,
                self.grad_norm_ceiling,
                numbers={"applied": min(ctx.grad_norm, ctx.grad_clip)},
            )
        has_drift = ctx.is_measured("complexity_cost") or ctx.is_measured("drift_raw")
        if self.complexity_ceiling is not None and has_drift:
            self._handle_drift_breach(ctx, self.complexity_ceiling)
        return ctx

    def _handle_drift_breach(self, ctx: OccamContext, ceiling: float) -> None:
        """React to a breach.

        A loop that does not measure drift before the projection uses the drift after it.
        """
        drift, applied = max(ctx.drift_raw, ctx.complexity_cost), ctx.complexity_cost
        if not drift > ceiling:
            return
        if self.on_breach == "project":
            if applied > ceiling * DRIFT_TOLERANCE:
                ctx.decide("WARN", "DRIFT_NOT_PROJECTED", applied, ceiling)
            elif ctx.drift_raw > ceiling:
                ctx.decide("PROJECT", "DRIFT_PROJECTED", ctx.drift_raw, ceiling, numbers={"applied": applied})
            return
        if self.on_breach == "rollback":
            ctx.rollback = True
        elif self.on_breach == "halt":
            ctx.halt = True
        else:
            ctx.consolidating = True
        ctx.decide(self.on_breach.upper(), "DRIFT_OVER_CEILING", drift, ceiling)


def _cap(ctx: OccamContext, knob: str, ceiling: float | None, reason: str) -> None:
    """Lower a knob to its ceiling. A knob at the ceiling does not change."""
    raw = getattr(ctx, knob)
    if ceiling is not None and raw > ceiling:
        setattr(ctx, knob, ceiling)
        ctx.decide("CLAMP", reason, raw, ceiling, fields=(knob,))
