"""Check: recompute the claims of a record from the log, and report the differences.

Order: find the logs, compare their roots, find the cited decisions, query each constraint on the pinned logs,
evaluate it, compare with the claimed values, then quotient, verdict and checkboxes. Unverified evidence is
not evaluated.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ockham.errors import OckhamError, QueryLimitError, RunError, UnverifiableError
from ockham.odr.codes import Severity
from ockham.odr.constraint_sql import analyze_sql
from ockham.odr.evidence_pack import unpack_log
from ockham.odr.oq_delta import compute_oq_delta
from ockham.odr.pinned_log import PinnedLog, build_parquet, build_runs_folder, find_run, read_pinned_log
from ockham.odr.query import OpenQueries, QueryFunction
from ockham.odr.record import DecisionRecord
from ockham.odr.record_data import Constraint
from ockham.odr.record_rules import delta_digits, parse_date
from ockham.odr.registration import check_registration
from ockham.odr.verdict import (
    NOTHING_TO_CHECK,
    CheckResult,
    PinnedPosition,
    Result,
    decide_verdict,
    evaluate_constraint,
    rounds_to,
)

# events; more would keep the process that answers from starting in time.
PARQUET_MIN_EVENTS = 50_000


def check(
    record: DecisionRecord, runs_folders: Sequence[Path], asker: OpenQueries, today: dt.date
) -> CheckResult:
    """Check one record and add its findings.

    Args:
        record: Record after lint.
        runs_folders: Folders of runs. The first one that contains a run is used, after the packed evidence of
            the record.
        asker: Opens a runs folder for queries. Tests replace it.
        today: Date for waivers.

    """
    with tempfile.TemporaryDirectory(prefix="ockham-odr-") as temporary:
        return _check(record, runs_folders, asker, today, Path(temporary))


def _check(
    record: DecisionRecord, runs_folders: Sequence[Path], asker: OpenQueries, today: dt.date, temporary: Path
) -> CheckResult:
    claims = record.claims
    cuts, sound = _load_evidence(record, runs_folders, temporary / "unpacked")
    results: tuple[Result, ...]
    delta = None
    if not claims.candidates or not sound:
        changed = any(finding.code == "ODR408" for finding in record.findings)
        why = "the evidence does not verify" if changed else f"{NOTHING_TO_CHECK}: no evidence"
        results = tuple(
            Result(constraint, "unknown", reason=why, code="ODR507") for constraint in claims.constraints
        )
    else:
        build_runs_folder(cuts, temporary / "runs")
        if sum(one.size for one in cuts) > PARQUET_MIN_EVENTS:
            build_parquet(temporary / "runs")
        parameters = {one.side.name: one.side.run for one in cuts}
        with asker(temporary / "runs") as ask:
            results = tuple(
                _evaluate_constraint(constraint, ask, parameters) for constraint in claims.constraints
            )
        delta = compute_oq_delta(record, cuts)
    for result in results:
        _note(record, result, today)
    registration = check_registration(record, cuts, runs_folders)
    verdict = decide_verdict(results, delta, oq_claimed=claims.oq_delta is not None)
    _compare(record, results, delta, verdict)
    pins = tuple(
        PinnedPosition(c.side.name, c.side.run, c.side.attempt, c.side.rank, c.size, c.root) for c in cuts
    )
    return CheckResult(claims.id, verdict, delta, results, pins, registration)


def _load_evidence(
    record: DecisionRecord, runs_folders: Sequence[Path], unpacked: Path
) -> tuple[list[PinnedLog], bool]:
    """Return the pinned logs of the sides, and whether all of them can be evaluated."""
    cuts, sound = [], True
    for side in record.claims.sides:
        path = side.path
        try:
            packs = record.file.parent / "evidence"
            folder = unpack_log(packs, side, unpacked / side.label) or find_run(side.run, runs_folders)
            found = read_pinned_log(side, folder) if folder is not None else None
        except (UnverifiableError, RunError) as error:
            # The evidence of one record hides no other record.
            record.add_finding_at("ODR408", str(error), (*path, "run"))
            sound = False
            continue
        if found is None:
            what = (
                f"run {side.run}" if folder is None else f"log {side.attempt}-{side.rank} of run {side.run}"
            )
            record.add_finding_at(
                "ODR402",
                f"{what} is not in {', '.join(str(place) for place in runs_folders)}",
                (*path, "run"),
            )
            sound = False
        elif side.through is not None and side.through >= found.total:
            message = f"through_sequence is {side.through}; the log of {side.run} ends at {found.total - 1}"
            record.add_finding_at("ODR404", message, (*path, "through_sequence"))
            sound = False
        elif side.root and side.root != found.root:
            message = f"the log of {side.run} up to {found.size - 1} has root {found.root}, not {side.root}"
            record.add_finding_at("ODR408", message, (*path, "root"))
            sound = False
        else:
            cuts.append(found)
            if not found.finished:
                record.add_finding_at("ODR406", f"run {side.run} has not finished", (*path, "run"))
    return cuts, sound


def _evaluate_constraint(constraint: Constraint, ask: QueryFunction, parameters: Mapping[str, str]) -> Result:
    statement = analyze_sql(constraint.sql)
    # Lint reports it; such SQL is never run.
    if statement.problems or not constraint.sql:
        fault = statement.problems[0] if statement.problems else None
        return Result(constraint, "unknown", reason=f"the SQL {fault.message}" if fault else "no SQL")
    missing = sorted(statement.parameters - parameters.keys())
    if missing:
        return Result(constraint, "unknown", reason=f"${missing[0]} names no run", code="ODR505")
    try:
        rows = ask(constraint.sql, {name: parameters[name] for name in statement.parameters})
    except QueryLimitError as error:
        return Result(constraint, "unknown", reason=str(error), code="ODR513")
    except OckhamError as error:
        return Result(constraint, "unknown", reason=str(error), code="ODR505")
    return evaluate_constraint(constraint, rows)


def _note(record: DecisionRecord, result: Result, today: dt.date) -> None:
    constraint = result.constraint
    path = ("constraints", constraint.position)
    # A record with REVERT or INCONCLUSIVE does not claim that its constraints pass. ODR604 compares the
    # verdict.
    if result.code and (not record.claims.has_outcome or record.claims.verdict in {"KEEP", None}):
        waived = any(
            waiver.constraint == constraint.id
            and (until := parse_date(waiver.until)) is not None
            and until >= today
            for waiver in record.claims.waivers
        )
        weight: Severity | None = "warning" if waived or constraint.severity == "warn" else None
        message = result.sentence() + (" (waived)" if waived else "")
        record.add_finding_at(result.code, message, (*path, "sql"), constraint.id, weight)
    if constraint.measured is not None and record.front is not None:
        written = record.front.place((*path, "measured")).text
        if result.value is not None and not rounds_to(written, result.value):
            message = f"{constraint.id}: claimed {written}, recomputed {result.value:.6g}"
            record.add_finding_at("ODR606", message, (*path, "measured"), constraint.id)
    box = (
        next((b for b in record.body.boxes if b.constraint_id == constraint.id), None)
        if record.body
        else None
    )
    if box is not None and box.ticked != (result.state == "pass"):
        state = "ticked" if box.ticked else "not ticked"
        record.add_finding(
            "ODR511",
            f"{constraint.id} is {state}, but came out as {result.state}",
            box.line,
            1,
            constraint.id,
        )


def _compare(
    record: DecisionRecord, results: Sequence[Result], delta: float | None, verdict: str | None
) -> None:
    claims = record.claims
    if claims.oq_delta is not None:
        written = delta_digits(record) or ""
        explained = any(finding.code == "ODR603" for finding in record.findings)
        if delta is None and not explained:
            message = f"the OQ delta cannot be recomputed (claimed {written})"
            record.add_finding_at("ODR603", message, ("outcome", "oq_delta"))
        elif delta is not None and not rounds_to(written, delta):
            message = f"OQ delta: claimed {written}, recomputed {delta:+.6g}"
            record.add_finding_at("ODR602", message, ("outcome", "oq_delta"))
    if claims.has_outcome and results and claims.verdict != verdict:
        message = f"verdict: claimed {claims.verdict or 'null'}, recomputed {verdict}"
        record.add_finding_at("ODR604", message, ("outcome", "verdict"))
