"""limiter: caps, and the reactions to a breach."""

from __future__ import annotations

import math

import pytest

from ockham.context import OccamContext
from ockham.plugins.limiter import LimiterPlugin
from tests.helpers.plugin_hooks import end_batch, start_batch


def test_limiter_caps_all_knobs_and_logs_both_values():
    """Learning rate, lambda, gradient norm and drift are capped."""
    plugin = LimiterPlugin(0.2, 1.0, learning_rate_ceiling=1e-3, lambda_ceiling=0.1)
    ctx, reasons = start_batch(plugin, learning_rate=0.5, lambda_ockham=9.0)
    assert ctx.learning_rate == 1e-3
    assert ctx.lambda_ockham == 0.1
    assert ctx.grad_clip == 1.0
    assert ctx.drift_ceiling == 0.2
    assert reasons == ["LEARNING_RATE_CAPPED", "LAMBDA_CAPPED", "GRADIENT_CAPPED", "DRIFT_CAPPED"]
    assert ctx.notes[0].observed == 0.5
    assert ctx.notes[0].threshold == 1e-3


def test_limiter_ceilings_are_base_knobs():
    """So a Run does not log them on every batch."""
    knobs = LimiterPlugin(0.2, 1.0).base_knobs()
    assert knobs == {"grad_clip": 1.0, "drift_ceiling": 0.2}
    assert start_batch(LimiterPlugin(0.2, 1.0), **knobs)[1] == []


def test_limiter_reports_clipping_and_projection_after_the_step():
    """The decisions contain observed and applied values. No knob changes."""
    gauges = {"grad_norm": 3.0, "drift_raw": 0.5, "complexity_cost": 0.2}
    ctx, reasons = end_batch(LimiterPlugin(0.2, 1.0), gauges, grad_clip=1.0)
    assert reasons == ["GRADIENT_CLIPPED", "DRIFT_PROJECTED"]
    assert ctx.notes[1].numbers == {"applied": 0.2}


@pytest.mark.parametrize(
    ("on_breach", "knob"), [("rollback", "rollback"), ("halt", "halt"), ("consolidate", "consolidating")]
)
def test_drift_breach_triggers_the_configured_reaction(on_breach, knob):
    """The reaction sets its knob."""
    ctx, reasons = end_batch(LimiterPlugin(0.2, on_breach=on_breach), {"drift_raw": 0.5})
    assert getattr(ctx, knob)
    assert reasons == ["DRIFT_OVER_CEILING"]


def test_limiter_ignores_nan_gauges():
    """The plugin `finite` reports them."""
    assert end_batch(LimiterPlugin(0.2), {"drift_raw": math.nan, "grad_norm": math.nan})[1] == []


def test_limiter_warns_if_the_trainer_does_not_project():
    """Drift over its ceiling after the step is not reported as a projection."""
    ctx, reasons = end_batch(LimiterPlugin(0.2, None), {"drift_raw": 0.5, "complexity_cost": 0.5})
    assert reasons == ["DRIFT_NOT_PROJECTED"]
    assert ctx.notes[0].observed == 0.5
    assert ctx.notes[0].threshold == 0.2


def test_projection_may_exceed_the_ceiling_by_rounding():
    """Weights in single precision are rounded."""
    gauges = {"drift_raw": 0.5, "complexity_cost": 0.2000001}
    assert end_batch(LimiterPlugin(0.2, None), gauges)[1] == ["DRIFT_PROJECTED"]


def test_limiter_uses_final_drift_if_raw_drift_is_missing():
    """A loop may measure drift only after the projection."""
    ctx, reasons = end_batch(LimiterPlugin(0.2, None, on_breach="rollback"), {"complexity_cost": 0.3})
    assert ctx.rollback
    assert reasons == ["DRIFT_OVER_CEILING"]


def test_limiter_never_raises_a_knob():
    """A knob below its ceiling keeps its scheduled value."""
    ctx, reasons = start_batch(
        LimiterPlugin(0.2, 1.0, 1e-2, 0.5),
        learning_rate=1e-3,
        lambda_ockham=0.1,
        grad_clip=0.5,
        drift_ceiling=0.1,
    )
    assert ctx.learning_rate == 1e-3
    assert ctx.lambda_ockham == 0.1
    assert ctx.grad_clip == 0.5
    assert ctx.drift_ceiling == 0.1
    assert reasons == []


def test_limiter_ignores_gauges_that_were_carried_over():
    """A skipped batch, and a micro-batch before the last one, measure no step."""
    ctx = OccamContext(5, 2.0)
    ctx.set_gauges(drift_raw=0.5, complexity_cost=0.5, grad_norm=9.0)
    ctx = ctx.next_context(6, 2.0)
    LimiterPlugin(0.2, on_breach="halt").on_batch_end(ctx)
    assert ctx.notes == []


def test_limiter_reports_a_clipped_step_whose_last_micro_batch_was_skipped():
    """The step of the accepted micro-batches was measured at the last one."""
    reasons = end_batch(LimiterPlugin(None, 1.0), {"grad_norm": 9.0}, updated=False)[1]
    assert reasons == ["GRADIENT_CLIPPED"]
