"""compressor: by the logarithm of drift over its threshold, smoothed, never compounding."""

from __future__ import annotations

import math

import pytest

from ockham.context import OccamContext
from ockham.plugins.compressor import CompressorPlugin
from tests.plugins.run_hook import end, start


def drifted(drift, **settings):
    plugin = CompressorPlugin(threshold=0.1, **{"attack": 0, "release": 0, **settings})
    for i in range(10):
        end(plugin, {"complexity_cost": drift, "updates": i + 1}, iter_num=i, anchor_available=True)
    return plugin


def test_the_formula():
    """ln scale = ln(s/threshold) (1 - 1/ratio); the learning rate has its inverse."""
    ctx, reasons = start(drifted(0.4, ratio=4.0), learning_rate=1.0, lambda_ockham=0.01)
    scale = math.exp(math.log(4.0) * 0.75)
    assert ctx.lambda_ockham == pytest.approx(0.01 * scale)
    assert ctx.learning_rate == pytest.approx(1 / scale)
    assert reasons == ["COMPRESSING"]


def test_quiet_under_the_threshold():
    """Nothing turns, nothing is said."""
    assert start(drifted(0.05))[1] == []


def test_it_never_compounds():
    """The same drift gives the same scale on every batch."""
    plugin = drifted(0.2)
    rates = {start(plugin, learning_rate=1.0)[0].learning_rate for _ in range(5)}
    assert len(rates) == 1


def test_attack_is_gradual():
    """A time constant of 5 updates moves 18 % of the way at once."""
    ctx, _ = start(drifted(0.2, attack=5.0), learning_rate=1.0)
    assert math.log(ctx.learning_rate) == pytest.approx(-math.log(2) * 0.5 * (1 - math.exp(-1 / 5)))


def test_clamped_and_frozen():
    """Lambda stays in its range; a skipped batch is left alone."""
    assert start(drifted(50.0), lambda_ockham=0.1)[0].lambda_ockham == 0.5
    assert start(drifted(50.0), updated=False)[1] == []


def test_a_drift_that_is_not_finite_enters_no_history():
    """And nothing is remembered before there is an anchor."""
    plugin = CompressorPlugin()
    end(plugin, {"complexity_cost": math.nan, "updates": 1}, anchor_available=True)
    end(plugin, {"complexity_cost": 0.5, "updates": 2}, anchor_available=False)
    assert list(plugin.drifts) == []


def test_consolidation_forgets():
    """The drifts of the old anchor say nothing of the new one."""
    plugin = drifted(0.4)
    plugin.on_consolidate(OccamContext(1, 1.0))
    assert start(plugin)[1] == []


def test_makeup_gain_when_stable():
    """Under the threshold the learning rate has its gain."""
    ctx, reasons = start(drifted(0.05, makeup=1.1), learning_rate=1.0)
    assert ctx.learning_rate == pytest.approx(1.1)
    assert reasons == ["MAKEUP"]


def test_micro_batches_of_one_step_share_its_scales():
    """The smoothing is counted in updates, not in forwards."""
    plugin = drifted(0.4, attack=5.0)
    rates = [start(plugin, iter_num=20, micro_step=i, learning_rate=1.0)[0].learning_rate for i in range(4)]
    assert len(set(rates)) == 1
    assert start(plugin, iter_num=21, learning_rate=1.0)[0].learning_rate < rates[0]


def test_after_a_consolidation_it_lets_go_by_release():
    """No jump: drift is 0 from here, and the scales go back with the time constant of the release."""
    plugin = drifted(0.4, release=4.0)
    held = math.log(start(plugin, iter_num=20, learning_rate=1.0)[0].learning_rate)
    plugin.on_consolidate(OccamContext(20, 1.0))
    ctx, reasons = start(plugin, iter_num=21, learning_rate=1.0)
    assert reasons == ["RELEASING"]
    assert math.log(ctx.learning_rate) == pytest.approx(held * math.exp(-1 / 4))
    for i in range(22, 80):
        _, reasons = start(plugin, iter_num=i)
    assert reasons == []


def test_the_stepped_law_knows_two_targets():
    """The documented rule: however far drift is over, lambda goes up by the ratio and the rate down by it."""
    near, far = (
        start(drifted(d, law="stepped", ratio=3.0), learning_rate=1.0, lambda_ockham=0.01)[0]
        for d in (0.11, 9)
    )
    assert near.learning_rate == far.learning_rate == pytest.approx(1 / 3)
    assert near.lambda_ockham == pytest.approx(0.03)


def test_frozen_means_frozen():
    """Skipped batches move no scale."""
    plugin = drifted(0.4, attack=5.0)
    before = plugin.state_dict()
    for i in range(30, 40):
        start(plugin, iter_num=i, updated=False)
    assert plugin.state_dict() == before
