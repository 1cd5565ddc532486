"""Statistics over pairs of runs, compared with numpy and the integral of the t density."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.odr.pair_statistics import combine_pairs
from ockham.odr.record_data import Constraint
from ockham.odr.verdict import PairValue
from tests.study.test_student_t import integrated

C1 = Constraint(0, "C1", "t", "", "<", 1.0, unit="nats")
# Differences of seeds: close to each other and to the limit, so that all three states occur.
VALUES = st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=2, max_size=9)


def pairs(values):
    return [PairValue(f"base{i}", f"cand{i}", value, 10 + i) for i, value in enumerate(values)]


def numpy_interval(values):
    """Return the 95 % interval with a quantile found by bisection of the integrated density."""
    low, high = 0.0, 13.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if integrated(middle, len(values) - 1) < 0.95 else (low, middle)
    half = high * np.std(values, ddof=1) / np.sqrt(len(values))
    return np.mean(values) - half, np.mean(values) + half


@settings(max_examples=80, deadline=None)
@given(VALUES, st.sampled_from("< <= > >=".split()), st.floats(-2, 2), st.sampled_from(("interval", "mean")))
def test_result_over_pairs_agrees_with_numpy(values, op, limit, judge):
    """Pass if the whole interval holds, fail if none of it does, otherwise unknown."""
    result = combine_pairs(C1._replace(op=op, threshold=limit, judge=judge), pairs(values))
    low, high = numpy_interval(values)
    assert result.value == pytest.approx(np.mean(values), abs=1e-12)
    assert (result.statistics.low, result.statistics.high) == pytest.approx((low, high), abs=1e-6)
    assert (result.statistics.n_pairs, result.n) == (len(values), 10)
    if np.ptp(values) > 0:
        t = abs(np.mean(values) - limit) / (np.std(values, ddof=1) / np.sqrt(len(values)))
        assert result.statistics.p == pytest.approx(1 - integrated(t, len(values) - 1), abs=1e-6)
    ends = (np.mean(values),) if judge == "mean" else (low, high)
    if min(abs(end - limit) for end in ends) < 1e-6:
        return
    holds = [end < limit if op[0] == "<" else end > limit for end in ends]
    expected = {(True, True): "pass", (False, False): "fail"}.get((all(holds), any(holds)), "unknown")
    assert result.state == expected
    assert result.code == {"pass": "", "fail": "ODR510", "unknown": "ODR516"}[expected]


@settings(max_examples=60, deadline=None)
@given(VALUES, st.floats(-2, 2), st.floats(0, 2))
def test_equality_over_pairs_needs_the_whole_interval_within_the_tolerance(values, limit, tolerance):
    """It fails if the interval and the tolerated range have no common point."""
    result = combine_pairs(C1._replace(op="==", threshold=limit, tolerance=tolerance), pairs(values))
    low, high = numpy_interval(values)
    if min(abs(end - edge) for end in (low, high) for edge in (limit - tolerance, limit + tolerance)) < 1e-6:
        return
    inside = limit - tolerance <= low and high <= limit + tolerance
    apart = high < limit - tolerance or low > limit + tolerance
    assert result.state == {(True, False): "pass", (False, True): "fail"}.get((inside, apart), "unknown")


def test_equal_values_have_an_interval_of_one_point():
    """Each weight was restored to the last bit in each run."""
    result = combine_pairs(C1._replace(op="==", threshold=1.0), pairs([1.0, 1.0, 1.0]))
    assert (result.state, result.statistics.low, result.statistics.high) == ("pass", 1.0, 1.0)


def test_unknown_pair_makes_the_constraint_unknown():
    """It is named, and the values of the others are kept."""
    found = [*pairs([0.1, 0.2]), PairValue("b", "c", None, 0, "no observation", "ODR507")]
    result = combine_pairs(C1, found)
    assert (result.state, result.code, result.reason) == ("unknown", "ODR507", "c against b: no observation")
    assert [pair.value for pair in result.pairs] == [0.1, 0.2, None]


@pytest.mark.filterwarnings("ignore")
def test_values_without_a_finite_mean_are_unknown():
    """Their sum is larger than any double."""
    result = combine_pairs(C1, pairs([1.7e308, 1.7e308, -1.7e308]))
    assert result.state == "unknown"
    assert not math.isfinite(result.statistics.high)


def test_sentence_names_mean_interval_and_p():
    """`judge: mean` is shown."""
    sentence = combine_pairs(C1, pairs([0.1, 0.2, 0.3])).sentence()
    assert sentence == (
        "C1 pass: mean 0.2 nats over 3 pairs, 95 % interval -0.0484138 to 0.448414, p=0.0052, "
        "claimed < 1 nats"
    )
    wide = combine_pairs(C1._replace(judge="mean"), pairs([0.1, 1.2])).sentence()
    assert ", judged by the mean, claimed < 1 nats" in wide


@settings(max_examples=60, deadline=None)
@given(VALUES, st.floats(-2, 0), st.floats(0.1, 2))
def test_p_of_a_range_refers_to_the_nearer_end(values, low, high):
    """The middle of the range was not written by the author."""
    middle, half = (low + high) / 2, (high - low) / 2
    result = combine_pairs(C1._replace(op="==", threshold=middle, tolerance=half), pairs(values))
    mean = np.mean(values)
    if np.ptp(values) == 0 or abs(abs(mean - low) - abs(mean - high)) < 1e-9:
        return
    end = low if abs(mean - low) < abs(mean - high) else high
    t = abs(mean - end) / (np.std(values, ddof=1) / np.sqrt(len(values)))
    assert result.statistics.p == pytest.approx(1 - integrated(t, len(values) - 1), abs=1e-6)
