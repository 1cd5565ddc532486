"""SaturationPlugin: seeded noise on the learning rate or the gradient. Every draw is logged."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import ClassVar, Literal

from ockham.context import OccamContext
from ockham.plugin import OccamPlugin, counter_uniform


class SaturationPlugin(OccamPlugin):
    """Perturbs the step slightly, with a draw that depends on (seed, iteration, micro-step).

    Args:
        drive: Standard deviation of the factor on the learning rate, or of the gradient noise relative to its
            RMS.
        noise_type: `learning_rate`, `gradient` or `both`.
        warmup: Number of batches over which the noise grows to `drive`.
        seed: Added to the run's seed.

    """

    name = "saturation"
    reasons: ClassVar[Mapping[str, str]] = {
        "NOISE_ON_LEARNING_RATE": "The learning rate was multiplied by 1 + a logged draw.",
        "NOISE_ON_GRADIENT": "Gaussian noise of this relative size was added to the gradient.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "drive": "[0, inf)",
        "warmup": "[0, inf)",
    }

    def __init__(
        self,
        drive: float = 0.01,
        noise_type: Literal["learning_rate", "gradient", "both"] = "learning_rate",
        warmup: int = 100,
        seed: int = 0,
    ) -> None:
        self.drive = drive
        self.noise_type = noise_type
        self.warmup = warmup
        self.seed = seed
        self.check_settings()

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Draw the noise and apply it to the knobs."""
        drive = self.drive * min(1.0, ctx.iter_num / self.warmup if self.warmup > 0 else 1.0)
        if not ctx.updated or drive <= 0:
            return ctx
        if self.noise_type in ("learning_rate", "both"):
            uniform = counter_uniform(self.seed + ctx.seed, ctx.iter_num, ctx.micro_step, "saturation")
            draw = NormalDist().inv_cdf(uniform)
            ctx.learning_rate *= max(0.0, 1 + drive * draw)
            ctx.decide("PERTURB", "NOISE_ON_LEARNING_RATE", draw, drive, fields=("learning_rate",))
        if self.noise_type in ("gradient", "both"):
            ctx.grad_noise_std = drive
            ctx.decide("PERTURB", "NOISE_ON_GRADIENT", drive, fields=("grad_noise_std",))
        return ctx
