"""CompressorPlugin: raises lambda and lowers the learning rate when drift is high, like an audio compressor.

s is the mean relative drift over the last updates, and over = max(0, ln(s/threshold)). The target is
ln(lambda scale) = over (1 - 1/ratio), and its inverse for the learning rate. Both are smoothed with the time
constants attack and release, in updates. The scales multiply the scheduled values of this batch, so nothing
compounds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Literal

from ockham.context import OccamContext
from ockham.plugin import OccamPlugin

# A scale within this tolerance is set to its target. Otherwise release would change the knobs forever.
SNAP_TOLERANCE = 1e-3


class CompressorPlugin(OccamPlugin):
    """Adjusts learning rate and lambda to drift.

    Args:
        threshold: Relative drift above which the plugin acts.
        ratio: Strength of the effect. 1 has no effect.
        attack: Time constant in updates while drift is over the threshold.
        release: Time constant in updates while drift is under it.
        makeup: Factor on the learning rate while drift is under the threshold.
        min_lambda: Minimum of the lambda that is set.
        max_lambda: Maximum of the lambda that is set.
        window: Number of updates over which drift is averaged.
        law: `log`, or `stepped`: the documented rule with two targets, independent of the distance to the
            threshold.

    """

    name = "compressor"
    reasons: ClassVar[Mapping[str, str]] = {
        "COMPRESSING": "Drift is over the threshold: lambda up, learning rate down.",
        "RELEASING": "Drift is under the threshold again: the scales return to 1.",
        "MAKEUP": "Drift is under the threshold: the make-up gain is applied to the learning rate.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "threshold": "(0, inf)",
        "ratio": "[1, inf)",
        "attack": "[0, inf)",
        "release": "[0, inf)",
        "makeup": "(0, inf)",
        "min_lambda": "[0, inf)",
        "max_lambda": "[0, inf)",
        "window": "[1, inf)",
    }

    def __init__(
        self,
        threshold: float = 0.1,
        ratio: float = 2.0,
        attack: float = 5.0,
        release: float = 20.0,
        makeup: float = 1.0,
        min_lambda: float = 0.0,
        max_lambda: float = 0.5,
        window: int = 10,
        law: Literal["log", "stepped"] = "log",
    ) -> None:
        self.threshold = threshold
        self.ratio = ratio
        self.attack = attack
        self.release = release
        self.makeup = makeup
        self.min_lambda = min_lambda
        self.max_lambda = max_lambda
        self.window = window
        self.law = law
        self.check_settings()
        self.drifts: deque[float] = deque(maxlen=window)
        self.ln_lambda = 0.0
        self.ln_rate = 0.0
        self.updates_seen = 0
        self.followed = -1

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Apply the present scales to both knobs. The scales do not change while batches are skipped."""
        if not ctx.updated or not (self.drifts or self.ln_lambda or self.ln_rate):
            return ctx
        # fsum rounds once. sum() gives other last bits from Python 3.12 on, and a replay there would differ.
        drift = math.fsum(self.drifts) / len(self.drifts) if self.drifts else 0.0
        # Micro-batches of one step use the same scales.
        if ctx.iter_num != self.followed:
            self._update_scales(drift)
            self.followed = ctx.iter_num
        if self.ln_lambda == 0 and self.ln_rate == 0:
            return ctx
        ctx.lambda_ockham = min(
            max(ctx.lambda_ockham * math.exp(self.ln_lambda), self.min_lambda),
            max(self.max_lambda, ctx.lambda_ockham),
        )
        ctx.learning_rate *= math.exp(self.ln_rate)
        if drift > self.threshold:
            action, reason = "ATTACK", "COMPRESSING"
        elif self.ln_lambda:
            action, reason = "RELEASE", "RELEASING"
        else:
            action, reason = "MAKEUP", "MAKEUP"
        return ctx.decide(
            action,
            reason,
            drift,
            self.threshold,
            numbers={"ln_lambda_scale": self.ln_lambda, "ln_rate_scale": self.ln_rate},
        )

    def on_batch_end(self, ctx: OccamContext) -> OccamContext:
        """Store a drift that was measured after an update. A drift that is not finite is ignored."""
        is_new = ctx.updates > self.updates_seen and ctx.is_measured("complexity_cost")
        if is_new and ctx.anchor_available and math.isfinite(ctx.complexity_cost):
            self.drifts.append(ctx.complexity_cost)
        self.updates_seen = ctx.updates
        return ctx

    def on_consolidate(self, ctx: OccamContext) -> OccamContext:
        """Clear the stored drifts, because the anchor has moved.

        The scales return to 1 with the release constant.
        """
        self.drifts.clear()
        return ctx

    def _update_scales(self, drift: float) -> None:
        """Move both scales one update towards their targets for this drift."""
        over = math.log(drift / self.threshold) if drift > self.threshold else 0.0
        if self.law == "stepped":
            over = math.log(self.ratio) / (1 - 1 / self.ratio) if over > 0 and self.ratio > 1 else 0.0
        target = over * (1 - 1 / self.ratio)
        self.ln_lambda = self._smooth(self.ln_lambda, target)
        self.ln_rate = self._smooth(self.ln_rate, -target if target > 0 else math.log(self.makeup))

    def _smooth(self, value: float, target: float) -> float:
        constant = self.attack if abs(target) > abs(value) else self.release
        value += (target - value) * (1 - math.exp(-1 / constant) if constant > 0 else 1.0)
        return target if abs(value - target) < SNAP_TOLERANCE else value
