"""Evaluation of a measured value against a claim. Unknown is never a pass, and no data is unknown.

In DuckDB `NaN > 0.02` is true and an aggregate over no rows is NULL. The query therefore returns `value` and
`n`, and the comparison is made here after both were checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

from ockham.odr.record_data import Constraint

State = Literal["pass", "fail", "unknown"]
NOTHING_TO_CHECK = "nothing to check"


class Result(NamedTuple):
    """Result of one constraint. `code` names why it is unknown or failed."""

    constraint: Constraint
    state: State
    value: float | None = None
    n: int | None = None
    reason: str = ""
    code: str = ""

    def sentence(self) -> str:
        """Return `C1 pass: 7 ms (n=250), claimed < 10 ms`."""
        constraint = self.constraint
        if self.state == "unknown":
            return f"{constraint.id} unknown: {self.reason}"
        measured = f"{self.value:.6g}{_unit(constraint)} (n={self.n})"
        return f"{constraint.id} {self.state}: {measured}, claimed {constraint.claim}"


class PinnedPosition(NamedTuple):
    """Evaluated position of a log: the tree over its first `size` lines has this root."""

    side: str
    run: str
    attempt: int
    rank: int
    size: int
    root: str


class Registration(NamedTuple):
    """A registration before the candidate: line `position` of the `size` lines of the ledger then."""

    event_id: str
    time: str
    position: int
    size: int


class CheckResult(NamedTuple):
    """Check result of one record."""

    odr_id: str
    verdict: str | None
    oq_delta: float | None
    results: tuple[Result, ...]
    pins: tuple[PinnedPosition, ...]
    registration: Registration | None = None


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
    holds = _HOLDS[constraint.op](value, constraint.threshold, constraint.tolerance)
    return Result(constraint, "pass" if holds else "fail", value, n, "", "" if holds else "ODR510")


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


def decide_verdict(results: Sequence[Result], oq_delta: float | None, *, oq_claimed: bool) -> str | None:
    """Return KEEP, REVERT or INCONCLUSIVE. None if there was nothing to evaluate.

    Args:
        results: One result per constraint. Those of severity `warn` have no effect.
        oq_delta: Recomputed relative gain. None if it cannot be computed.
        oq_claimed: True if the record claims one.

    """
    decisive = [result for result in results if result.constraint.severity != "warn"]
    if not decisive:
        return None if not results and not oq_claimed else "INCONCLUSIVE"
    if any(result.state == "unknown" for result in decisive) or (oq_claimed and oq_delta is None):
        return "INCONCLUSIVE"
    kept = all(result.state == "pass" for result in decisive) and (not oq_claimed or (oq_delta or 0.0) > 0)
    return "KEEP" if kept else "REVERT"


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
