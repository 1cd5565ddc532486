"""finite: what is not finite reaches no update, is reported by name, and is rollbacks when it goes on."""

from __future__ import annotations

import math

import pytest

from ockham.plugins.finite import FinitePlugin
from tests.helpers.plugin_hooks import end_batch, start_batch


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_batch_with_nonfinite_loss_is_skipped(loss):
    """With its reason; a finite one is left alone."""
    assert start_batch(FinitePlugin(), task_loss=loss)[0].updated is False
    assert start_batch(FinitePlugin(), task_loss=loss)[1] == ["NONFINITE_LOSS"]
    assert start_batch(FinitePlugin())[1] == []


def test_nonfinite_gradient_drift_and_kl_are_reported():
    """Each under its own name."""
    gauges = {"grad_norm": math.nan, "complexity_cost": math.inf, "kl_to_anchor": math.nan}
    assert end_batch(FinitePlugin(), gauges)[1] == ["NONFINITE_GRADIENT", "NONFINITE_DRIFT", "NONFINITE_KL"]


@pytest.mark.parametrize(("then", "knob"), [("halt", "halt"), ("rollback", "rollback")])
def test_too_many_consecutive_nonfinite_batches_roll_back_or_halt(then, knob):
    """By policy; and a finite one in between starts the count again."""
    plugin = FinitePlugin(max_in_a_row=3, then=then)
    for loss in (math.nan, math.nan, 1.0, math.nan, math.nan):
        ctx, _ = end_batch(plugin, task_loss=loss)
    assert not getattr(ctx, knob)
    ctx, reasons = end_batch(plugin, task_loss=math.nan)
    assert getattr(ctx, knob)
    assert reasons == ["NONFINITE_IN_A_ROW"]


def test_nonfinite_count_starts_again_after_a_rollback():
    """One answer for each row, not one for each batch behind it."""
    plugin = FinitePlugin(max_in_a_row=2, then="rollback")
    rollbacks = [end_batch(plugin, task_loss=math.nan)[0].rollback for _ in range(6)]
    assert rollbacks == [False, True] * 3
