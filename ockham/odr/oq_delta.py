"""OQ delta: relative gain of the Occam Quotient, of two runs at the same point of their training.

The quotients are those of the last evaluation that both runs reached, by iteration, tokens or compute. Later
evaluations of the longer run do not count, and which checkpoint the memory accepted does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ockham.odr.evaluation_points import (
    MEASURES,
    EvaluationSeries,
    Measure,
    find_common_points,
    find_cost_ratio,
)
from ockham.odr.pair_statistics import compute_statistics
from ockham.odr.pinned_log import PinnedLog, find_events
from ockham.odr.record import DecisionRecord
from ockham.odr.record_data import EvidencePair, EvidenceSide
from ockham.odr.verdict import OqDelta, PairDelta
from ockham.quotient import relative_improvement

# Reads the evaluations of a log, with or without its batches.
SeriesReader = Callable[[PinnedLog, bool], EvaluationSeries]


def compute_oq_delta(
    record: DecisionRecord, logs: Mapping[EvidenceSide, PinnedLog], read: SeriesReader
) -> OqDelta | None:
    """Return (candidate - baseline) / baseline of each pair, and the mean.

    None if a pair has no quotients at a common point, or they are not comparable. If the record claims an OQ
    delta, this is a finding.

    Args:
        record: Record with its claims.
        logs: Pinned log of each side.
        read: Reads the evaluations of a log.

    """
    claims = record.claims
    measure: Measure = next((name for name in MEASURES if name == claims.oq_delta_at), "iteration")
    if not claims.pairs or not claims.baselines:
        if claims.oq_delta is not None and claims.candidates:
            _add(
                record, "ODR407", "an OQ delta compares a candidate with a baseline, and evidence names none"
            )
        return None
    series = {side: read(log, measure == "compute") for side, log in logs.items()}
    ratio = find_cost_ratio(list(series.values())) if measure == "compute" else 0.0
    if ratio is None:
        _add(record, "ODR603", "the logs have no stage times, so their compute is unknown")
        return None
    found = [_compare(record, pair, series, measure, ratio) for pair in claims.pairs]
    pairs = tuple(pair for pair in found if pair is not None)
    if len(pairs) < len(found):
        return None
    return summarize(measure, pairs)


def summarize(measure: Measure, pairs: Sequence[PairDelta]) -> OqDelta:
    """Return the mean of the pairs, with an interval if there are several."""
    values = [pair.value for pair in pairs]
    statistics = compute_statistics(values, 0.0) if len(values) > 1 else None
    return OqDelta(statistics.mean if statistics else values[0], measure, tuple(pairs), statistics)


def _compare(
    record: DecisionRecord,
    pair: EvidencePair,
    series: Mapping[EvidenceSide, EvaluationSeries],
    measure: Measure,
    ratio: float,
) -> PairDelta | None:
    """Return the delta of one pair, or None after adding a finding."""
    assert pair.baseline is not None
    runs = (pair.baseline.run, pair.candidate.run)
    sides = (series[pair.baseline], series[pair.candidate])
    for side, one in zip((pair.baseline, pair.candidate), sides, strict=True):
        if not one.points:
            _add(record, "ODR407", f"no evaluation of {side.run} has an Occam Quotient")
            return None
    common = find_common_points(*sides, measure, ratio)
    if common is None:
        _add(record, "ODR603", f"{runs[0]} and {runs[1]} have no evaluation at the same {measure}")
        return None
    position, baseline, candidate = common
    specs = [one.points[-1].spec for one in sides]
    if specs[0] is None or specs[0] != specs[1]:
        different = ", ".join(
            f"{run}: {spec or 'from what, the log does not say'}"
            for run, spec in zip(runs, specs, strict=True)
        )
        _add(record, "ODR603", f"the two quotients do not compare: {different}")
        return None
    if position <= 0:
        message = f"the last {measure} that {runs[0]} and {runs[1]} both evaluated is 0, before any training"
        _add(record, "ODR608", message)
        return None
    value = relative_improvement(candidate, baseline)
    return PairDelta(*runs, position, value) if math.isfinite(value) else None


def _add(record: DecisionRecord, code: str, message: str) -> None:
    """Add a finding if the record claims an OQ delta."""
    if record.claims.oq_delta is not None:
        record.add_finding_at(code, message, ("outcome", "oq_delta"))


def check_citations(record: DecisionRecord, logs: Sequence[PinnedLog]) -> None:
    """Add a finding for each cited decision that is not in the pinned part of the log of its side."""
    for log in logs:
        for index, prefix in enumerate(log.side.decisions):
            problem = _citation_problem(log, prefix, logs)
            if problem is not None:
                record.add_finding_at(*problem, (*log.side.path, "decisions", index))


def _citation_problem(log: PinnedLog, prefix: str, logs: Sequence[PinnedLog]) -> tuple[str, str] | None:
    """Return code and message of a problem, or None if a prefix is one decision of a log."""
    run = log.side.run
    decisions = [one for one in find_events(log, prefix) if one.event["type"] == "ockham.decision.made.v1"]
    if len(decisions) > 1:
        return "ODR403", f"{prefix} is the beginning of {len(decisions)} decisions of {run}"
    if decisions:
        sequence = decisions[0].sequence
        if sequence < log.size:
            return None
        return "ODR410", f"{prefix} is event {sequence} of {run}, after through_sequence"
    other = next((one for one in logs if one.side.run != run and find_events(one, prefix)), None)
    if other is not None:
        return "ODR405", f"{prefix} is a decision of {other.side.run}, not of {run}"
    return "ODR403", f"{prefix} is not a decision in the log of {run}"
