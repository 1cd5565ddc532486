"""saturation: seeded noise with logged draws."""

from __future__ import annotations

import pytest

from ockham.plugins.saturation import SaturationPlugin
from tests.helpers.plugin_hooks import start_batch


def test_saturation_draw_is_logged_and_repeatable():
    """An equal counter gives an equal factor. The decision contains the draw."""
    first, second = (
        start_batch(SaturationPlugin(drive=0.1, warmup=0), iter_num=9, seed=3, learning_rate=1.0)[0]
        for _ in range(2)
    )
    assert first.learning_rate == second.learning_rate
    assert first.learning_rate == 1 + 0.1 * first.notes[0].observed


def test_saturation_noise_grows_during_warmup():
    """The noise is zero at iteration 0. Noise on the gradient is a knob of the trainer."""
    assert start_batch(SaturationPlugin(warmup=100), iter_num=0)[1] == []
    ctx, reasons = start_batch(SaturationPlugin(drive=0.2, noise_type="gradient", warmup=10), iter_num=5)
    assert ctx.grad_noise_std == pytest.approx(0.1)
    assert reasons == ["NOISE_ON_GRADIENT"]


def test_saturation_noise_has_the_configured_deviation():
    """Mean 1 and standard deviation `drive`, within three standard errors over 2,000 batches."""
    plugin = SaturationPlugin(drive=0.1, warmup=0)
    rates = [start_batch(plugin, iter_num=i, learning_rate=1.0)[0].learning_rate for i in range(2_000)]
    mean = sum(rates) / 2_000
    sd = (sum((rate - mean) ** 2 for rate in rates) / 2_000) ** 0.5
    assert abs(mean - 1) < 3 * 0.1 / 2_000**0.5
    assert abs(sd - 0.1) < 3 * 0.1 / 4_000**0.5


def test_saturation_never_sets_a_negative_rate():
    """This holds for any drive."""
    plugin = SaturationPlugin(drive=50.0, warmup=0)
    assert min(start_batch(plugin, iter_num=i, learning_rate=1.0)[0].learning_rate for i in range(50)) == 0.0
