"""Verifying what the logs of one run say of one another: resumes, ranks that are missing, verdicts that should be one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from ockham.record.report import MOST_FINDINGS, Report
from ockham.record.verify_log import LogCheck
from ockham.record.verify_told import Told

Place = tuple[int, int]  # attempt and rank
Checks = Mapping[Place, LogCheck]


def judge_together(checks: Checks, report: Report) -> None:
    """All that needs more than one log."""
    for place in checks:
        _resumed(place, checks, report)
        _missing(place, checks, report)
    for attempt, rank in checks:
        first = checks.get((attempt, 0))
        if rank and first is not None:
            _agree(first.told, checks[attempt, rank], report)


def _resumed(place: Place, checks: Checks, report: Report) -> None:
    """A resume carries size and root of the log before it, and rank 0 those of ranks that are no more."""
    data = checks[place].told.resumed
    if data is None:
        return
    for rank, left in ((place[1], data), *((each["rank"], each) for each in data.get("left_logs", ()))):
        _left(data["from_attempt"], rank, left, place, checks, report)


def _left(
    attempt: int, rank: int, left: Mapping[str, Any], place: Place, checks: Checks, report: Report
) -> None:
    before = checks.get((attempt, rank))
    size = int(left["from_size"])
    if before is None and size == 0:
        return  # a rank that the attempt before did not have
    root = before.tree.root_at(size) if before is not None else None
    if root is None or root.hex() != left["from_root"]:
        said = f"attempt {place[0]} was resumed from {size} events of it with another root"
        cause = before.changed if before is not None else ""
        report.add("tampering", f"log/{attempt}-{rank}", said, 0, cause)
    elif before is not None and checks[place].about.signed:
        before.about.signed = max(before.about.signed, size)  # the new log's signature covers this root


def _missing(place: Place, checks: Checks, report: Report) -> None:
    """Every rank that an attempt began with has a log."""
    if place[1] != min(rank for attempt, rank in checks if attempt == place[0]):
        return
    began = int(checks[place].told.world_size)
    here = {rank for attempt, rank in checks if attempt == place[0]}
    missing = itertools.filterfalse(
        here.__contains__, range(began)
    )  # a hostile number of ranks is not walked through
    for rank in itertools.islice(missing, MOST_FINDINGS):
        said = f"is missing: {began} ranks began this attempt"
        report.add("gap", f"log/{place[0]}-{rank}", said, cause=f"ranks of attempt {place[0]}")


def _agree(first: Told, check: LogCheck, report: Report) -> None:
    """Each context was left as on rank 0; a rank that ended early has fewer of them."""
    other = check.told
    for at, (theirs, ours) in enumerate(zip(first.left, other.left, strict=False)):
        if theirs != ours:
            iteration = other.iterations[at]
            said = f"the chain left iteration {iteration} otherwise than on rank 0, or not in the same order"
            report.add("contradiction", f"log/{check.attempt}-{check.rank}", said)
            return
