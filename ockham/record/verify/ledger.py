"""Verification of the ledger: complete in itself, and the one that later runs name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import filterfalse, islice
from pathlib import Path
from typing import NamedTuple

from ockham.record.ledger import read_entries
from ockham.record.run_folder import RunFolder, list_runs
from ockham.record.segment_reader import read_first_event
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.verify.report import MAX_FINDINGS_PER_CLASS, VerificationReport

_CAUSE = "ledger heads in runs"


class LedgerReference(NamedTuple):
    """Head of the ledger in the first event of a run."""

    run_id: str
    size: int
    root: str


def check_ledger(ledger: RunFolder, report: VerificationReport) -> None:
    """Check that no entry is missing in between, and that the heads in later runs match the ledger.

    Each entry is a log of its own, so deleting the newest entries leaves a shorter, valid ledger. Only a
    later run that names the ledger's head, or a pin, reveals the deletion.
    """
    attempts = {attempt for attempt, _ in ledger.logs()}
    # The name of a folder may be a billion.
    numbers = range(1, max(attempts, default=0))
    for missing in islice(filterfalse(attempts.__contains__, numbers), MAX_FINDINGS_PER_CLASS):
        report.add("gap", f"log/{missing}-0", "is missing, and later ones are there", cause="missing sayings")
    named = list(_named(ledger.runs))
    roots = _roots(ledger.runs, {each.size for each in named})
    count = max(roots)
    for each in named:
        report.count("heads that runs name")
        if each.size > count:
            message = f"run {each.run_id} began when it had {each.size} lines, and {count} are there"
            report.add("tampering", "log", message, cause=_CAUSE)
        elif roots.get(each.size) != each.root:
            message = f"its first {each.size} lines differ from those at the start of run {each.run_id}"
            report.add("tampering", "log", message, cause=_CAUSE)


def _roots(runs: Path, wanted: set[int]) -> dict[int, str]:
    """Return the root of the tree over the ledger's lines at each wanted size, and at the end."""
    frontier, found = CompactRange(), {}
    lines = read_entries(runs)
    for size, line in enumerate(lines, 1):
        frontier.append(leaf_hash(line))
        if size in wanted or size == len(lines):
            found[size] = frontier.root().hex()
    return found or {0: ""}


def _named(runs: Path) -> Iterator[LedgerReference]:
    for run_id in list_runs(runs):
        for segment in RunFolder(runs, run_id).segments(1, 0)[:1]:
            try:
                ledger = read_first_event(segment)["data"]["ledger"]
                yield LedgerReference(run_id, int(ledger["size"]), str(ledger["root"]))
            except (OSError, ValueError, KeyError, TypeError, OverflowError):
                # No ledger at its start, or not an event, which is reported for that run.
                continue
