"""finite: what is not finite reaches no update, is reported by name, and is answered when it goes on."""

from __future__ import annotations

import math

import pytest

from ockham.plugins.finite import FinitePlugin
from tests.plugins.run_hook import end, start


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_skipped(loss):
    """With its reason; a finite one is left alone."""
    assert start(FinitePlugin(), task_loss=loss)[0].updated is False
    assert start(FinitePlugin(), task_loss=loss)[1] == ["NONFINITE_LOSS"]
    assert start(FinitePlugin())[1] == []


def test_gradients_drift_and_kl_are_reported():
    """Each under its own name."""
    gauges = {"grad_norm": math.nan, "complexity_cost": math.inf, "kl_to_anchor": math.nan}
    assert end(FinitePlugin(), gauges)[1] == ["NONFINITE_GRADIENT", "NONFINITE_DRIFT", "NONFINITE_KL"]


@pytest.mark.parametrize(("then", "knob"), [("halt", "halt"), ("rollback", "rollback")])
def test_too_many_in_a_row(then, knob):
    """By policy; and a finite one in between starts the count again."""
    plugin = FinitePlugin(max_in_a_row=3, then=then)
    for loss in (math.nan, math.nan, 1.0, math.nan, math.nan):
        ctx, _ = end(plugin, task_loss=loss)
    assert not getattr(ctx, knob)
    ctx, reasons = end(plugin, task_loss=math.nan)
    assert getattr(ctx, knob)
    assert reasons == ["NONFINITE_IN_A_ROW"]


def test_the_count_starts_again_after_an_answer():
    """One answer for each row, not one for each batch behind it."""
    plugin = FinitePlugin(max_in_a_row=2, then="rollback")
    answered = [end(plugin, task_loss=math.nan)[0].rollback for _ in range(6)]
    assert answered == [False, True] * 3
