"""Evaluation of a measured value against a claim. Unknown is never a pass, and no data is unknown.

In DuckDB `NaN > 0.02` is true and an aggregate over no rows is NULL. The query therefore returns `value` and
`n`, and the comparison is made here after both were checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ockham.odr.record_data import Constraint

State = Literal["pass", "fail", "unknown"]
NOTHING_TO_CHECK = "nothing to check"


class PairValue(NamedTuple):
    """Value of a constraint for one pair of runs, or for one run. `code` names why it is unknown."""

    baseline: str
    candidate: str
    value: float | None = None
    n: int | None = None
    reason: str = ""
    code: str = ""

    @property
    def label(self) -> str:
        """The runs, such as `cand against base`."""
        return " against ".join(run for run in (self.candidate, self.baseline) if run)

    def sentence(self) -> str:
        """Return `cand against base: 7 (n=250)`."""
        value = self.reason if self.value is None else f"{self.value:.6g} (n={self.n})"
        return f"{self.label}: {value}"


class PairStatistics(NamedTuple):
    """Mean of several pairs, its 95 % interval, and the two-sided p against the threshold."""

    n_pairs: int
    mean: float
    low: float
    high: float
    p: float

    def sentence(self, unit: str = "") -> str:
        """Return `mean 7 ms over 3 pairs, 95 % interval 6 to 8, p=0.01`."""
        mean = f"mean {self.mean:.6g} {unit}".rstrip()
        interval = f"95 % interval {self.low:.6g} to {self.high:.6g}"
        return f"{mean} over {self.n_pairs} pairs, {interval}, p={self.p:.2g}"


class Result(NamedTuple):
    """Result of one constraint. `code` names why it is unknown or failed.

    With several pairs, `value` is their mean, and `pairs` and `statistics` are present.
    """

    constraint: Constraint
    state: State
    value: float | None = None
    n: int | None = None
    reason: str = ""
    code: str = ""
    pairs: tuple[PairValue, ...] = ()
    statistics: PairStatistics | None = None

    def sentence(self) -> str:
        """Return `C1 pass: 7 ms (n=250), claimed < 10 ms`."""
        constraint = self.constraint
        if self.state == "unknown":
            return f"{constraint.id} unknown: {self.reason}"
        measured = f"{self.value:.6g}{_unit(constraint)} (n={self.n})"
        if self.statistics is not None:
            measured = self.statistics.sentence(constraint.unit)
            measured += ", judged by the mean" if constraint.judge == "mean" else ""
        return f"{constraint.id} {self.state}: {measured}, claimed {constraint.claim}"


class PairDelta(NamedTuple):
    """OQ delta of one pair at a position that both runs reached."""

    baseline: str
    candidate: str
    position: float
    value: float


class OqDelta(NamedTuple):
    """Mean OQ delta of the pairs, and the measure by which both runs of a pair are at the same point."""

    value: float
    measure: str
    pairs: tuple[PairDelta, ...]
    statistics: PairStatistics | None = None

    @property
    def place(self) -> str:
        """Where the quotients were compared, such as `at iteration 149`."""
        positions = sorted({pair.position for pair in self.pairs})
        numbers = " to ".join(f"{at:,.10g}" for at in dict.fromkeys((positions[0], positions[-1])))
        return {
            "iteration": f"at iteration {numbers}",
            "tokens": f"at {numbers} tokens",
            "compute": f"at a compute of {numbers} forwards",
        }[self.measure]


class PinnedPosition(NamedTuple):
    """Evaluated position of a log: the tree over its first `size` lines has this root."""

    side: str
    run: str
    attempt: int
    rank: int
    size: int
    root: str


class Registration(NamedTuple):
    """A registration before the candidates: line `position` of the `size` lines of the ledger then.

    `candidates` describes which runs it fixed. Empty if it fixed none.
    """

    event_id: str
    time: str
    position: int
    size: int
    candidates: str = ""


class CheckResult(NamedTuple):
    """Check result of one record.

    `oq_delta` is the mean of the pairs, and `oq` contains its details. `complete` is False if evidence is
    missing or does not verify, so that nothing was compared. `waived` contains the last day of each waiver
    that the verdict needs, by the ID of its constraint. `oq_state` is the result of the claim that the OQ
    delta is above 0, or None if the record does not claim it.
    """

    odr_id: str
    verdict: str | None
    oq_delta: float | None
    results: tuple[Result, ...]
    pins: tuple[PinnedPosition, ...]
    registration: Registration | None = None
    oq: OqDelta | None = None
    complete: bool = True
    waived: Mapping[str, str] = MappingProxyType({})
    oq_state: State | None = None

    @property
    def verdict_text(self) -> str:
        """The verdict with the waivers that it needs, such as `KEEP (1 waived until 2027-01-31)`."""
        return format_verdict(self.verdict, tuple(self.waived.values()))


def _unit(constraint: Constraint) -> str:
    return f" {constraint.unit}" if constraint.unit else ""


def evaluate_constraint(constraint: Constraint, rows: Sequence[dict[str, Any]]) -> Result:
    """Evaluate the rows of a constraint's query."""
    if not rows:
        return Result(
            constraint, "unknown", reason=f"{NOTHING_TO_CHECK}: the query gave no row", code="ODR507"
        )
    if len(rows) > 1:
        return Result(constraint, "unknown", reason="the query gave more than one row", code="ODR506")
    row = {name.casefold(): cell for name, cell in rows[0].items()}
    if not {"value", "n"} <= row.keys():
        return Result(
            constraint, "unknown", reason="the result has no columns `value` and `n`", code="ODR506"
        )
    n = _count(row["n"])
    if n is None:
        return Result(constraint, "unknown", reason=f"n is {row['n']!r:.40}, not a count", code="ODR506")
    if n == 0:
        return Result(constraint, "unknown", None, 0, f"{NOTHING_TO_CHECK}: no observation (n=0)", "ODR507")
    value = row["value"]
    if value is None:
        return Result(constraint, "unknown", None, n, f"{NOTHING_TO_CHECK}: value is NULL (n={n})", "ODR507")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return Result(constraint, "unknown", None, n, f"value is {value!r:.40}, not a number", "ODR506")
    return _compare(constraint, float(value), n)


def _compare(constraint: Constraint, value: float, n: int) -> Result:
    if not math.isfinite(value):
        return Result(constraint, "unknown", None, n, f"value is {value} (n={n})", "ODR507")
    if n < constraint.min_n:
        reason = f"{n} observations, fewer than min_n={constraint.min_n}"
        return Result(constraint, "unknown", value, n, reason, "ODR508")
    if not math.isfinite(constraint.threshold) or constraint.op not in _HOLDS:
        return Result(constraint, "unknown", value, n, "the claim itself cannot be read", "ODR502")
    holds = claim_holds(constraint, value)
    return Result(constraint, "pass" if holds else "fail", value, n, "", "" if holds else "ODR510")


def claim_holds(constraint: Constraint, value: float) -> bool:
    """Return True if a finite value satisfies the claim."""
    return _HOLDS[constraint.op](value, constraint.threshold, constraint.tolerance)


_HOLDS: Mapping[str, Callable[[float, float, float], bool]] = {
    "<": lambda value, threshold, _: value < threshold,
    "<=": lambda value, threshold, _: value <= threshold,
    ">": lambda value, threshold, _: value > threshold,
    ">=": lambda value, threshold, _: value >= threshold,
    "==": lambda value, threshold, tolerance: abs(value - threshold) <= tolerance,
}


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if not math.isfinite(value) or value != int(value) or value < 0:
        return None
    return int(value)


def decide_verdict(
    results: Sequence[Result], oq_state: State | None, waived: Collection[str] = ()
) -> str | None:
    """Return KEEP, REVERT or INCONCLUSIVE. None if there was nothing to evaluate.

    Args:
        results: One result per constraint. Those of severity `warn` have no effect.
        oq_state: Result of the claimed OQ delta. None if the record claims none.
        waived: IDs of the constraints that may fail at present. A waiver never hides an unknown value.

    """
    decisive = [result for result in results if result.constraint.severity != "warn"]
    if not decisive:
        return None if not results and oq_state is None else "INCONCLUSIVE"
    if any(result.state == "unknown" for result in decisive) or oq_state == "unknown":
        return "INCONCLUSIVE"
    kept = all(result.state == "pass" or result.constraint.id in waived for result in decisive)
    return "KEEP" if kept and oq_state != "fail" else "REVERT"


def format_verdict(verdict: str | None, until: Sequence[str]) -> str:
    """Return `KEEP`, or `KEEP (1 waived until 2027-01-31)` with the first day on which a waiver ends.

    Args:
        verdict: Verdict of the record.
        until: Last day of each waiver that the verdict needs.

    """
    if verdict != "KEEP" or not until:
        return verdict or ""
    return f"KEEP ({len(until)} waived until {min(until)})"


def evaluate_gain(oq: OqDelta | None) -> State:
    """Evaluate the claim that an OQ delta is above 0. Of several pairs, the whole interval must be."""
    if oq is None:
        return "unknown"
    low, high = (oq.value, oq.value) if oq.statistics is None else (oq.statistics.low, oq.statistics.high)
    if low > 0:
        return "pass"
    return "unknown" if high > 0 else "fail"


_DIGITS = re.compile(r"[-+]?(?P<mantissa>[0-9]*\.?[0-9]*)(?:[eE](?P<exponent>[-+]?[0-9]+))?")


def rounds_to(written: str, value: float) -> bool:
    """Return True if a value rounds to the written number: +0.4 means 0.35 to 0.45."""
    match = _DIGITS.fullmatch(written.strip())
    if match is None or not math.isfinite(value):
        return False
    try:
        claimed = Decimal(written.strip())
        exponent = claimed.as_tuple().exponent
        if not isinstance(exponent, int) or abs(exponent) > 400:
            return False
        half = Decimal(5).scaleb(exponent - 1)
        return abs(Decimal(repr(value)) - claimed) <= half
    except InvalidOperation:
        return False
