"""finite: non-finite values reach no update, are reported, and end or roll back a run if they persist."""

from __future__ import annotations

import math

import pytest

from ockham.plugins.finite import FinitePlugin
from tests.helpers.plugin_hooks import end_batch, start_batch


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_batch_with_nonfinite_loss_is_skipped(loss):
    """A finite loss leads to no decision."""
    assert start_batch(FinitePlugin(), task_loss=loss)[0].updated is False
    assert start_batch(FinitePlugin(), task_loss=loss)[1] == ["NONFINITE_LOSS"]
    assert start_batch(FinitePlugin())[1] == []


def test_nonfinite_gradient_drift_and_kl_are_reported():
    """Each has a separate reason code."""
    gauges = {"grad_norm": math.nan, "complexity_cost": math.inf, "kl_to_anchor": math.nan}
    assert end_batch(FinitePlugin(), gauges)[1] == ["NONFINITE_GRADIENT", "NONFINITE_DRIFT", "NONFINITE_KL"]


@pytest.mark.parametrize(("then", "knob"), [("halt", "halt"), ("rollback", "rollback")])
def test_too_many_consecutive_nonfinite_batches_roll_back_or_halt(then, knob):
    """A finite batch resets the count."""
    plugin = FinitePlugin(max_in_a_row=3, then=then)
    for loss in (math.nan, math.nan, 1.0, math.nan, math.nan):
        ctx, _ = end_batch(plugin, task_loss=loss)
    assert not getattr(ctx, knob)
    ctx, reasons = end_batch(plugin, task_loss=math.nan)
    assert getattr(ctx, knob)
    assert reasons == ["NONFINITE_IN_A_ROW"]


def test_nonfinite_count_starts_again_after_a_rollback():
    """There is one rollback per series, not one per batch."""
    plugin = FinitePlugin(max_in_a_row=2, then="rollback")
    rollbacks = [end_batch(plugin, task_loss=math.nan)[0].rollback for _ in range(6)]
    assert rollbacks == [False, True] * 3
