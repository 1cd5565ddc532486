"""eq: gains for the thirds of the detrended losses."""

from __future__ import annotations

import math

import pytest

from ockham.errors import BadInputError
from ockham.plugins.eq import EQPlugin
from tests.helpers.plugin_hooks import start_batch


def make_plugin(**settings):
    """Return a plugin with a full history."""
    plugin = EQPlugin(min_history=9, ema=0.0, **settings)
    for i in range(9):
        start_batch(plugin, task_loss=2.0, example_losses=(1.0 + i / 8, 2.0, 3.0 - i / 8))
    return plugin


def test_example_gains_have_mean_one():
    """Easy examples have lower gains than hard ones."""
    ctx, reasons = start_batch(make_plugin(), task_loss=2.0, example_losses=(1.0, 2.0, 3.0))
    assert reasons == ["EXAMPLES_WEIGHED"]
    assert sum(ctx.example_gain) / 3 == pytest.approx(1.0)
    assert ctx.example_gain[0] < ctx.example_gain[2]


def test_eq_waits_for_history_and_finite_losses():
    """No decision is made with too few losses or with NaN."""
    assert start_batch(EQPlugin(), example_losses=(1.0, 2.0))[1] == []
    assert start_batch(make_plugin(), example_losses=(1.0, math.nan, 2.0))[1] == []
    assert EQPlugin().required_measurements() == {"example_losses": 1}
    assert EQPlugin(target="learning_rate").required_measurements() == {}


def test_learning_rate_is_scaled_by_the_band_of_the_loss():
    """The bands are thirds of the recent residuals, without the batch itself."""
    plugin = EQPlugin(target="learning_rate", min_history=9, ema=0.0, easy=0.5, hard=2.0)
    for i in range(9):
        start_batch(plugin, task_loss=2.0 + (i - 4) / 10)
    results = [start_batch(plugin, task_loss=loss, learning_rate=1.0) for loss in (1.0, 2.0, 3.0)]
    assert [ctx.learning_rate for ctx, _ in results] == [0.5, 1.0, 2.0]
    assert [reasons for _, reasons in results] == [["EASY_BAND"], ["MEDIUM_BAND"], ["HARD_BAND"]]


def test_history_larger_than_the_window_is_rejected():
    """The plugin would never act."""
    with pytest.raises(BadInputError, match="larger than window 20"):
        EQPlugin(window=20)
