"""Rules about the runs of a record that need no log: pairs, repeated runs, and runs that the SQL names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ockham.errors import suggest_name
from ockham.odr.constraint_sql import PARAMETERS, Statement, analyze_sql
from ockham.odr.record import DecisionRecord
from ockham.odr.record_data import EvidenceSide


def check_evidence_runs(record: DecisionRecord) -> None:
    """Add the findings about pairs of runs, and about SQL that reads other runs than those of a pair."""
    _pairs(record)
    for constraint in record.claims.constraints:
        statement = analyze_sql(constraint.sql) if constraint.sql else None
        if statement is None or statement.problems:
            continue
        path = ("constraints", constraint.position, "sql")
        for message in find_outside_runs(record.claims.sides, statement):
            record.add_finding_at("ODR517", f"{constraint.id} {message}", path, constraint.id)


def _pairs(record: DecisionRecord) -> None:
    claims = record.claims
    if len(claims.baselines) > 1 and len(claims.baselines) != len(claims.candidates):
        message = (
            f"{len(claims.baselines)} baselines and {len(claims.candidates)} candidates form no pairs; "
            "name one baseline for all candidates, or one for each"
        )
        record.add_finding_at("ODR414", message, ("evidence", "baselines"))
    seen: dict[str, str] = {}
    for side in claims.sides:
        if side.run in seen:
            message = f"evidence.{side.label} is the run {side.run}, as evidence.{seen[side.run]} is"
            record.add_finding_at("ODR414", message, (*side.path, "run"))
        seen.setdefault(side.run, side.label)


def find_outside_runs(sides: Sequence[EvidenceSide], statement: Statement) -> Iterator[str]:
    """Yield a message for each run of a statement that is not in the evidence, or if it names no run."""
    known = [side.run for side in sides]
    for name in statement.runs:
        if name not in known:
            hint = suggest_name(name, known)
            yield f"compares run_id with {name!r:.70}, which is not in the evidence{hint}"
    if not statement.runs and not statement.parameters & PARAMETERS:
        yield "reads all runs together; compare run_id with $candidate, or with the list $candidates"
