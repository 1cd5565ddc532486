"""Decision records as Arrow tables for the views odrs, odr_constraints, odr_evidence and odr_findings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ockham.catalog import ODR_SCHEMAS
from ockham.odr.ledger_results import KnownResult, find_attested, from_check, load_ledger
from ockham.odr.lint import lint_folder, sorted_findings
from ockham.odr.record import DecisionRecord
from ockham.odr.record_rules import parse_date
from ockham.odr.verdict import CheckResult

Row = dict[str, Any]


def load_odr_tables(
    folder: Path, today: dt.date | None = None, runs: Path | None = None
) -> dict[str, pa.Table]:
    """Return the tables of a folder after lint, with attested results and without evaluation.

    Args:
        folder: Folder of records. Empty tables if it does not exist.
        today: Date for lint. None is the present day.
        runs: Folder of runs, whose ledger contains the results of `ockham odr check --attest`.

    """
    return build_odr_tables(lint_folder(folder, today) if folder.is_dir() else [], ledger=load_ledger(runs))


def build_odr_tables(
    records: Sequence[DecisionRecord],
    judged: Mapping[str, CheckResult] | None = None,
    ledger: Sequence[Row] = (),
) -> dict[str, pa.Table]:
    """Return the five tables.

    Args:
        records: Records with their findings.
        judged: Results of `check` by display path.
        ledger: Events of the ledger, see `load_ledger`. A record that is not in *judged* has its newest
            attested result, if its file did not change since. Otherwise state, value and verdict are NULL.

    """
    known = {path: from_check(result) for path, result in (judged or {}).items()}
    for record in records:
        if record.display_path not in known:
            attested = find_attested(ledger, record.claims.id, record.sha256)
            known |= {record.display_path: attested} if attested is not None else {}
    rows: dict[str, list[Row]] = {
        "odrs": [_record(record, known.get(record.display_path)) for record in records],
        "odr_constraints": [
            row for record in records for row in _constraints(record, known.get(record.display_path))
        ],
        "odr_evidence": [row for record in records for row in _evidence(record)],
        "ledger_events": list(ledger),
        "odr_findings": [f._asdict() for f in sorted_findings(records)],
    }
    return {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in ODR_SCHEMAS.items()}


def _record(record: DecisionRecord, judgement: KnownResult | None) -> Row:
    claims = record.claims
    ends = [end for waiver in claims.waivers if (end := parse_date(waiver.until)) is not None]
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
        "oq_delta_at": judgement.oq_delta_at if judgement else None,
        "checked": judgement is not None,
        "attestation_id": judgement.attestation_id if judgement else None,
        "waivers": len(claims.waivers),
        "waived_until": min(ends, default=None),
        "errors": errors,
        "warnings": len(record.findings) - errors,
        "path": record.display_path,
        "sha256": record.sha256,
    }


def _constraints(record: DecisionRecord, judgement: KnownResult | None) -> Iterable[Row]:
    results = judgement.constraints if judgement else {}
    for constraint in record.claims.constraints:
        result = results.get(constraint.id, {})
        yield {
            **constraint._asdict(),
            "odr_id": record.claims.id,
            "constraint_id": constraint.id,
            "claimed_value": constraint.measured,
            **{field: result.get(field) for field in ("value", "n", "state", "reason")},
            **_statistics(result.get("statistics") or {}),
        }


def _statistics(statistics: Mapping[str, Any]) -> Row:
    """Return interval and p of several pairs. NULL for one."""
    return {
        "n_pairs": statistics.get("n_pairs"),
        "interval_low": statistics.get("low"),
        "interval_high": statistics.get("high"),
        "p_value": statistics.get("p"),
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
