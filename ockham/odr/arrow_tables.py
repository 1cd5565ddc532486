"""Decision records as Arrow tables for the views odrs, odr_constraints, odr_evidence and odr_findings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ockham.catalog import ODR_SCHEMAS
from ockham.odr.lint import lint_folder, sorted_findings
from ockham.odr.record import DecisionRecord
from ockham.odr.record_rules import parse_date
from ockham.odr.verdict import CheckResult, PairStatistics

Row = dict[str, Any]


def load_odr_tables(folder: Path, today: dt.date | None = None) -> dict[str, pa.Table]:
    """Return the tables of a folder after lint, without evaluation.

    Empty tables if the folder does not exist.
    """
    return build_odr_tables(lint_folder(folder, today) if folder.is_dir() else [])


def build_odr_tables(
    records: Sequence[DecisionRecord], judged: Mapping[str, CheckResult] | None = None
) -> dict[str, pa.Table]:
    """Return the four tables.

    Args:
        records: Records with their findings.
        judged: Results of `check` by display path. Records without a result have NULL for state, value and
            verdict.

    """
    known = judged or {}
    rows: dict[str, list[Row]] = {
        "odrs": [_record(record, known.get(record.display_path)) for record in records],
        "odr_constraints": [
            row for record in records for row in _constraints(record, known.get(record.display_path))
        ],
        "odr_evidence": [row for record in records for row in _evidence(record)],
        "odr_findings": [f._asdict() for f in sorted_findings(records)],
    }
    return {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in ODR_SCHEMAS.items()}


def _record(record: DecisionRecord, judgement: CheckResult | None) -> Row:
    claims = record.claims
    errors = sum(finding.severity == "error" for finding in record.findings)
    return {
        "odr_id": claims.id or None,
        "title": claims.title,
        "status": claims.status,
        "date": parse_date(claims.date),
        "review_by": parse_date(claims.review_by),
        "owners": list(claims.owners),
        "tags": list(claims.tags),
        "supersedes": list(claims.supersedes),
        "superseded_by": list(claims.superseded_by),
        "claimed_verdict": claims.verdict,
        "claimed_oq_delta": claims.oq_delta,
        "verdict": judgement.verdict if judgement else None,
        "oq_delta": judgement.oq_delta if judgement else None,
        "oq_delta_at": judgement.oq.place if judgement and judgement.oq else None,
        "checked": judgement is not None,
        "errors": errors,
        "warnings": len(record.findings) - errors,
        "path": record.display_path,
        "sha256": record.sha256,
    }


def _constraints(record: DecisionRecord, judgement: CheckResult | None) -> Iterable[Row]:
    results = {result.constraint.position: result for result in judgement.results} if judgement else {}
    for constraint in record.claims.constraints:
        result = results.get(constraint.position)
        yield {
            **constraint._asdict(),
            "odr_id": record.claims.id,
            "constraint_id": constraint.id,
            "claimed_value": constraint.measured,
            "value": result.value if result else None,
            "n": result.n if result else None,
            "state": result.state if result else None,
            "reason": result.reason if result else None,
            **_statistics(result.statistics if result else None),
        }


def _statistics(statistics: PairStatistics | None) -> Row:
    """Return interval and p of several pairs. NULL for one."""
    if statistics is None:
        return {}
    return {
        "n_pairs": statistics.n_pairs,
        "interval_low": statistics.low,
        "interval_high": statistics.high,
        "p_value": statistics.p,
    }


def _evidence(record: DecisionRecord) -> Iterable[Row]:
    for side in record.claims.sides:
        position = int(side.path[2]) if len(side.path) > 2 else 0
        for decision in side.decisions or (None,):
            yield {
                "odr_id": record.claims.id,
                "side": side.name,
                "position": position,
                "run_id": side.run,
                "attempt": side.attempt,
                "rank": side.rank,
                "through_sequence": side.through,
                "root": side.root or None,
                "decision_id": decision,
            }
