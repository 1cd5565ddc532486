"""FinitePlugin: always first. A non-finite loss never reaches an update, a rate or a history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from ockham.context import OccamContext
from ockham.plugin import OccamPlugin


class FinitePlugin(OccamPlugin):
    """Skips batches with a non-finite loss, and reports non-finite gradients and gauges.

    Args:
        max_in_a_row: Number of consecutive non-finite batches, by loss or gradient, after which `then` is
            applied.
        then: `rollback` to the anchor, `halt`, or `continue`.

    """

    name = "finite"
    # Otherwise a rollback of another plugin would restore the number in a row, and none would halt.
    survives_rollback: ClassVar[bool] = True
    reasons: ClassVar[Mapping[str, str]] = {
        "NONFINITE_LOSS": "The loss of this batch is NaN or infinite: no update.",
        "NONFINITE_GRADIENT": "The gradient was not finite: the optimizer refused the step.",
        "NONFINITE_DRIFT": "The drift from the anchor is not finite.",
        "NONFINITE_KL": "The KL divergence from the anchor is not finite.",
        "NONFINITE_IN_A_ROW": "Too many non-finite batches in a row.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "max_in_a_row": "[1, inf)",
    }

    def __init__(
        self, max_in_a_row: int = 10, then: Literal["rollback", "halt", "continue"] = "halt"
    ) -> None:
        self.max_in_a_row = max_in_a_row
        self.then = then
        self.check_settings()
        self.in_a_row = 0
        # The last non-finite value was a gradient, and no step since then had a finite one.
        self.awaits_gradient = False

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Skip the batch if its loss is not finite."""
        if not math.isfinite(ctx.task_loss):
            ctx.updated = False
            ctx.decide("SKIP", "NONFINITE_LOSS", ctx.task_loss, fields=("updated",))
        return ctx

    def on_batch_end(self, ctx: OccamContext) -> OccamContext:
        """Report non-finite gradients, drift and KL, and roll back or halt after too many in a row."""
        nonfinite_gradient = ctx.is_measured("grad_norm") and not math.isfinite(ctx.grad_norm)
        if nonfinite_gradient:
            ctx.decide("REFUSED", "NONFINITE_GRADIENT", ctx.grad_norm)
        if ctx.is_measured("complexity_cost") and not math.isfinite(ctx.complexity_cost):
            ctx.decide("REPORT", "NONFINITE_DRIFT", ctx.complexity_cost)
        if ctx.kl_to_anchor is not None and not math.isfinite(ctx.kl_to_anchor):
            ctx.decide("REPORT", "NONFINITE_KL", ctx.kl_to_anchor)
        nonfinite = nonfinite_gradient or not math.isfinite(ctx.task_loss)
        if nonfinite:
            self.in_a_row += 1
            self.awaits_gradient = nonfinite_gradient
        elif not self.awaits_gradient or ctx.is_measured("grad_norm"):
            self.in_a_row, self.awaits_gradient = 0, False
        if self.in_a_row >= self.max_in_a_row and self.then != "continue":
            ctx.rollback = self.then == "rollback"
            ctx.halt = self.then == "halt"
            ctx.decide(
                self.then.upper(),
                "NONFINITE_IN_A_ROW",
                self.in_a_row,
                self.max_in_a_row,
                fields=("rollback", "halt"),
            )
            self.in_a_row = 0
        return ctx
