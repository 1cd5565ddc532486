"""Evaluations of a pinned log with an Occam Quotient, and where in the training each of them is.

A point is measured by iteration, by trained tokens, or by compute in forwards: 1 per micro-batch, plus b per
updated micro-batch. b is the cost of backward and optimizer relative to the forward.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

from ockham.event import parse_number
from ockham.odr.pinned_log import PinnedLog, parse_event, read_pinned_lines
from ockham.quotient import Cost, Performance, QuotientSpec, compute_performance
from ockham.replay.trajectory import cost_ratio, is_updated

Measure = Literal["iteration", "tokens", "compute"]
MEASURES: tuple[Measure, ...] = ("iteration", "tokens", "compute")
# relative: the quotient was computed from these very doubles.
_SAME = 1e-9
_NAMES: tuple[Performance, ...] = ("inverse_loss", "bits_saved")


class EvaluationPoint(NamedTuple):
    """One evaluation.

    Attributes:
        batches: Number of micro-batches before it.
        updates: Number of updated micro-batches before it.
        spec: How the quotient was computed. None if no spec reproduces it.

    """

    iteration: int
    tokens: int
    batches: int
    updates: int
    quotient: float
    spec: QuotientSpec | None

    def position(self, measure: Measure, b: float) -> float:
        """Return where the evaluation is."""
        if measure == "compute":
            return self.batches + b * self.updates
        return self.iteration if measure == "iteration" else self.tokens


class EvaluationSeries(NamedTuple):
    """Evaluations of a run in order, and the contexts of its batches."""

    points: tuple[EvaluationPoint, ...]
    batches: tuple[Mapping[str, Any], ...]


def read_evaluations(log: PinnedLog, with_batches: bool) -> EvaluationSeries:
    """Return the evaluations up to the pinned position, without superseded ones.

    Args:
        log: Pinned log, with the logs from which it resumed.
        with_batches: Read the batches too, which only compute needs.

    """
    contexts: list[tuple[Mapping[str, Any], Mapping[str, Any] | None]] = []
    for part in reversed(list(log.chain())):
        for data, decision in _contexts(part, with_batches):
            if decision is None and data.get("hook") == "resumed":
                contexts = [old for old in contexts if old[0]["iter_num"] < data["iter_num"]]
            else:
                contexts.append((data, decision))
    points: dict[int, EvaluationPoint] = {}
    batches: list[Mapping[str, Any]] = []
    updates = 0
    for data, decision in contexts:
        if data["hook"] == "batch":
            batches.append(data)
            updates += is_updated(data)
        elif decision is not None:
            point = _point(data, decision, len(batches), updates)
            points[point.iteration] = point
    return EvaluationSeries(tuple(points.values()), tuple(batches))


def find_cost_ratio(series: Sequence[EvaluationSeries]) -> float | None:
    """Return b of all runs together, or None if their stage times do not give it."""
    return cost_ratio([data for one in series for data in one.batches])


def find_common_points(
    baseline: EvaluationSeries, candidate: EvaluationSeries, measure: Measure, b: float
) -> tuple[float, float, float] | None:
    """Return the last position that both runs reached, and the quotients of baseline and candidate there.

    By iteration, both runs have an evaluation there. By tokens and compute, it is the last evaluation of the
    run that ended first, and the quotient of the other one is interpolated linearly. None if there is no such
    position.
    """
    curves = [
        sorted((point.position(measure, b), point.quotient) for point in one.points)
        for one in (baseline, candidate)
    ]
    if not all(curves):
        return None
    if measure == "iteration":
        shared = dict(curves[0]).keys() & dict(curves[1]).keys()
        at = max(shared, default=-1.0)
    else:
        at = min(curve[-1][0] for curve in curves)
    values = [_interpolate(curve, at) for curve in curves]
    if values[0] is None or values[1] is None:
        return None
    return at, values[0], values[1]


def _interpolate(curve: Sequence[tuple[float, float]], at: float) -> float | None:
    """Return the value of a curve at a position, or None outside of it."""
    for x, y in reversed(curve):
        if math.isclose(x, at, rel_tol=1e-12):
            return y
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 < at < x1:
            return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    return None


def _contexts(
    log: PinnedLog, with_batches: bool
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any] | None]]:
    """Yield the contexts of a log. Those of an evaluation have the decision of the memory with a quotient."""
    wanted = (b'"hook":"on_evaluate"', b'"hook":"batch"') if with_batches else (b'"hook":"on_evaluate"',)
    decision: Mapping[str, Any] | None = None
    for line in read_pinned_lines(log):
        if b'"plugin":"memory"' in line and b'"hook":"on_evaluate"' in line:
            decision = _memory_decision(line) or decision
        elif _is_context(line, wanted) and (event := parse_event(line)):
            data = cast("Mapping[str, Any]", event["data"])
            if data["hook"] == "batch":
                yield data, None
            elif data["hook"] == "on_evaluate" and decision and decision["iter_num"] == data["iter_num"]:
                yield data, decision
                decision = None
        elif b'"type":"ockham.run.resumed.v1"' in line and (event := parse_event(line)):
            yield {"hook": "resumed", "iter_num": event["data"]["iter_num"]}, None


def _is_context(line: bytes, hooks: Sequence[bytes]) -> bool:
    return b'"type":"ockham.context.recorded.v1"' in line and any(hook in line for hook in hooks)


def _memory_decision(line: bytes) -> Mapping[str, Any] | None:
    """Return the data of a decision of the memory that measured a quotient. In shadow it is measured too."""
    event = parse_event(line)
    if event is None or event["type"] != "ockham.decision.made.v1" or event["data"].get("plugin") != "memory":
        return None
    quotient = parse_number(event["data"].get("numbers", {}).get("oq"))
    return event["data"] if quotient is not None and math.isfinite(quotient) else None


def _point(
    data: Mapping[str, Any], decision: Mapping[str, Any], batches: int, updates: int
) -> EvaluationPoint:
    quotient = parse_number(decision["numbers"]["oq"]) or math.nan
    loss = parse_number(decision["numbers"].get("loss"))
    spec = None if loss is None else infer_quotient_spec(quotient, loss, data["given"])
    tokens = int(_fact(data["given"], "tokens_seen"))
    return EvaluationPoint(int(data["iter_num"]), tokens, batches, updates, quotient, spec)


def infer_quotient_spec(quotient: float, loss: float, given: Mapping[str, Any]) -> QuotientSpec | None:
    """Return the spec of a quotient by recomputing it from the recorded facts.

    None if no spec reproduces it.
    """
    fact = {key: _fact(given, key) for key in ("inference_flops", "memory_footprint_mb", "model_params")}
    measured = fact["inference_flops"] > 0 and fact["memory_footprint_mb"] > 0
    flops = fact["inference_flops"] if measured else 2.0 * fact["model_params"]
    megabytes = fact["memory_footprint_mb"] if measured else 4e-6 * fact["model_params"]
    vocabulary = int(_fact(given, "vocab_size"))
    for kind in _NAMES:
        if kind == "bits_saved" and vocabulary < 2:
            continue
        if math.isclose(
            compute_performance(loss, kind, vocabulary), quotient * flops * megabytes, rel_tol=_SAME
        ):
            tokens = int(_fact(given, "inference_tokens")) if measured else 1
            cost: Cost = "measured" if measured else "from_params"
            return QuotientSpec(kind, cost, tokens, vocabulary if kind == "bits_saved" else 0)
    return None


def _fact(given: Mapping[str, Any], name: str) -> float:
    value = given.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
