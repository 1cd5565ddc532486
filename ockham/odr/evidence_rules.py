"""Rules about the runs of a record that need no log: pairs, repeated runs, and runs that the SQL names."""

from __future__ import annotations

from collections.abc import Iterator

from ockham.errors import suggest_name
from ockham.odr.constraint_sql import Statement, analyze_sql
from ockham.odr.record import DecisionRecord
from ockham.odr.record_data import RecordData
from ockham.odr.run_conditions import LIST_PARAMETERS, PAIR_PARAMETERS


def check_evidence_runs(record: DecisionRecord) -> None:
    """Add the findings about pairs of runs, and about SQL that reads other runs than those of a pair."""
    _pairs(record)
    for constraint in record.claims.constraints:
        statement = analyze_sql(constraint.sql) if constraint.sql else None
        if statement is None or statement.problems:
            continue
        path = ("constraints", constraint.position, "sql")
        for message in find_outside_runs(record.claims, statement):
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


def find_outside_runs(claims: RecordData, statement: Statement) -> Iterator[str]:
    """Yield a message for each way in which a statement can read runs that it does not measure."""
    known = [side.run for side in claims.sides]
    several = len(claims.candidates) > 1
    for name in statement.runs:
        if name not in known:
            hint = suggest_name(name, known)
            yield f"compares run_id with {name!r:.70}, which is not in the evidence{hint}"
        elif several:
            yield (
                f"compares run_id with {name!r:.70}, one run of {len(claims.candidates)} pairs; "
                "write $candidate or $baseline"
            )
    if statement.unrestricted.views and set(statement.runs) <= set(known):
        views = ", ".join(statement.unrestricted.views)
        yield (
            f"reads all runs together in {views}; "
            "restrict each view, joined by AND, with run_id = $candidate or run_id IN $candidates"
        )
    elif statement.unrestricted.counts_all and not _measures_all_runs(claims, statement):
        yield "counts the rows of all runs in n; write count(*) FILTER (WHERE run_id = $candidate) AS n"


def _measures_all_runs(claims: RecordData, statement: Statement) -> bool:
    """Return True if the parameters of a statement name all runs of the evidence."""
    one_pair = len(claims.candidates) <= 1
    return statement.parameters >= (PAIR_PARAMETERS if one_pair else LIST_PARAMETERS)
