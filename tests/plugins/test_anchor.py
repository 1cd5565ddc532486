"""anchor: asks by interval, allows on a fresh evaluation, and every check refuses NaN."""

from __future__ import annotations

import math

from ockham.plugins.anchor import AnchorPlugin
from tests.plugins.run_hook import end, evaluate


def asked(plugin, iter_num, **fields):
    return end(plugin, iter_num=iter_num, max_iters=100, warmup_iters=10, **fields)[1]


def test_the_first_when_warmup_ends_then_by_interval():
    """Each once."""
    plugin = AnchorPlugin(per_run=10)
    assert asked(plugin, 8) == []
    assert asked(plugin, 9) == ["WARMUP_ENDED"]
    assert asked(plugin, 10) == []
    assert asked(plugin, 19, anchor_available=True) == ["INTERVAL_REACHED"]
    assert asked(AnchorPlugin(per_run=0), 19) == []


def judged(plugin, loss, iter_num=50, drift=0.0):
    return evaluate(
        plugin, {"val_loss": loss, "complexity_cost": drift}, iter_num=iter_num, consolidating=True
    )


def test_allowed_unless_worse_non_finite_or_too_soon():
    """Every check is written so that NaN refuses."""
    plugin = AnchorPlugin(tolerance=0.05, cooldown=10)
    ctx, reasons = judged(plugin, 2.0)
    assert ctx.consolidating
    assert reasons == ["CONSOLIDATION_ALLOWED"]
    plugin.on_consolidate(ctx)
    assert judged(plugin, 2.04, 60)[1] == ["CONSOLIDATION_ALLOWED"]
    assert judged(plugin, 2.06, 60)[1] == ["REFUSED_QUALITY"]
    assert judged(plugin, 2.0, 55)[1] == ["REFUSED_COOLDOWN"]
    assert judged(plugin, math.nan, 60)[1] == ["REFUSED_NONFINITE"]
    assert judged(plugin, 2.0, 60, math.nan)[1] == ["REFUSED_NONFINITE"]
    assert not judged(plugin, math.nan, 60)[0].consolidating
