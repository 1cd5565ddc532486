"""Mean, 95 % interval and test of a few values by Student's t distribution."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class MeanInterval(NamedTuple):
    """Mean of values with half the width of its 95 % interval. None for one value."""

    n: int
    mean: float
    half_width: float | None


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Return the mean of at least one value and its interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return MeanInterval(1, mean, None)
    error = statistics.stdev(values) / math.sqrt(len(values))
    return MeanInterval(len(values), mean, t_quantile(len(values) - 1) * error)


def p_value(values: Sequence[float], limit: float) -> float | None:
    """Return the two-sided p of the hypothesis that the values have the mean *limit*.

    None for one value. Values without spread give 1 at the limit, and 0 elsewhere.
    """
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    if error == 0:
        return float(mean == limit)
    return max(0.0, 1.0 - central_share((mean - limit) / error, len(values) - 1))


def central_share(t: float, freedom: int) -> float:
    """Return the probability of a value between -t and t.

    The finite sums are 26.7.3 and 26.7.4 of Abramowitz and Stegun, Handbook of Mathematical Functions.
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * cosine * cosine
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


@functools.cache
def t_quantile(freedom: int) -> float:
    """Return t such that 95 % of the distribution is between -t and t."""
    low, high = 0.0, 13.0
    while (middle := (low + high) / 2) not in {low, high}:
        if central_share(middle, freedom) < CONFIDENCE:
            low = middle
        else:
            high = middle
    return high
