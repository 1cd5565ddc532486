"""compressor: acts on the logarithm of drift over its threshold, smoothed, without compounding."""

from __future__ import annotations

import math

import pytest

from ockham.context import OccamContext
from ockham.plugins.compressor import CompressorPlugin
from tests.helpers.plugin_hooks import end_batch, start_batch


def make_plugin(drift, **settings):
    """Return a plugin that has seen ten updates with this drift."""
    plugin = CompressorPlugin(threshold=0.1, **{"attack": 0, "release": 0, **settings})
    for i in range(10):
        end_batch(plugin, {"complexity_cost": drift, "updates": i + 1}, iter_num=i, anchor_available=True)
    return plugin


def test_compressor_scales_follow_the_formula():
    """ln scale = ln(s/threshold) (1 - 1/ratio). The learning rate has the inverse scale."""
    ctx, reasons = start_batch(make_plugin(0.4, ratio=4.0), learning_rate=1.0, lambda_ockham=0.01)
    scale = math.exp(math.log(4.0) * 0.75)
    assert ctx.lambda_ockham == pytest.approx(0.01 * scale)
    assert ctx.learning_rate == pytest.approx(1 / scale)
    assert reasons == ["COMPRESSING"]


def test_compressor_does_nothing_below_the_threshold():
    """No knob changes and no decision is made."""
    assert start_batch(make_plugin(0.05))[1] == []


def test_compressor_scale_is_equal_for_equal_drift():
    """Scales of several batches do not compound."""
    plugin = make_plugin(0.2)
    rates = {start_batch(plugin, learning_rate=1.0)[0].learning_rate for _ in range(5)}
    assert len(rates) == 1


def test_compressor_attack_uses_its_time_constant():
    """With a time constant of 5 updates, the first update moves 18 % of the distance."""
    ctx, _ = start_batch(make_plugin(0.2, attack=5.0), learning_rate=1.0)
    assert math.log(ctx.learning_rate) == pytest.approx(-math.log(2) * 0.5 * (1 - math.exp(-1 / 5)))


def test_compressor_limits_lambda_and_ignores_skipped_batches():
    """Lambda stays in its range. A skipped batch does not change."""
    assert start_batch(make_plugin(50.0), lambda_ockham=0.1)[0].lambda_ockham == 0.5
    assert start_batch(make_plugin(50.0), updated=False)[1] == []


def test_compressor_ignores_nonfinite_drift_and_drift_without_anchor():
    """Neither of them is stored."""
    plugin = CompressorPlugin()
    end_batch(plugin, {"complexity_cost": math.nan, "updates": 1}, anchor_available=True)
    end_batch(plugin, {"complexity_cost": 0.5, "updates": 2}, anchor_available=False)
    assert list(plugin.drifts) == []


def test_consolidation_clears_the_stored_drifts():
    """Drifts from the old anchor do not apply to the new one."""
    plugin = make_plugin(0.4)
    plugin.on_consolidate(OccamContext(1, 1.0))
    assert start_batch(plugin)[1] == []


def test_makeup_gain_applies_below_the_threshold():
    """The learning rate is multiplied by the gain."""
    ctx, reasons = start_batch(make_plugin(0.05, makeup=1.1), learning_rate=1.0)
    assert ctx.learning_rate == pytest.approx(1.1)
    assert reasons == ["MAKEUP"]


def test_micro_batches_of_one_step_have_equal_scales():
    """The smoothing counts updates, not forwards."""
    plugin = make_plugin(0.4, attack=5.0)
    rates = [
        start_batch(plugin, iter_num=20, micro_step=i, learning_rate=1.0)[0].learning_rate for i in range(4)
    ]
    assert len(set(rates)) == 1
    assert start_batch(plugin, iter_num=21, learning_rate=1.0)[0].learning_rate < rates[0]


def test_scales_return_by_release_after_a_consolidation():
    """The scales do not jump. They return with the time constant of the release."""
    plugin = make_plugin(0.4, release=4.0)
    log_rate = math.log(start_batch(plugin, iter_num=20, learning_rate=1.0)[0].learning_rate)
    plugin.on_consolidate(OccamContext(20, 1.0))
    ctx, reasons = start_batch(plugin, iter_num=21, learning_rate=1.0)
    assert reasons == ["RELEASING"]
    assert math.log(ctx.learning_rate) == pytest.approx(log_rate * math.exp(-1 / 4))
    for i in range(22, 80):
        _, reasons = start_batch(plugin, iter_num=i)
    assert reasons == []


def test_stepped_law_has_two_targets():
    """However high the drift is, lambda rises by the ratio and the learning rate falls by it."""
    near, far = (
        start_batch(make_plugin(d, law="stepped", ratio=3.0), learning_rate=1.0, lambda_ockham=0.01)[0]
        for d in (0.11, 9)
    )
    assert near.learning_rate == far.learning_rate == pytest.approx(1 / 3)
    assert near.lambda_ockham == pytest.approx(0.03)


def test_skipped_batches_do_not_change_the_scales():
    """The state is equal after ten skipped batches."""
    plugin = make_plugin(0.4, attack=5.0)
    before = plugin.state_dict()
    for i in range(30, 40):
        start_batch(plugin, iter_num=i, updated=False)
    assert plugin.state_dict() == before
