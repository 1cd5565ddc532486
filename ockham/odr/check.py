"""Check: recompute the claims of a record from the log, and report the differences.

Order: find the logs, compare their roots, find the cited decisions, query each constraint on the pinned logs,
evaluate it, compare with the claimed values, then quotient, verdict and checkboxes. Unverified evidence is
not evaluated.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path

from ockham.errors import RunError, UnverifiableError
from ockham.odr.codes import Severity
from ockham.odr.constraint_evaluation import evaluate_constraints
from ockham.odr.evidence_store import EvidenceStore
from ockham.odr.oq_delta import check_citations, compute_oq_delta
from ockham.odr.pinned_log import PinnedLog
from ockham.odr.query import OpenQueries
from ockham.odr.record import DecisionRecord
from ockham.odr.record_data import EvidenceSide
from ockham.odr.record_rules import active_waivers, delta_digits
from ockham.odr.registration import check_other_registrations, check_registration
from ockham.odr.side_differences import check_differences
from ockham.odr.verdict import (
    NOTHING_TO_CHECK,
    CheckResult,
    OqDelta,
    PinnedPosition,
    Result,
    decide_verdict,
    evaluate_gain,
    rounds_to,
)


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
    with EvidenceStore(runs_folders, asker) as store:
        return check_in_store(record, store, today)


def evidence_order(record: DecisionRecord) -> tuple[str, ...]:
    """Return a sort key that puts records with the same evidence next to each other."""
    return tuple(f"{side.run} {side.attempt} {side.rank} {side.through}" for side in record.claims.sides)


def check_in_store(record: DecisionRecord, store: EvidenceStore, today: dt.date) -> CheckResult:
    """Check one record with the evidence of a store, and add its findings.

    If the evidence is missing or does not verify, nothing else is compared: all differences would have this
    one cause.
    """
    claims = record.claims
    logs, complete = _load_evidence(record, store)
    pins = tuple(
        PinnedPosition(c.side.name, c.side.run, c.side.attempt, c.side.rank, c.size, c.root)
        for c in logs.values()
    )
    if not complete:
        why = "the evidence is missing or does not verify"
        unknown = tuple(Result(constraint, "unknown", reason=why) for constraint in claims.constraints)
        verdict = decide_verdict(unknown, None if claims.oq_delta is None else "unknown")
        return CheckResult(claims.id, verdict, None, unknown, pins, complete=False)
    oq = None
    if claims.candidates:
        check_citations(record, list(logs.values()))
        oq = compute_oq_delta(record, logs, store.read_evaluations)
        results = evaluate_constraints(claims, store.open_queries(list(logs.values())))
        check_differences(record, logs)
    else:
        reason = f"{NOTHING_TO_CHECK}: no evidence"
        results = tuple(Result(one, "unknown", reason=reason, code="ODR507") for one in claims.constraints)
    waivers = active_waivers(record, today)
    for result in results:
        _note(record, result, waivers)
    registration = check_registration(record, list(logs.values()), store.runs_folders)
    check_other_registrations(record, store.read_registrations(record.file.parent))
    oq_state = None if claims.oq_delta is None else evaluate_gain(oq)
    verdict = decide_verdict(results, oq_state, waivers)
    _compare(record, results, oq, verdict)
    failed = [
        one.constraint.id for one in results if one.state == "fail" and one.constraint.severity != "warn"
    ]
    waived = {name: waivers[name] for name in failed if name in waivers}
    delta = None if oq is None else oq.value
    return CheckResult(
        claims.id, verdict, delta, results, pins, registration, oq, waived=waived, oq_state=oq_state
    )


def _load_evidence(
    record: DecisionRecord, store: EvidenceStore
) -> tuple[dict[EvidenceSide, PinnedLog], bool]:
    """Return the pinned logs of the sides, and whether all of them can be evaluated.

    All missing runs are one finding.
    """
    logs: dict[EvidenceSide, PinnedLog] = {}
    missing: list[tuple[EvidenceSide, str]] = []
    sound = True
    for side in record.claims.sides:
        try:
            folder = store.find_folder(side, record.file.parent / "evidence")
            found = store.read_log(side, folder) if folder is not None else None
        except (UnverifiableError, RunError) as error:
            # The evidence of one record hides no other record.
            record.add_finding_at("ODR408", str(error), (*side.path, "run"))
            sound = False
            continue
        if found is None:
            log = f"log {side.attempt}-{side.rank} of run {side.run}"
            missing.append((side, f"run {side.run}" if folder is None else log))
        elif _is_sound(record, side, found):
            logs[side] = found
        else:
            sound = False
    if missing:
        names = ", ".join(name for _, name in missing)
        places = ", ".join(str(place) for place in store.runs_folders)
        verb = "is" if len(missing) == 1 else "are"
        record.add_finding_at("ODR402", f"{names} {verb} not in {places}", (*missing[0][0].path, "run"))
    return logs, sound and not missing


def _is_sound(record: DecisionRecord, side: EvidenceSide, found: PinnedLog) -> bool:
    """Return True if a log has the pinned position and root. Otherwise add a finding."""
    if side.through is not None and side.through >= found.total:
        message = f"through_sequence is {side.through}; the log of {side.run} ends at {found.total - 1}"
        record.add_finding_at("ODR404", message, (*side.path, "through_sequence"))
        return False
    if side.root and side.root != found.root:
        message = f"the log of {side.run} up to {found.size - 1} has root {found.root}, not {side.root}"
        record.add_finding_at("ODR408", message, (*side.path, "root"))
        return False
    if not found.finished:
        record.add_finding_at("ODR406", f"run {side.run} has not finished", (*side.path, "run"))
    return True


def _note(record: DecisionRecord, result: Result, waivers: Mapping[str, str]) -> None:
    constraint = result.constraint
    path = ("constraints", constraint.position)
    # A record with REVERT or INCONCLUSIVE does not claim that its constraints pass. ODR604 compares the
    # verdict.
    if result.code and (not record.claims.has_outcome or record.claims.verdict in {"KEEP", None}):
        waived = constraint.id in waivers
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
    record: DecisionRecord, results: Sequence[Result], oq: OqDelta | None, verdict: str | None
) -> None:
    claims = record.claims
    if claims.oq_delta is not None:
        written = delta_digits(record) or ""
        path: tuple[str | int, ...] = ("outcome", "oq_delta")
        if claims.corrections and record.front is not None:
            # The locked text stays; the newest correction is what the record claims now.
            path = ("corrections", claims.corrections[-1].position, "oq_delta")
            written = record.front.place(path).text
        explained = {"ODR407", "ODR603", "ODR608"} & {finding.code for finding in record.findings}
        if oq is None and not explained:
            message = f"the OQ delta cannot be recomputed (claimed {written})"
            record.add_finding_at("ODR603", message, path)
        elif oq is not None and not rounds_to(written, oq.value):
            message = f"OQ delta: claimed {written}, recomputed {oq.value:+.6g} {oq.place}"
            record.add_finding_at("ODR602", message, path)
    if claims.has_outcome and results and claims.verdict != verdict:
        message = f"verdict: claimed {claims.verdict or 'null'}, recomputed {verdict}"
        record.add_finding_at("ODR604", message, ("outcome", "verdict"))
