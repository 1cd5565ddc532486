"""Evaluation of the constraints of a record: once per pair of runs, or once over all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ockham.errors import OckhamError, QueryLimitError
from ockham.odr.constraint_sql import analyze_sql
from ockham.odr.evidence_rules import find_outside_runs
from ockham.odr.pair_statistics import combine_pairs
from ockham.odr.query import QueryFunction, QueryValue
from ockham.odr.record_data import Constraint, EvidencePair, RecordData
from ockham.odr.run_conditions import LIST_PARAMETERS
from ockham.odr.verdict import PairValue, Result, evaluate_constraint


def evaluate_constraints(claims: RecordData, ask: QueryFunction) -> tuple[Result, ...]:
    """Return one result per constraint of a record. The query function sees the runs of the evidence."""
    return tuple(evaluate_on_runs(constraint, claims, ask) for constraint in claims.constraints)


def evaluate_on_runs(constraint: Constraint, claims: RecordData, ask: QueryFunction) -> Result:
    """Return the result of one constraint.

    SQL with `$baseline` or `$candidate` is evaluated for each pair, other SQL once. Lint reports SQL that is
    refused, and SQL that names other runs; such SQL is never run.
    """
    if not constraint.sql:
        reason = "its name or a parameter is not accepted" if constraint.name else "it has no SQL"
        return Result(constraint, "unknown", reason=reason)
    statement = analyze_sql(constraint.sql)
    if statement.problems:
        return Result(constraint, "unknown", reason=f"the SQL {statement.problems[0].message}")
    outside = next(find_outside_runs(claims, statement), "")
    if outside:
        return Result(constraint, "unknown", reason=f"the SQL {outside}")
    if not claims.pairs:
        return Result(constraint, "unknown", reason="baselines and candidates form no pairs")
    used = statement.parameters
    if used and not used & LIST_PARAMETERS:
        found = [
            (pair, _evaluate_once(constraint, _select(_pair_values(pair), used), used, ask))
            for pair in _distinct_pairs(claims.pairs, used)
        ]
        if len(found) > 1:
            return combine_pairs(constraint, [_pair_value(pair, one, used) for pair, one in found])
        return found[0][1]
    lists: dict[str, QueryValue] = {"candidates": [side.run for side in claims.candidates]}
    if claims.baselines:
        lists["baselines"] = [side.run for side in claims.baselines]
    return _evaluate_once(constraint, _select(lists, used), used, ask)


def _pair_values(pair: EvidencePair) -> dict[str, QueryValue]:
    values: dict[str, QueryValue] = {"candidate": pair.candidate.run}
    return values if pair.baseline is None else {**values, "baseline": pair.baseline.run}


def _select(values: Mapping[str, QueryValue], used: frozenset[str]) -> dict[str, QueryValue]:
    return {name: value for name, value in values.items() if name in used}


def _distinct_pairs(pairs: Sequence[EvidencePair], used: frozenset[str]) -> list[EvidencePair]:
    """Return the pairs that give the statement different runs."""
    found: dict[tuple[str, ...], EvidencePair] = {}
    for pair in pairs:
        values = _select(_pair_values(pair), used)
        found.setdefault(tuple(str(values[name]) for name in sorted(values)), pair)
    return list(found.values())


def _pair_value(pair: EvidencePair, result: Result, used: frozenset[str]) -> PairValue:
    values = {name: str(value) for name, value in _select(_pair_values(pair), used).items()}
    unknown = result.state == "unknown"
    return PairValue(
        values.get("baseline", ""),
        values.get("candidate", ""),
        result.value,
        result.n,
        result.reason,
        result.code if unknown else "",
    )


def _evaluate_once(
    constraint: Constraint, values: Mapping[str, QueryValue], used: frozenset[str], ask: QueryFunction
) -> Result:
    missing = sorted(used - values.keys())
    if missing:
        return Result(constraint, "unknown", reason=f"${missing[0]} names no run", code="ODR505")
    try:
        rows = ask(constraint.sql, values)
    except QueryLimitError as error:
        return Result(constraint, "unknown", reason=str(error), code="ODR513")
    except OckhamError as error:
        return Result(constraint, "unknown", reason=str(error), code="ODR505")
    return evaluate_constraint(constraint, rows)
