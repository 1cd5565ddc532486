"""Evaluation of a constraint over several pairs of runs: mean, 95 % interval and paired t-test.

A constraint passes if the whole interval satisfies the claim, and fails if the whole interval violates it.
Otherwise it is unknown. With `judge: mean` the mean decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ockham.odr.record_data import Constraint
from ockham.odr.verdict import PairStatistics, PairValue, Result, State, claim_holds
from ockham.study.student_t import mean_interval, p_value


def combine_pairs(constraint: Constraint, pairs: Sequence[PairValue]) -> Result:
    """Return the result of a constraint over several pairs.

    `n` of the result is the smallest number of observations of a pair. Unknown if the value of one pair is.
    """
    missing = next((pair for pair in pairs if pair.code), None)
    if missing is not None:
        reason = f"{missing.label}: {missing.reason}"
        return Result(constraint, "unknown", None, missing.n, reason, missing.code, tuple(pairs))
    values = [pair.value for pair in pairs if pair.value is not None]
    limit = tested_limit(constraint, values)
    statistics = compute_statistics(values, limit)
    n = min(pair.n or 0 for pair in pairs)
    if not math.isfinite(statistics.low) or not math.isfinite(statistics.high):
        return Result(
            constraint,
            "unknown",
            None,
            n,
            "the values have no finite mean",
            "ODR507",
            tuple(pairs),
            statistics,
        )
    state = judge_interval(constraint, statistics)
    reason = ""
    if state == "unknown":
        reason = f"{statistics.sentence(constraint.unit)}; the interval contains {limit:g}"
    code = {"pass": "", "fail": "ODR510", "unknown": "ODR516"}[state]
    return Result(constraint, state, statistics.mean, n, reason, code, tuple(pairs), statistics)


def tested_limit(constraint: Constraint, values: Sequence[float]) -> float:
    """Return the limit that p refers to: of a range the end that is nearer to the mean."""
    if constraint.op != "==" or not constraint.tolerance:
        return constraint.threshold
    ends = constraint.threshold - constraint.tolerance, constraint.threshold + constraint.tolerance
    mean = math.fsum(values) / len(values)
    return min(ends, key=lambda end: abs(mean - end))


def compute_statistics(values: Sequence[float], limit: float) -> PairStatistics:
    """Return mean, interval and p of at least two values against a limit."""
    try:
        interval = mean_interval(values)
        half = interval.half_width or 0.0
        return PairStatistics(
            len(values),
            interval.mean,
            interval.mean - half,
            interval.mean + half,
            p_value(values, limit) or 0.0,
        )
    except OverflowError:
        return PairStatistics(len(values), math.nan, -math.inf, math.inf, math.nan)


def judge_interval(constraint: Constraint, statistics: PairStatistics) -> State:
    """Return whether the interval, or with `judge: mean` the mean, satisfies the claim."""
    if constraint.judge == "mean":
        return "pass" if claim_holds(constraint, statistics.mean) else "fail"
    ends = [claim_holds(constraint, end) for end in (statistics.low, statistics.high)]
    if all(ends):
        return "pass"
    limit, tolerance = constraint.threshold, constraint.tolerance
    contains = statistics.low <= limit + tolerance and statistics.high >= limit - tolerance
    if any(ends) or (constraint.op == "==" and contains):
        return "unknown"
    return "fail"
