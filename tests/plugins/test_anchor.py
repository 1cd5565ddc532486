"""anchor: requests by interval, decides after an evaluation, and refuses NaN in each check."""

from __future__ import annotations

import math

from ockham.plugins.anchor import AnchorPlugin
from tests.helpers.plugin_hooks import end_batch, evaluate


def end_and_get_reasons(plugin, iter_num, **fields):
    """Return the reason codes of the end of a batch."""
    return end_batch(plugin, iter_num=iter_num, max_iters=100, warmup_iters=10, **fields)[1]


def test_anchor_is_requested_after_warmup_and_then_by_interval():
    """Each request is made once."""
    plugin = AnchorPlugin(per_run=10)
    assert end_and_get_reasons(plugin, 8) == []
    assert end_and_get_reasons(plugin, 9) == ["WARMUP_ENDED"]
    assert end_and_get_reasons(plugin, 10) == []
    assert end_and_get_reasons(plugin, 19, anchor_available=True) == ["INTERVAL_REACHED"]
    assert end_and_get_reasons(AnchorPlugin(per_run=0), 19) == []


def evaluate_request(plugin, loss, iter_num=50, drift=0.0):
    """Evaluate while a consolidation is requested."""
    return evaluate(
        plugin, {"val_loss": loss, "complexity_cost": drift}, iter_num=iter_num, consolidating=True
    )


def test_consolidation_is_refused_if_worse_nonfinite_or_too_early():
    """NaN is refused in each check."""
    plugin = AnchorPlugin(tolerance=0.05, cooldown=10)
    ctx, reasons = evaluate_request(plugin, 2.0)
    assert ctx.consolidating
    assert reasons == ["CONSOLIDATION_ALLOWED"]
    plugin.on_consolidate(ctx)
    assert evaluate_request(plugin, 2.04, 60)[1] == ["CONSOLIDATION_ALLOWED"]
    assert evaluate_request(plugin, 2.06, 60)[1] == ["REFUSED_QUALITY"]
    assert evaluate_request(plugin, 2.0, 55)[1] == ["REFUSED_COOLDOWN"]
    assert evaluate_request(plugin, math.nan, 60)[1] == ["REFUSED_NONFINITE"]
    assert evaluate_request(plugin, 2.0, 60, math.nan)[1] == ["REFUSED_NONFINITE"]
    assert not evaluate_request(plugin, math.nan, 60)[0].consolidating
