"""limiter: caps that bind, and what a breach is answered with."""

from __future__ import annotations

import math

import pytest

from ockham.plugins.limiter import LimiterPlugin
from tests.plugins.run_hook import end, start


def test_it_really_caps():
    """Learning rate, lambda, gradient norm, drift: raw and applied value."""
    plugin = LimiterPlugin(0.2, 1.0, learning_rate_ceiling=1e-3, lambda_ceiling=0.1)
    ctx, reasons = start(plugin, learning_rate=0.5, lambda_ockham=9.0)
    assert (ctx.learning_rate, ctx.lambda_ockham, ctx.grad_clip, ctx.drift_ceiling) == (
        1e-3,
        0.1,
        1.0,
        0.2,
    )
    assert reasons == ["LEARNING_RATE_CAPPED", "LAMBDA_CAPPED", "GRADIENT_CAPPED", "DRIFT_CAPPED"]
    assert (ctx.notes[0].observed, ctx.notes[0].threshold) == (0.5, 1e-3)


def test_ceilings_are_base_knobs():
    """So that a Run does not log them on every batch."""
    knobs = LimiterPlugin(0.2, 1.0).base_knobs()
    assert knobs == {"grad_clip": 1.0, "drift_ceiling": 0.2}
    assert start(LimiterPlugin(0.2, 1.0), **knobs)[1] == []


def test_clipping_and_projection_are_told_after_the_step():
    """Observed and applied, no changed knob."""
    gauges = {"grad_norm": 3.0, "drift_raw": 0.5, "complexity_cost": 0.2}
    ctx, reasons = end(LimiterPlugin(0.2, 1.0), gauges, grad_clip=1.0)
    assert reasons == ["GRADIENT_CLIPPED", "DRIFT_PROJECTED"]
    assert ctx.notes[1].numbers == {"applied": 0.2}


@pytest.mark.parametrize(
    ("answer", "knob"), [("rollback", "rollback"), ("halt", "halt"), ("consolidate", "consolidating")]
)
def test_a_breach_is_answered(answer, knob):
    """By policy."""
    ctx, reasons = end(LimiterPlugin(0.2, on_breach=answer), {"drift_raw": 0.5})
    assert getattr(ctx, knob)
    assert reasons == ["DRIFT_OVER_CEILING"]


def test_nan_is_no_breach_and_no_pass():
    """finite reports it; the limiter compares nothing with NaN."""
    assert end(LimiterPlugin(0.2), {"drift_raw": math.nan, "grad_norm": math.nan})[1] == []


def test_a_trainer_that_does_not_project_is_told_of():
    """Drift over its ceiling after the step is no projection, and is not called one."""
    ctx, reasons = end(LimiterPlugin(0.2, None), {"drift_raw": 0.5, "complexity_cost": 0.5})
    assert reasons == ["DRIFT_NOT_PROJECTED"]
    assert (ctx.notes[0].observed, ctx.notes[0].threshold) == (0.5, 0.2)


def test_a_projection_lands_on_the_ceiling_give_or_take_a_rounding():
    """A single-precision weight rounds; that is no breach."""
    gauges = {"drift_raw": 0.5, "complexity_cost": 0.2000001}
    assert end(LimiterPlugin(0.2, None), gauges)[1] == ["DRIFT_PROJECTED"]


def test_a_loop_that_measures_only_drift_is_judged_by_it():
    """Without a drift before projection, the drift after it breaches as well."""
    ctx, reasons = end(LimiterPlugin(0.2, None, on_breach="rollback"), {"complexity_cost": 0.3})
    assert ctx.rollback
    assert reasons == ["DRIFT_OVER_CEILING"]


def test_it_lowers_and_never_raises():
    """A knob under its ceiling is the scheduler's."""
    ctx, reasons = start(LimiterPlugin(0.2, 1.0, 1e-2, 0.5), learning_rate=1e-3, lambda_ockham=0.1, grad_clip=0.5,
                         drift_ceiling=0.1)  # fmt: skip
    assert (ctx.learning_rate, ctx.lambda_ockham, ctx.grad_clip, ctx.drift_ceiling) == (1e-3, 0.1, 0.5, 0.1)
    assert reasons == []


def test_a_skipped_batch_breaches_nothing():
    """No step was taken."""
    gauges = {"drift_raw": 0.5, "complexity_cost": 0.5, "grad_norm": 9.0}
    assert end(LimiterPlugin(0.2, on_breach="halt"), gauges, updated=False)[1] == []
