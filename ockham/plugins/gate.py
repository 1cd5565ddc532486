"""OckhamGatePlugin: skips the update of batches whose loss is not surprising.

`target_rate` holds an update rate while the loss falls. From ema and sd of the losses of all finite batches
before this one, a batch is updated if loss >= ema + q sd. Then q += eta (updated - target). This is a
Robbins-Monro search for the quantile of the detrended loss, driven by the gate's verdicts.

`calibrated` is for adaptation. The threshold is z standard deviations above the mean loss of familiar text,
as measured before the run. Text that is as likely as before is skipped, other text is learned. z controls
forgetting: the loss of familiar text can rise to about the threshold, where the gate also updates on familiar
text.

A skip saves backward pass and optimizer. It does not save the forward pass, which is needed for the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import ClassVar, Literal

from ockham.context import OccamContext
from ockham.errors import PluginSettingError
from ockham.event import Value
from ockham.plugin import OccamPlugin, counter_uniform

Mode = Literal["target_rate", "fixed", "random", "calibrated"]


class OckhamGatePlugin(OccamPlugin):
    """Skips the update if the loss is below the threshold. A loss equal to the threshold updates.

    Args:
        mode: `target_rate`, `fixed` (the documented rule), `random` (the control) or `calibrated`
            (adaptation). None is `fixed` if a threshold is set, else `target_rate`.
        target: Update rate to hold, 0 to 1.
        surprise_threshold: Threshold in nats per token, for `fixed`.
        ema: Weight of a new loss in mean and variance.
        eta: Step size of the search for the quantile.
        warmup: Batches that always update. None is 20, but at most a tenth of the run.
        max_consecutive_skips: Number of consecutive skips after which the next batch updates in any case.
        stall_batches: `fixed` warns after this number of batches without a skip, or without an update.
        familiar_mean: Mean batch loss of familiar text, nats per token, for `calibrated`.
        familiar_sd: Its standard deviation over batches, nats per token, for `calibrated`.
        z: `calibrated` updates from familiar_mean + z familiar_sd on. Higher values skip more and forget
            more.

    """

    name = "gate"
    reasons: ClassVar[Mapping[str, str]] = {
        "SURPRISING": "The loss is at or above the threshold.",
        "BELOW_THRESHOLD": "The loss is below the threshold: no update.",
        "WARMUP": "The first batches always update.",
        "FORCED_UPDATE": "Too many consecutive skips: this batch updates in any case.",
        "RANDOM_UPDATE": "The random draw was below the target rate (control, independent of the loss).",
        "RANDOM_SKIP": "The random draw was above the target rate (control, independent of the loss).",
        "NEVER_SKIPS": "The fixed threshold is below all recent losses: the gate has no effect.",
        "NEVER_UPDATES": "The fixed threshold is above all recent losses: training has stopped in effect.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "surprise_threshold": "[0, inf)",
        "target": "[0.001, 1]",
        "ema": "(0, 1]",
        "eta": "[0, inf)",
        "warmup": "[0, inf)",
        "max_consecutive_skips": "[1, inf)",
        "stall_batches": "[1, inf)",
        "familiar_mean": "[0, inf)",
        "familiar_sd": "(0, inf)",
        "z": "(-inf, inf)",
    }

    def __init__(
        self,
        surprise_threshold: float | None = None,
        *,
        mode: Mode | None = None,
        target: float = 0.6,
        ema: float = 0.05,
        eta: float = 0.1,
        warmup: int | None = None,
        max_consecutive_skips: int = 50,
        stall_batches: int = 200,
        familiar_mean: float | None = None,
        familiar_sd: float | None = None,
        z: float = 1.0,
    ) -> None:
        self.mode: Mode = mode or ("fixed" if surprise_threshold is not None else "target_rate")
        self.surprise_threshold = surprise_threshold
        self.target = target
        self.ema = ema
        self.eta = eta
        self.warmup = warmup
        self.max_consecutive_skips = max_consecutive_skips
        self.stall_batches = stall_batches
        self.familiar_mean = familiar_mean
        self.familiar_sd = familiar_sd
        self.z = z
        self.check_settings()
        if self.mode == "calibrated" and (familiar_mean is None or familiar_sd is None):
            raise PluginSettingError(
                "gate",
                "mode 'calibrated' requires familiar_mean and familiar_sd; `ockham adapt` measures them",
            )
        if surprise_threshold is not None and self.mode != "fixed":
            raise PluginSettingError(
                "gate", f"surprise_threshold requires mode 'fixed', got mode {self.mode!r}"
            )
        self.batches = 0
        self.skips_in_a_row = 0
        self.updates_in_a_row = 0
        self.mean = 0.0
        self.variance = 0.0
        self.q = -4.0 if target == 1 else NormalDist().inv_cdf(1 - target)

    def base_knobs(self) -> dict[str, Value]:
        """Return the threshold if it is constant. Every batch starts with it."""
        threshold = self._static_threshold()
        return {} if threshold is None else {"surprise_threshold": threshold}

    def _static_threshold(self) -> float | None:
        """Return the threshold of the modes in which it is constant."""
        if self.mode == "calibrated" and self.familiar_mean is not None and self.familiar_sd is not None:
            return self.familiar_mean + self.z * self.familiar_sd
        return self.surprise_threshold if self.mode == "fixed" else None

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Decide about every finite batch that is not skipped already."""
        if not (math.isfinite(ctx.task_loss) and ctx.updated):
            return ctx
        if self.mode in {"fixed", "calibrated"}:
            self._decide_by_fixed_threshold(ctx)
        elif self.mode == "random":
            self._decide_at_random(ctx)
        else:
            self._decide_by_target_rate(ctx)
        self.batches += 1
        self.skips_in_a_row = 0 if ctx.updated else self.skips_in_a_row + 1
        self.updates_in_a_row = self.updates_in_a_row + 1 if ctx.updated else 0
        return ctx

    def _decide_by_target_rate(self, ctx: OccamContext) -> None:
        sd = math.sqrt(self.variance)
        threshold = self.mean + self.q * sd
        in_warmup = self.batches < self._warmup_batches(ctx)
        numbers = {
            "mean": self.mean,
            "sd": sd,
            "q": self.q,
            "z": (ctx.task_loss - self.mean) / sd if sd > 0 else 0.0,
        }
        if self.batches:
            ctx.surprise_threshold = threshold
        surprising = ctx.task_loss >= threshold or self.target == 1
        self._decide(ctx, in_warmup=in_warmup, surprising=surprising, numbers=numbers)
        if not in_warmup:
            self.q += self.eta * (float(ctx.updated) - self.target)
        self._update_loss_stats(ctx.task_loss)

    def _decide(
        self, ctx: OccamContext, *, in_warmup: bool, surprising: bool, numbers: Mapping[str, float]
    ) -> None:
        if in_warmup:
            reason = "WARMUP"
        elif surprising:
            reason = "SURPRISING"
        elif self.skips_in_a_row >= self.max_consecutive_skips:
            reason = "FORCED_UPDATE"
        else:
            reason = "BELOW_THRESHOLD"
        ctx.updated = reason != "BELOW_THRESHOLD"
        ctx.decide(
            "UPDATE" if ctx.updated else "SKIP",
            reason,
            ctx.task_loss,
            ctx.surprise_threshold,
            numbers=numbers,
        )

    def _update_loss_stats(self, loss: float) -> None:
        """Update mean and variance of the losses. The first batches have the weight of a plain mean."""
        weight = max(self.ema, 1 / (self.batches + 1))
        delta = loss - self.mean
        self.mean += weight * delta
        self.variance = (1 - weight) * (self.variance + weight * delta * delta)

    def _decide_by_fixed_threshold(self, ctx: OccamContext) -> None:
        threshold = self._static_threshold()
        if threshold is not None:
            ctx.surprise_threshold = threshold
        self._decide(
            ctx,
            in_warmup=self.batches < (self.warmup or 0),
            surprising=ctx.task_loss >= ctx.surprise_threshold,
            numbers={},
        )
        streaks = {"NEVER_SKIPS": self.updates_in_a_row, "NEVER_UPDATES": self.skips_in_a_row}
        for reason, streak in streaks.items():
            if self.mode == "fixed" and streak and streak % self.stall_batches == 0:
                ctx.decide("WARN", reason, streak, self.stall_batches)

    def _decide_at_random(self, ctx: OccamContext) -> None:
        drawn = counter_uniform(ctx.seed, ctx.iter_num, ctx.micro_step, "gate")
        ctx.updated = drawn < self.target
        reason = "RANDOM_UPDATE" if ctx.updated else "RANDOM_SKIP"
        ctx.decide("UPDATE" if ctx.updated else "SKIP", reason, drawn, self.target)

    def _warmup_batches(self, ctx: OccamContext) -> int:
        if self.warmup is not None:
            return self.warmup
        return min(20, ctx.max_iters // 10) if ctx.max_iters else 20
