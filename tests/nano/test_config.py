"""Settings: the learning-rate schedule."""

from __future__ import annotations

import pytest

from ockham.nano import build_settings


def test_learning_rate_warms_up_then_decays_to_the_minimum():
    """The rate rises linearly, falls as a cosine, and then stays at the minimum."""
    s = build_settings("nano", ["max_iters=1000", "warmup_iters=100"])
    rates = [s.learning_rate_at(i) for i in range(1_200)]
    assert rates[0] == pytest.approx(1e-3 / 101)
    assert rates[100] == pytest.approx(1e-3)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[1_000] == pytest.approx(1e-4)
    assert rates[1_100] == 1e-4
    assert all(a >= b for a, b in zip(rates[100:], rates[101:], strict=False))


def test_short_run_warms_up_for_a_tenth_of_its_steps():
    """A run of 60 iterations warms up for 6, not for 100."""
    assert build_settings("nano", ["max_iters=60"]).effective_warmup_iters == 6
