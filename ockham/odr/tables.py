"""Records as Arrow tables: what the catalog shows as odrs, odr_constraints, odr_evidence and odr_findings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ockham.catalog import ODR_SCHEMAS
from ockham.odr.lint import findings_of, lint_folder
from ockham.odr.record import Record
from ockham.odr.rules import day_of
from ockham.odr.verdict import Judgement

Row = dict[str, Any]


def tables_of_folder(folder: Path, today: dt.date | None = None) -> dict[str, pa.Table]:
    """The tables of a folder as lint sees it, nothing evaluated; empty tables where there is no folder."""
    return odr_tables(lint_folder(folder, today) if folder.is_dir() else [])


def odr_tables(
    records: Sequence[Record], judged: Mapping[str, Judgement] | None = None
) -> dict[str, pa.Table]:
    """The four tables.

    Args:
        records: as lint (and check) left them, with their findings.
        judged: what check came to, by the path shown; what was not checked has NULL for state, value and verdict.

    """
    known = judged or {}
    rows: dict[str, list[Row]] = {
        "odrs": [_record(record, known.get(record.shown)) for record in records],
        "odr_constraints": [
            row for record in records for row in _constraints(record, known.get(record.shown))
        ],
        "odr_evidence": [row for record in records for row in _evidence(record)],
        "odr_findings": [{**f._asdict(), "fixable": f.fixable} for f in findings_of(records)],
    }
    return {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in ODR_SCHEMAS.items()}


def _record(record: Record, judgement: Judgement | None) -> Row:
    claims = record.claims
    errors = sum(finding.severity == "error" for finding in record.findings)
    return {
        "odr_id": claims.id or None,
        "title": claims.title,
        "status": claims.status,
        "date": day_of(claims.date),
        "review_by": day_of(claims.review_by),
        "owners": list(claims.owners),
        "tags": list(claims.tags),
        "supersedes": list(claims.supersedes),
        "superseded_by": list(claims.superseded_by),
        "claimed_verdict": claims.verdict,
        "claimed_oq_delta": claims.oq_delta,
        "verdict": judgement.verdict if judgement else None,
        "oq_delta": judgement.oq_delta if judgement else None,
        "checked": judgement is not None,
        "errors": errors,
        "warnings": len(record.findings) - errors,
        "path": record.shown,
        "sha256": record.sha256,
    }


def _constraints(record: Record, judgement: Judgement | None) -> Iterable[Row]:
    results = {result.constraint.at: result for result in judgement.results} if judgement else {}
    for constraint in record.claims.constraints:
        result = results.get(constraint.at)
        yield {
            **constraint._asdict(),
            "odr_id": record.claims.id,
            "constraint_id": constraint.id,
            "claimed_value": constraint.measured,
            "value": result.value if result else None,
            "n": result.n if result else None,
            "state": result.state if result else None,
            "reason": result.reason if result else None,
        }


def _evidence(record: Record) -> Iterable[Row]:
    for side in record.claims.sides:
        for decision in side.decisions or (None,):
            yield {
                "odr_id": record.claims.id,
                "side": side.name,
                "run_id": side.run,
                "attempt": side.attempt,
                "rank": side.rank,
                "through_sequence": side.through,
                "root": side.root or None,
                "decision_id": decision,
            }
