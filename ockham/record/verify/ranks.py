"""Verification across the logs of one run: resumes, missing ranks, and verdicts that must be equal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from ockham.record.verify.log import LogVerifier
from ockham.record.verify.log_summary import LogSummary
from ockham.record.verify.report import MAX_FINDINGS_PER_CLASS, VerificationReport

# Attempt and rank.
LogKey = tuple[int, int]
Checks = Mapping[LogKey, LogVerifier]


def check_cross_log(checks: Checks, report: VerificationReport) -> None:
    """Run all checks that need more than one log."""
    for place in checks:
        _check_resume(place, checks, report)
        _check_rank_logs(place, checks, report)
    for attempt in sorted({attempt for attempt, _ in checks}):
        _check_missing_ranks(attempt, checks, report)
    for attempt, rank in checks:
        first = checks.get((attempt, 0))
        if rank and first is not None:
            _check_same_verdicts(first.summary, checks[attempt, rank], report)


def _check_resume(place: LogKey, checks: Checks, report: VerificationReport) -> None:
    """Check size and root of the previous log in a resume.

    Rank 0 also names those of ranks that no longer exist.
    """
    data = checks[place].summary.resumed
    if data is None:
        return
    for rank, left in ((place[1], data), *((each["rank"], each) for each in data.get("left_logs", ()))):
        _check_previous_log(data["from_attempt"], rank, left, place, checks, report)


def _check_previous_log(
    attempt: int,
    rank: int,
    left: Mapping[str, Any],
    place: LogKey,
    checks: Checks,
    report: VerificationReport,
) -> None:
    before = checks.get((attempt, rank))
    size = int(left["from_size"])
    if before is None and size == 0:
        # A rank that the attempt before did not have.
        return
    root = before.tree.root_at(size) if before is not None else None
    if root is None or root.hex() != left["from_root"]:
        message = f"attempt {place[0]} was resumed from {size} events of it with another root"
        cause = before.tamper_cause if before is not None else ""
        report.add("tampering", f"log/{attempt}-{rank}", message, 0, cause)
    elif before is not None and before.log_report.signed < size:
        message = (
            f"attempt {place[0]} was resumed from {size} events of it, and {before.log_report.signed} "
            "are signed: tree heads were removed"
        )
        report.add("unsigned", f"log/{attempt}-{rank}", message)


def _check_rank_logs(place: LogKey, checks: Checks, report: VerificationReport) -> None:
    """Check the log of each rank that `run.finished` names with its size and root."""
    for named in checks[place].summary.rank_logs:
        rank, size = int(named["rank"]), int(named["size"])
        other = checks.get((place[0], rank))
        root = other.tree.root_at(size) if other is not None else None
        if other is None or root is None or root.hex() != named["root"]:
            there = 0 if other is None else other.tree.size
            message = (
                f"when rank {place[1]} finished, this log had {size} events of a named root; "
                f"now it has {there}, and they differ"
            )
            cause = other.tamper_cause if other is not None else ""
            report.add("contradiction", f"log/{place[0]}-{rank}", message, cause=cause)


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
