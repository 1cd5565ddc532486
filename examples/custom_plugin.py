"""Write a plugin, check it, and run it in a training loop."""

import math
import random
from collections import deque

import ockham


class QuietPlugin(ockham.OccamPlugin):
    """Lowers the learning rate of batches whose loss is near the recent mean.

    Args:
        factor: Multiplies the learning rate.
        width: Largest distance from the mean, in nats.
        window: Number of losses in the mean.

    """

    name = "quiet"
    reasons = {"QUIET": "The loss is near the recent mean."}
    limits = {"factor": "(0, 1]", "width": "(0, inf)", "window": "[1, inf)"}

    def __init__(self, factor: float = 0.5, width: float = 0.2, window: int = 20) -> None:
        self.factor = factor
        self.width = width
        self.window = window
        self.check_settings()
        self.losses = deque(maxlen=window)

    def on_batch_start(self, ctx: ockham.OccamContext) -> ockham.OccamContext:
        """Multiply the learning rate by `factor` if the loss is near the mean of the last losses."""
        if not (ctx.updated and math.isfinite(ctx.task_loss)):
            return ctx
        mean = sum(self.losses) / len(self.losses) if self.losses else math.inf
        self.losses.append(ctx.task_loss)
        if abs(ctx.task_loss - mean) < self.width:
            ctx.learning_rate *= self.factor
            ctx.decide("SCALE", "QUIET", ctx.task_loss, mean)
        return ctx


if __name__ == "__main__":
    ockham.check_plugin(QuietPlugin)

    captured = ockham.capture(QuietPlugin(window=1), losses=[2.0, 2.1, math.nan, 2.2], learning_rate=1.0)
    assert captured.reasons == ["QUIET", "QUIET"]
    assert [ctx.learning_rate for ctx in captured.contexts] == [1.0, 0.5, 1.0, 0.5]

    draw = random.Random(1)
    plugins = [ockham.OckhamGatePlugin(surprise_threshold=4.0), QuietPlugin()]
    with ockham.Run(plugins=plugins, run_id="custom-plugin", facts={"max_iters": 100}) as run:
        for iter_num in range(100):
            ctx = run.start_batch(iter_num, 5.0 - 0.02 * iter_num + draw.gauss(0, 0.2), learning_rate=1e-3)
            run.end_batch(ctx, stepped=ctx.updated)
