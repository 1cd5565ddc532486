"""KLWatchdogPlugin: watches KL(anchor || current) on a fixed probe. It warns, then rolls back, then halts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from ockham.context import OccamContext
from ockham.errors import PluginSettingError
from ockham.plugin import OccamPlugin


class KLWatchdogPlugin(OccamPlugin):
    """Watches the divergence of the predictions from the anchor's, in nats per token.

    Args:
        warn: KL from which the plugin warns and refuses a consolidation.
        rollback: KL from which it requires a rollback. None never does.
        halt: KL from which it ends the run. None never does.
        clear: An alarm ends below `clear` times `warn` (hysteresis).
        every: Interval between measurements, in updates.

    """

    name = "watchdog"
    reasons: ClassVar[Mapping[str, str]] = {
        "KL_OVER_WARN": "The KL divergence from the anchor is over the warning level.",
        "KL_OVER_ROLLBACK": "The KL divergence from the anchor is so high that the weights are rolled back.",
        "KL_OVER_HALT": "The KL divergence from the anchor is so high that the run ends.",
        "KL_CLEAR": "The KL divergence is below the warning level again.",
        "REFUSED_WATCHDOG": "No consolidation during an alarm of the watchdog.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "warn": "(0, inf]",
        "rollback": "(0, inf]",
        "halt": "(0, inf]",
        "clear": "(0, 1]",
        "every": "[1, inf)",
    }

    def __init__(
        self,
        warn: float = 0.5,
        rollback: float | None = None,
        halt: float | None = None,
        clear: float = 0.8,
        every: int = 10,
    ) -> None:
        self.warn = warn
        self.rollback = rollback
        self.halt = halt
        self.clear = clear
        self.every = every
        self.check_settings()
        levels = [level for level in (warn, rollback, halt) if level is not None]
        if levels != sorted(levels):
            text = ", ".join(map(str, levels))
            raise PluginSettingError("watchdog", f"warn <= rollback <= halt is required, got {text}")
        self.alarmed = False

    def required_measurements(self) -> dict[str, int]:
        """Return the interval of the KL.

        It costs a forward pass, so it is measured only every `every` updates.
        """
        return {"kl_to_anchor": self.every}

    def on_batch_end(self, ctx: OccamContext) -> OccamContext:
        """Check a new measurement."""
        kl = ctx.kl_to_anchor
        if kl is None:
            return ctx
        if self.halt is not None and not kl < self.halt:
            ctx.halt = self.alarmed = True
            return ctx.decide("HALT", "KL_OVER_HALT", kl, self.halt)
        if self.rollback is not None and not kl < self.rollback:
            ctx.rollback = self.alarmed = True
            return ctx.decide("ROLLBACK", "KL_OVER_ROLLBACK", kl, self.rollback)
        if not kl < self.warn and (not self.alarmed or not math.isfinite(kl)):
            self.alarmed = True
            return ctx.decide("WARN", "KL_OVER_WARN", kl, self.warn)
        if self.alarmed and kl < self.clear * self.warn:
            self.alarmed = False
            return ctx.decide("CLEAR", "KL_CLEAR", kl, self.clear * self.warn)
        return ctx

    def on_evaluate(self, ctx: OccamContext) -> OccamContext:
        """Refuse a consolidation during an alarm."""
        if ctx.consolidating and self.alarmed:
            ctx.consolidating = False
            ctx.decide("REFUSE", "REFUSED_WATCHDOG", threshold=self.warn)
        return ctx

    def on_consolidate(self, ctx: OccamContext) -> OccamContext:
        """End the alarm, because nothing has moved from the new anchor yet."""
        self.alarmed = False
        return ctx
