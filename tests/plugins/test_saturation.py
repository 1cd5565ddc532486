"""saturation: seeded noise whose draws are in the log."""

from __future__ import annotations

import pytest

from ockham.plugins.saturation import SaturationPlugin
from tests.plugins.run_hook import start


def test_the_draw_is_logged_and_repeatable():
    """The same counter, the same factor; the decision holds the draw."""
    one, two = (
        start(SaturationPlugin(drive=0.1, warmup=0), iter_num=9, seed=3, learning_rate=1.0)[0]
        for _ in range(2)
    )
    assert one.learning_rate == two.learning_rate == 1 + 0.1 * one.notes[0].observed


def test_noise_grows_over_the_warmup():
    """Nothing at iteration 0; on the gradient it is a knob for the trainer."""
    assert start(SaturationPlugin(warmup=100), iter_num=0)[1] == []
    ctx, reasons = start(SaturationPlugin(drive=0.2, noise_type="gradient", warmup=10), iter_num=5)
    assert ctx.grad_noise_std == pytest.approx(0.1)
    assert reasons == ["NOISE_ON_GRADIENT"]


def test_the_noise_is_gaussian_of_its_drive():
    """Mean 1 and standard deviation `drive`, within three standard errors over 2,000 batches."""
    plugin = SaturationPlugin(drive=0.1, warmup=0)
    rates = [start(plugin, iter_num=i, learning_rate=1.0)[0].learning_rate for i in range(2_000)]
    mean = sum(rates) / 2_000
    sd = (sum((rate - mean) ** 2 for rate in rates) / 2_000) ** 0.5
    assert abs(mean - 1) < 3 * 0.1 / 2_000**0.5
    assert abs(sd - 0.1) < 3 * 0.1 / 4_000**0.5


def test_a_rate_is_never_negative():
    """Whatever the drive."""
    plugin = SaturationPlugin(drive=50.0, warmup=0)
    assert min(start(plugin, iter_num=i, learning_rate=1.0)[0].learning_rate for i in range(50)) == 0.0
