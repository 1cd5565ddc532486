"""Intervals and tests by Student's t, compared with numerical integration of its density."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.study.student_t import central_share, mean_interval, p_value, t_quantile

# Two-sided 95 %, as printed in tables.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}
SPREAD = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12).filter(lambda x: np.ptp(x) > 1e-3)


def integrated(t: float, freedom: int) -> float:
    """Return the integral of the density from -t to t by the midpoint rule, in x = sqrt(freedom) tan(a)."""
    edge = math.atan(abs(t) / math.sqrt(freedom))
    angles = (np.arange(20_000) + 0.5) / 20_000 * edge
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return float(2 * scale * np.mean(np.cos(angles) ** (freedom - 1)) * edge)


@pytest.mark.parametrize(("freedom", "quantile"), TABLE.items())
def test_quantiles_equal_the_printed_table(freedom, quantile):
    """Three decimals are printed."""
    assert round(t_quantile(freedom), 3) == quantile


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 50), st.integers(1, 60))
def test_share_equals_the_integral_of_the_density(t, freedom):
    """Odd and even degrees of freedom have different sums."""
    assert central_share(t, freedom) == pytest.approx(integrated(t, freedom), abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(SPREAD, st.floats(-1e3, 1e3))
def test_interval_and_p_agree_with_numpy(values, limit):
    """The limit is in the interval if and only if p is above 5 %."""
    interval, p = mean_interval(values), p_value(values, limit)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert interval.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-9)
    assert interval.half_width / error == pytest.approx(t_quantile(len(values) - 1))
    distance = abs(np.mean(values) - limit) / error
    assert p == pytest.approx(1 - integrated(distance, len(values) - 1), abs=1e-7)
    if abs(distance - t_quantile(len(values) - 1)) > 1e-6:
        assert (p > 0.05) == (abs(interval.mean - limit) < interval.half_width)


def test_one_value_has_neither_interval_nor_p():
    """One value has no spread."""
    assert mean_interval([3.0]) == (1, 3.0, None)
    assert p_value([3.0], 0.0) is None


def test_equal_values_have_an_interval_without_width():
    """The hypothesis is certain or excluded."""
    assert mean_interval([2.0, 2.0, 2.0]) == (3, 2.0, 0.0)
    assert (p_value([2.0, 2.0], 2.0), p_value([2.0, 2.0], 1.9)) == (1.0, 0.0)
