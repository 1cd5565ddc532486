"""AnchorPlugin: requests a consolidation at intervals, and allows or refuses it after an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from ockham.context import OccamContext
from ockham.plugin import OccamPlugin


class AnchorPlugin(OccamPlugin):
    """Decides when the anchor moves to the present weights.

    In training from scratch, drift from the initial weights has no meaning. So the first anchor is set when
    the learning-rate warm-up ends.

    Args:
        per_run: Consolidations requested in a run of known length. 0 requests none.
        interval: Batches between requests. None uses max_iters / per_run.
        tolerance: Allowed increase of the validation loss since the last anchor, in nats.
        cooldown: Minimum number of batches between two consolidations.

    """

    name = "anchor"
    reasons: ClassVar[Mapping[str, str]] = {
        "WARMUP_ENDED": "Learning-rate warm-up has ended: drift is meaningful from here on.",
        "INTERVAL_REACHED": "The number of steps is a multiple of the interval.",
        "CONSOLIDATION_ALLOWED": "All values are finite, and the loss is not worse than at the last anchor.",
        "REFUSED_NONFINITE": "No consolidation: loss or drift is not finite.",
        "REFUSED_QUALITY": "No consolidation: the validation loss is worse than at the last anchor.",
        "REFUSED_COOLDOWN": "No consolidation: the last one is too recent.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "per_run": "[0, inf)",
        "interval": "[1, inf)",
        "tolerance": "[0, inf]",
        "cooldown": "[0, inf)",
    }

    def __init__(
        self, per_run: int = 10, interval: int | None = None, tolerance: float = 0.05, cooldown: int = 10
    ) -> None:
        self.per_run = per_run
        self.interval = interval
        self.tolerance = tolerance
        self.cooldown = cooldown
        self.check_settings()
        self.anchor_loss: float | None = None
        self.anchor_iter: int | None = None

    def on_batch_end(self, ctx: OccamContext) -> OccamContext:
        """Request a consolidation when it is due, at the end of a step."""
        if not ctx.ends_step:
            return ctx
        done = ctx.iter_num + 1
        interval = self.interval or 0
        if not interval and self.per_run and ctx.max_iters:
            interval = max(1, ctx.max_iters // self.per_run)
        if not interval or ctx.consolidating:
            return ctx
        if not ctx.anchor_available and done == max(1, ctx.warmup_iters):
            ctx.consolidating = True
            ctx.decide("REQUEST", "WARMUP_ENDED", done, ctx.warmup_iters)
        elif done % interval == 0:
            ctx.consolidating = True
            ctx.decide("REQUEST", "INTERVAL_REACHED", done, interval)
        return ctx

    def on_evaluate(self, ctx: OccamContext) -> OccamContext:
        """Allow or refuse a request. Each check refuses NaN."""
        if not ctx.consolidating:
            return ctx
        loss = ctx.val_loss if ctx.val_loss is not None else ctx.task_loss
        limit = math.inf if self.anchor_loss is None else self.anchor_loss + self.tolerance
        since = math.inf if self.anchor_iter is None else ctx.iter_num - self.anchor_iter
        if not (math.isfinite(loss) and math.isfinite(ctx.complexity_cost)):
            return self._refuse(ctx, "REFUSED_NONFINITE", loss, None)
        if not since >= self.cooldown:
            return self._refuse(ctx, "REFUSED_COOLDOWN", since, self.cooldown)
        if not loss <= limit:
            return self._refuse(ctx, "REFUSED_QUALITY", loss, limit)
        return ctx.decide("ALLOW", "CONSOLIDATION_ALLOWED", loss, limit)

    def on_consolidate(self, ctx: OccamContext) -> OccamContext:
        """Store loss and iteration of the new anchor."""
        self.anchor_loss = ctx.val_loss if ctx.val_loss is not None else ctx.task_loss
        self.anchor_iter = ctx.iter_num
        return ctx

    def _refuse(
        self, ctx: OccamContext, reason: str, observed: float, threshold: float | None
    ) -> OccamContext:
        ctx.consolidating = False
        return ctx.decide("REFUSE", reason, observed, threshold)
