"""Verification across the logs of one run: resumes, missing ranks, and verdicts that must be equal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from ockham.record.evidence import LogKey, previous_logs, rank_logs, rank_problems, resume_problems
from ockham.record.verify.log import LogVerifier
from ockham.record.verify.log_summary import LogSummary
from ockham.record.verify.report import MAX_FINDINGS_PER_CLASS, VerificationReport

Checks = Mapping[LogKey, LogVerifier]


def check_cross_log(checks: Checks, report: VerificationReport) -> None:
    """Run all checks that need more than one log."""
    states = {place: check.state() for place, check in checks.items()}
    for place, check in checks.items():
        resumed = previous_logs(check.summary.resumed or {}, place)
        ends = rank_logs({"rank_logs": check.summary.rank_logs}, place)
        for problem in (*resume_problems(place, resumed, states), *rank_problems(place, ends, states)):
            other = checks.get(problem.log)
            cause = other.tamper_cause if other is not None and problem.kind != "unsigned" else ""
            report.add(problem.kind, f"log/{problem.log[0]}-{problem.log[1]}", problem.message, 0, cause)
    _check_restored_states(checks, report)
    for attempt in sorted({attempt for attempt, _ in checks}):
        _check_missing_ranks(attempt, checks, report)
    for attempt, rank in checks:
        first = checks.get((attempt, 0))
        if rank and first is not None:
            _check_same_verdicts(first.summary, checks[attempt, rank], report)


def _check_restored_states(checks: Checks, report: VerificationReport) -> None:
    """Check that each state that a rollback restored was saved, with the same weights."""
    saved = {
        (data["snapshot_id"], data["weights_sha256"])
        for check in checks.values()
        for data, _ in check.summary.checkpoints()
    }
    for (attempt, rank), check in checks.items():
        for sequence, snapshot_id, digest in check.summary.restored:
            if (snapshot_id, digest) not in saved:
                message = f"a rollback restored {snapshot_id!r:.80}, and no event saved it with these weights"
                report.add("contradiction", f"log/{attempt}-{rank}", message, sequence)


def _check_missing_ranks(attempt: int, checks: Checks, report: VerificationReport) -> None:
    """Check that every rank of an attempt has a log.

    Each rank signs an empty log before any rank writes a line. A log without a tree head is therefore missing
    if another rank has signed lines.
    """
    logs = {rank: check for (of, rank), check in checks.items() if of == attempt}
    began = max(
        (int(check.summary.world_size) for check in logs.values() if check.log_report.signed), default=0
    )
    here = {rank for rank, check in logs.items() if check.log_report.key}
    # A hostile number of ranks is not walked through.
    missing = itertools.filterfalse(here.__contains__, range(began))
    for rank in itertools.islice(missing, MAX_FINDINGS_PER_CLASS):
        message = f"is missing: {began} ranks began this attempt"
        report.add("gap", f"log/{attempt}-{rank}", message, cause=f"ranks of attempt {attempt}")


def _check_same_verdicts(first: LogSummary, check: LogVerifier, report: VerificationReport) -> None:
    """Check that each context was left as on rank 0. A rank that ended early has fewer contexts."""
    other = check.summary
    for at, (theirs, ours) in enumerate(zip(first.knob_hashes, other.knob_hashes, strict=False)):
        if theirs != ours:
            iteration = other.iterations[at]
            message = (
                f"the chain left iteration {iteration} otherwise than on rank 0, or not in the same order"
            )
            report.add("contradiction", f"log/{check.attempt}-{check.rank}", message)
            return
