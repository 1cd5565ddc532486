"""EQPlugin: weights batches, or the examples in them, by the band of their detrended loss."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Literal

from ockham.context import OccamContext
from ockham.errors import PluginSettingError
from ockham.plugin import OccamPlugin


class EQPlugin(OccamPlugin):
    """Three bands, easy, medium and hard: the thirds of the recent losses after the trend is removed.

    Args:
        easy: Gain of the lowest third.
        medium: Gain of the middle third.
        hard: Gain of the highest third.
        target: `examples` weights the examples of a batch, normalised to mean 1 (requires `example_losses`).
            `learning_rate` scales the step of the whole batch.
        window: Number of losses from which the thirds are computed.
        min_history: Number of losses before the plugin acts.
        ema: Weight of a new batch in the trend.

    """

    name = "eq"
    reasons: ClassVar[Mapping[str, str]] = {
        "EXAMPLES_WEIGHED": "Each example is weighted with the gain of its loss band, normalised to mean 1.",
        "EASY_BAND": "The loss is in the lowest third of the recent detrended losses.",
        "MEDIUM_BAND": "The loss is in the middle third.",
        "HARD_BAND": "The loss is in the highest third.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "easy": "[0, inf)",
        "medium": "[0, inf)",
        "hard": "[0, inf)",
        "window": "[3, inf)",
        "min_history": "[3, inf)",
        "ema": "[0, 1]",
    }

    def __init__(
        self,
        easy: float = 0.5,
        medium: float = 1.0,
        hard: float = 1.5,
        target: Literal["examples", "learning_rate"] = "examples",
        window: int = 256,
        min_history: int = 30,
        ema: float = 0.05,
    ) -> None:
        self.easy = easy
        self.medium = medium
        self.hard = hard
        self.target = target
        self.window = window
        self.min_history = min_history
        self.ema = ema
        self.check_settings()
        if min_history > window:
            raise PluginSettingError(
                "eq", f"min_history {min_history}: larger than window {window}; accepted: up to the window"
            )
        self.history: deque[float] = deque(maxlen=window)
        self.trend: float | None = None

    def required_measurements(self) -> dict[str, int]:
        """Return the losses of single examples if they are weighted. They cost an additional reduction."""
        return {"example_losses": 1} if self.target == "examples" else {}

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Weight the batch, then add its losses to the history. A batch never affects its bands."""
        if not math.isfinite(ctx.task_loss):
            return ctx
        trend = ctx.task_loss if self.trend is None else self.trend
        losses = ctx.example_losses if self.target == "examples" else (ctx.task_loss,)
        residuals = [loss - trend for loss in losses if math.isfinite(loss)]
        is_complete = residuals and len(residuals) == len(losses)
        if ctx.updated and is_complete and len(self.history) >= self.min_history:
            self._apply_band_gains(ctx, residuals)
        self.history.extend(residuals)
        self.trend = trend + self.ema * (ctx.task_loss - trend)
        return ctx

    def _apply_band_gains(self, ctx: OccamContext, residuals: list[float]) -> None:
        ordered = sorted(self.history)
        low, high = ordered[len(ordered) // 3], ordered[2 * len(ordered) // 3]
        bands = [bisect_right((low, high), residual) for residual in residuals]
        gains = [(self.easy, self.medium, self.hard)[band] for band in bands]
        if self.target == "examples":
            mean = math.fsum(gains) / len(gains)
            if mean > 0:
                ctx.example_gain = tuple(gain / mean for gain in gains)
                ctx.decide(
                    "WEIGH",
                    "EXAMPLES_WEIGHED",
                    mean,
                    numbers={"easy": bands.count(0), "medium": bands.count(1), "hard": bands.count(2)},
                )
        else:
            ctx.learning_rate *= gains[0]
            ctx.decide(
                "SCALE",
                ("EASY_BAND", "MEDIUM_BAND", "HARD_BAND")[bands[0]],
                residuals[0],
                numbers={"low": low, "high": high},
            )
